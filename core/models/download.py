"""Fetches one file over HTTP so that it arrives whole: resumed when cut off, checked, patient with a busy server.

Only the standard library, so proxies and certificates come from the environment as for any program.
Knows nothing of models or hubs.
"""

from __future__ import annotations

import errno
import hashlib
import http.client
import json
import os
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Mapping
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any

from core.errors import ModelError
from core.records import now

CHUNK = 1 << 20
TIMEOUT_SECONDS = 30.0
ATTEMPTS = 6
"""Tries without a single new byte before giving up; the waits between them are 1, 2, 4, 8, 16 s."""
_BUSY = (408, 425, 429, 500, 502, 503, 504)
_CUT = (urllib.error.URLError, http.client.HTTPException, ConnectionError, TimeoutError)


class HttpFault(Exception):  # noqa: N818
    """The server answered, and the answer is no. ``status`` is its HTTP status."""

    def __init__(self, status: int, url: str, text: str = "") -> None:
        super().__init__(f"HTTP {status} for {url} {text}".strip())
        self.status, self.url, self.text = status, url, text


class Unreachable(Exception):  # noqa: N818
    """No answer from the server at all."""


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Keeps a key from going to another server: hubs redirect to their storage."""

    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
        new = super().redirect_request(req, fp, code, msg, headers, newurl)
        if new is not None and urllib.parse.urlsplit(newurl).netloc != urllib.parse.urlsplit(req.full_url).netloc:
            new.headers.pop("Authorization", None)
        return new


_opener = urllib.request.build_opener(_Redirects)


def get_json(url: str, headers: Mapping[str, str] | None = None) -> Any:
    """The JSON behind a URL. HttpFault, or Unreachable after ``ATTEMPTS`` tries."""
    return json.loads(_patiently(lambda: _read_all(url, headers or {}), url))


def opened(request: urllib.request.Request, timeout: float, attempts: int = ATTEMPTS) -> Any:
    """The open response to a request; HttpFault, or Unreachable after ``attempts`` tries."""
    return _patiently(lambda: _opener.open(request, timeout=timeout), request.full_url, attempts=attempts)


def fetch(
    url: str,
    target: Path,
    *,
    size: int | None = None,
    sha256: str = "",
    git_sha1: str = "",
    headers: Mapping[str, str] | None = None,
    on_bytes: Callable[[int], None] | None = None,
) -> None:
    """Download ``url`` to ``target``. What is there of an earlier try (``target`` + ``.part``) is continued.

    ``on_bytes(total so far)`` is called as they come. ``sha256`` or ``git_sha1`` (of a git blob) is checked: ModelError
    where it differs, and nothing is kept. HttpFault, Unreachable; ModelError when the disk is full (the part is kept). What
    stands under ``target`` is whole, also after the power was cut.
    """
    part = target.with_name(target.name + ".part")
    part.parent.mkdir(parents=True, exist_ok=True)

    def whole() -> bool:
        return size is not None and part.exists() and part.stat().st_size == size

    try:
        if not whole():
            _patiently(
                lambda: _continue(url, part, dict(headers or {}), size, on_bytes),
                url,
                progress=lambda: part.stat().st_size if part.exists() else 0,
            )
    except OSError as error:
        if is_full(error):
            raise full_disk(target) from error
        raise
    _check(part, url, sha256, git_sha1)
    with open(part, "rb") as handle:
        os.fsync(handle.fileno())
    os.replace(part, target)


def is_full(error: BaseException) -> bool:
    """Whether the disk is full, or this user's share of it."""
    return isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)


def full_disk(target: Path) -> ModelError:
    """What to say where a file could not be written for want of space."""
    return ModelError(
        f"The disk is full: {target.name} could not be written whole into {target.parent}",
        "Free some space there (`python -m core usage`, `python -m core models --remove MODEL`), or set TUNEWISE_MODEL_CACHE to "
        "a folder on a larger disk. On the same disk the download goes on from where it was.",
    )


def _continue(url: str, part: Path, headers: dict[str, str], size: int | None, on_bytes: Callable[[int], None] | None) -> None:
    have = part.stat().st_size if part.exists() else 0
    if size is not None and have > size:
        part.unlink()
        have = 0
    if have:
        headers["Range"] = f"bytes={have}-"
    with _opener.open(urllib.request.Request(url, headers=headers), timeout=TIMEOUT_SECONDS) as answer:
        if have and answer.status != 206:  # this server can't continue
            have = 0
        expected = size if size is not None else have + int(answer.headers.get("Content-Length") or 0)
        with open(part, "r+b" if have else "wb") as handle:
            handle.seek(have)
            handle.truncate()
            while piece := answer.read(CHUNK):
                handle.write(piece)
                have += len(piece)
                if on_bytes:
                    on_bytes(have)
    if have < expected:
        raise ConnectionError(f"cut off after {have} of {expected} bytes")


def _read_all(url: str, headers: Mapping[str, str]) -> bytes:
    with _opener.open(urllib.request.Request(url, headers=dict(headers)), timeout=TIMEOUT_SECONDS) as answer:
        return bytes(answer.read())


def _patiently(work: Callable[[], Any], url: str, progress: Callable[[], int] = lambda: 0, attempts: int = ATTEMPTS) -> Any:
    """Do it until it is done: cut connections and busy servers are tried again, ever later, while nothing comes."""
    failures, before = 0, progress()
    while True:
        try:
            return work()
        except urllib.error.HTTPError as error:
            text = error.read(500).decode("utf-8", "replace")
            if error.code not in _BUSY or failures + 1 >= attempts:
                raise HttpFault(error.code, url, text) from error
            wait = _asked_wait(error.headers.get("Retry-After"))
        except _CUT as error:
            if is_full(error):
                raise
            if failures + 1 >= attempts:
                reason = getattr(error, "reason", None) or error
                raise Unreachable(f"{urllib.parse.urlsplit(url).netloc}: {reason}") from error
            wait = None
        so_far = progress()
        failures = 1 if so_far > before else failures + 1
        before = so_far
        pause(min(60.0, 2.0 ** (failures - 1)) if wait is None else wait)


def pause(seconds: float) -> None:
    """Wait before the next try (tests replace it)."""
    time.sleep(seconds)


def _asked_wait(header: str | None) -> float | None:
    """``Retry-After`` (RFC 9110, 10.2.3) in seconds, two minutes at most."""
    if not header:
        return None
    try:
        seconds = float(header) if header.strip().isdigit() else (parsedate_to_datetime(header) - now()).total_seconds()
    except (ValueError, TypeError):
        return None
    return min(120.0, max(0.0, seconds))


def _check(part: Path, url: str, sha256: str, git_sha1: str) -> None:
    wanted = sha256 or git_sha1
    if not wanted:
        return
    digest = hashlib.sha256() if sha256 else hashlib.sha1(f"blob {part.stat().st_size}\0".encode(), usedforsecurity=False)
    with open(part, "rb") as handle:
        while piece := handle.read(CHUNK):
            digest.update(piece)
    if digest.hexdigest() != wanted.lower():
        part.unlink()
        raise ModelError(
            f"{part.name.removesuffix('.part')} arrived damaged: its checksum is not the one that the hub names",
            f"Try again; if it stays so, a proxy or mirror changes files ({urllib.parse.urlsplit(url).netloc}).",
        )
