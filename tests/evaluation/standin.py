"""A stand-in for a server that speaks the OpenAI chat protocol: answers by a function, fails as it is told, and remembers."""

from __future__ import annotations

import http.server
import json
import threading
from collections.abc import Callable
from typing import Any

Fault = tuple[int, dict[str, str], dict[str, Any]]
"""Status, headers and body of a refusal."""


class StandIn:
    """``answer(messages)`` is the reply, streamed;

    ``faults`` are given out first, one a request; ``refuse(body)`` may name one; the next ``cuts`` answers break off.
    """

    def __init__(self) -> None:
        self.answer: Callable[[list[dict[str, str]]], str] = lambda messages: messages[-1]["content"]
        self.faults: list[Fault] = []
        self.refuse: Callable[[dict[str, Any]], Fault | None] = lambda body: None
        self.seconds = 0.0
        self.usage = True
        self.cuts = 0
        self.bodies: list[dict[str, Any]] = []
        self.keys: list[str | None] = []
        self.most_at_once = 0
        self.now = 0
        self._lock = threading.Lock()
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                outer.take(self)

            def log_message(self, *args: Any) -> None: ...

        class Server(http.server.ThreadingHTTPServer):
            daemon_threads = True
            request_queue_size = 128

        self._server = Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/v1"

    def __enter__(self) -> StandIn:
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def take(self, handler: http.server.BaseHTTPRequestHandler) -> None:
        body = json.loads(handler.rfile.read(int(handler.headers["Content-Length"])))
        with self._lock:
            self.now += 1
            self.most_at_once = max(self.most_at_once, self.now)
            self.keys.append(handler.headers.get("Authorization"))
            self.bodies.append(body)
            found = self.faults.pop(0) if self.faults else self.refuse(body)
        threading.Event().wait(self.seconds)  # not time.sleep, which tests of pauses replace
        with self._lock:
            self.now -= 1
        if found:
            status, headers, content = found
            raw, kind = json.dumps(content).encode(), "application/json"
        else:
            status, headers, raw, kind = 200, {}, self._stream(body), "text/event-stream"
        handler.send_response(status)
        for name, value in {**headers, "Content-Type": kind, "Content-Length": str(len(raw))}.items():
            handler.send_header(name, value)
        handler.end_headers()
        handler.wfile.write(raw[: len(raw) // 2] if self.cut_next() else raw)

    def cut_next(self) -> bool:
        """Whether this answer is to break off in the middle."""
        with self._lock:
            self.cuts -= 1
            return self.cuts >= 0

    def _stream(self, body: dict[str, Any]) -> bytes:
        text = self.answer(body["messages"])
        events: list[dict[str, Any]] = [{"choices": [{"delta": {"content": part}}]} for part in (text[:3], text[3:])]
        events.append({"choices": [{"delta": {}, "finish_reason": "stop"}]})
        if self.usage:
            prompt = sum(len(m["content"]) for m in body["messages"])
            events.append({"choices": [], "usage": {"prompt_tokens": prompt, "completion_tokens": len(text)}})
        return "".join(f"data: {line}\n\n" for line in [*map(json.dumps, events), "[DONE]"]).encode()


def fault(status: int, said: str = "", **headers: str) -> Fault:
    """A refusal with OpenAI's body."""
    return status, {name.replace("_", "-"): value for name, value in headers.items()}, {"error": {"message": said}}
