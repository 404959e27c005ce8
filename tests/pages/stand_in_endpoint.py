"""A small server of this machine that speaks OpenAI's chat protocol, for arms of Chat that are endpoints."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class StandIn:
    """What it was asked (``bodies``, ``keys``), and how it answers: ``say`` makes the answer, a piece each ``pause`` seconds."""

    say: Callable[[str], str] = lambda text: json.dumps({"person": [text[:2]]}, ensure_ascii=False)
    pause: float = 0.0
    key: str = ""
    url: str = ""
    bodies: list[dict[str, Any]] = field(default_factory=list)
    keys: list[str] = field(default_factory=list)
    broken_off: int = 0


@contextmanager
def endpoint(**how: Any) -> Iterator[StandIn]:
    """Run one on a free port; with ``key`` it wants that key."""
    stand = StandIn(**how)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            stand.bodies.append(body)
            stand.keys.append(self.headers.get("Authorization", ""))
            if stand.key and stand.keys[-1] != f"Bearer {stand.key}":
                self._whole(401, {"error": {"message": f"wrong key {stand.keys[-1]}"}})
                return
            said = stand.say(body["messages"][-1]["content"])
            usage = {"prompt_tokens": 11, "completion_tokens": len(said)}
            if not body.get("stream"):
                self._whole(200, {"choices": [{"message": {"content": said}, "finish_reason": "stop"}], "usage": usage})
                return
            self.send_response(200)
            self.send_header("Content-Type", "text/event-stream")
            self.end_headers()
            try:
                for start in range(0, len(said), 4):
                    self._event({"choices": [{"delta": {"content": said[start : start + 4]}}]})
                    time.sleep(stand.pause)
                self._event({"choices": [{"delta": {}, "finish_reason": "stop"}], "usage": usage})
                self.wfile.write(b"data: [DONE]\n\n")
            except OSError:
                stand.broken_off += 1

        def _whole(self, status: int, value: dict[str, Any]) -> None:
            content = json.dumps(value).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def _event(self, value: dict[str, Any]) -> None:
            self.wfile.write(f"data: {json.dumps(value)}\n\n".encode())
            self.wfile.flush()

        def log_message(self, *_: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    stand.url = f"http://127.0.0.1:{server.server_port}/v1"
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    try:
        yield stand
    finally:
        server.shutdown()
        server.server_close()
