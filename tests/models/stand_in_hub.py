"""A stand-in for the Hugging Face hub and ModelScope on this machine: the parts of their protocols that are used.

Faults can be set per path: a status to answer with, a connection to cut, bytes to change.
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit


@dataclass
class StandIn:
    """The server's content and faults, and what it was asked."""

    files: dict[str, bytes]
    url: str = ""
    statuses: list[int] = field(default_factory=list)  # answered first, one each
    refused: dict[str, int] = field(default_factory=dict)  # files that are listed but not given, with the status
    retry_after: str = ""
    cut_after: list[int] = field(default_factory=list)  # each download: bytes until the connection is cut
    damaged: bool = False
    ranges: bool = True
    commit: str = "c0ffee"
    asked: list[tuple[str, str, str]] = field(default_factory=list)  # path, Range, Authorization


def _answer(hub: StandIn, path: str, query: dict[str, list[str]]) -> Any:
    sha256 = {name: hashlib.sha256(data).hexdigest() for name, data in hub.files.items()}
    if path.startswith("/api/models/org/model/revision/"):
        siblings = []
        for name, data in hub.files.items():
            entry: dict[str, Any] = {"rfilename": name, "size": len(data)}
            if name.endswith(".safetensors"):
                entry["lfs"] = {"sha256": sha256[name], "size": len(data)}
            else:
                entry["blobId"] = hashlib.sha1(f"blob {len(data)}\0".encode() + data).hexdigest()
            siblings.append(entry)
        return {"sha": hub.commit, "cardData": {"license": "mit"}, "siblings": siblings}
    if path == "/api/v1/models/org/model/repo/files":
        listed = [{"Path": n, "Size": len(d), "Sha256": sha256[n], "Type": "blob"} for n, d in hub.files.items()]
        return {"Code": 200, "Data": {"Files": [*listed, {"Path": "sub", "Type": "tree"}]}}
    if path == "/api/v1/models/org/model":
        return {"Code": 200, "Data": {"License": "apache-2.0"}}
    if path == "/api/v1/models/org/model/repo":
        return hub.files.get(query["FilePath"][0])
    return hub.files.get(path.removeprefix(f"/org/model/resolve/{hub.commit}/"))


@contextmanager
def stand_in(files: dict[str, bytes]) -> Iterator[StandIn]:
    """Serve ``files`` as the model ``org/model`` while the block lasts."""
    hub = StandIn(dict(files))

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            parts = urlsplit(self.path)
            path = unquote(parts.path)
            wanted = self.headers.get("Range", "")
            hub.asked.append((path, wanted, self.headers.get("Authorization", "")))
            refused = next((status for name, status in hub.refused.items() if name in self.path), None)
            if hub.statuses or refused:
                self.send_response(hub.statuses.pop(0) if hub.statuses else refused)
                if hub.retry_after:
                    self.send_header("Retry-After", hub.retry_after)
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            found = _answer(hub, path, parse_qs(parts.query))
            if found is None:
                self.send_error(404)
                return
            if not isinstance(found, bytes):
                self._send(json.dumps(found).encode(), 200)
                return
            if hub.damaged:
                found = found[:-1] + bytes([found[-1] ^ 1])
            start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted and hub.ranges else 0
            self._send(found[start:], 206 if start else 200, hub.cut_after.pop(0) if hub.cut_after else None)

        def _send(self, data: bytes, status: int, cut: int | None = None) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data if cut is None else data[:cut])
            if cut is not None:
                self.wfile.flush()
                self.connection.close()

        def log_message(self, *_: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.handle_error = lambda *_: None  # type: ignore[method-assign]
    hub.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
