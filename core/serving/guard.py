"""What every request passes first: the key, the size of its body, and a line in the log.

Works on bare ASGI, before anything reads the body. The key is compared in constant time and never logged; neither is
anything of a request but its method, path and status.
"""

from __future__ import annotations

import hmac
import json
import logging
import time
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from core.serving.faults import RequestError

OPEN_PATHS = frozenset({"/health"})
log = logging.getLogger("tunewise.serving")


class Guard:
    """Answers 401 without the key and 413 for a body over ``most_bytes``; everything else goes through to ``app``."""

    def __init__(self, app: ASGIApp, key: str, most_bytes: int) -> None:
        self._app, self._key, self._most = app, key.encode(), most_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self._app(scope, receive, send)
            return
        started, status = time.monotonic(), 0

        async def noted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = int(message["status"])
            await send(message)

        try:
            fault = self._fault(scope)
            if fault is not None:
                await answer_fault(fault, noted)
            else:
                await self._app(scope, _Counted(receive, self._most), noted)
        finally:
            quiet = scope["path"] in OPEN_PATHS and status == 200
            text = f"{scope['method']} {scope['path']!r} {status or 'left'} {time.monotonic() - started:.3f} s"
            log.log(logging.DEBUG if quiet else logging.INFO, text)

    def _fault(self, scope: Scope) -> RequestError | None:
        headers = {name.lower(): value for name, value in scope["headers"]}
        if scope["path"] not in OPEN_PATHS:
            scheme, _, given = headers.get(b"authorization", b"").partition(b" ")
            if scheme.lower() != b"bearer" or not hmac.compare_digest(given.strip(), self._key):
                missing = not given.strip()
                text = "No key was given: send `Authorization: Bearer KEY`" if missing else "The key is wrong"
                return RequestError(401, text, code="missing_api_key" if missing else "invalid_api_key")
        length = headers.get(b"content-length", b"0")
        return too_large(self._most) if length.isdigit() and int(length) > self._most else None


class _Counted:
    """``receive`` that raises RequestError 413 once more than ``most`` bytes came (a body need not say how long it is)."""

    def __init__(self, receive: Receive, most: int) -> None:
        self._receive, self._left, self._most = receive, most, most

    async def __call__(self) -> Message:
        message = await self._receive()
        self._left -= len(message.get("body", b""))
        if self._left < 0:
            raise too_large(self._most)
        return message


def too_large(most: int) -> RequestError:
    """RequestError 413."""
    return RequestError(413, f"The request is larger than {most / 1e6:g} MB", code="request_too_large")


async def answer_fault(fault: RequestError, send: Send) -> None:
    """Send a fault as the whole response."""
    body = json.dumps(fault.body, ensure_ascii=False).encode()
    headers: list[Any] = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    headers += [(name.lower().encode(), value.encode()) for name, value in fault.headers.items()]
    await send({"type": "http.response.start", "status": fault.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
