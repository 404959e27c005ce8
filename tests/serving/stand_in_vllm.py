"""A stand-in for vLLM's server: the same command line and protocol, but it "answers" with the prompt's own tokens.

Takes its key from VLLM_API_KEY, is as strict about arguments as vLLM, and writes what it saw to STAND_IN_LOG.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

parser = argparse.ArgumentParser(allow_abbrev=False)
for name in ("--model", "--served-model-name", "--host", "--dtype", "--generation-config", "--quantization"):
    parser.add_argument(name)
parser.add_argument("--port", type=int)
parser.add_argument("--max-loras", type=int)
parser.add_argument("--max-lora-rank", type=int, choices=[1, 8, 16, 32, 64, 128, 256, 320, 512])
parser.add_argument("--enable-lora", action="store_true")
parser.add_argument("--lora-modules", nargs="+", default=[])


def note(**values: Any) -> None:
    with Path(os.environ["STAND_IN_LOG"]).open("a") as log:
        log.write(json.dumps(values) + "\n")


class Handler(BaseHTTPRequestHandler):
    """Answers like vLLM."""

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        names = [options.served_model_name, *(part.partition("=")[0] for part in options.lora_modules)]
        self.whole({"data": [{"id": name, "max_model_len": 512} for name in names]})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        note(**body, path=self.path, key=self.headers["Authorization"] == f"Bearer {os.environ['VLLM_API_KEY']}")
        if body["temperature"] > 1.9:
            self.whole({"error": {"message": "no such thing"}}, 400)
            return
        self.send_response(200)
        self.end_headers()
        made = 0
        try:
            for token in body["prompt"][: body["max_tokens"]]:
                made += 1
                self.event({"choices": [{"index": 0, "text": f"{token} ", "token_ids": [token], "finish_reason": None}]})
                time.sleep(body["top_p"] if body["top_p"] < 0.1 else 0)
            self.event({"choices": [{"index": 0, "text": "", "token_ids": [], "finish_reason": "length"}]})
            self.event({"choices": [], "usage": {"prompt_tokens": len(body["prompt"]), "completion_tokens": made}})
            self.wfile.write(b"data: [DONE]\n\n")
        except OSError:
            note(left_after=made)

    def event(self, value: dict[str, Any]) -> None:
        self.wfile.write(f"data: {json.dumps(value)}\n\n".encode())

    def whole(self, value: dict[str, Any], status: int = 200) -> None:
        data = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


if __name__ == "__main__":
    options = parser.parse_args()
    note(options=vars(options))
    if options.model.endswith("broken"):
        raise SystemExit(1)
    ThreadingHTTPServer((options.host, options.port), Handler).serve_forever()
