"""What a cache of engines holds and tells: claims on devices, engines in memory, engines that went, and a line to wait in.

Imports no torch; knows nothing of loading.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from core.records import ModelRef


class Claims(Protocol):
    """Who may use a device. ``take`` raises UserError while another has it; ``busy``: an engine there is answering."""

    def take(self, device: str | None) -> None: ...
    def drop(self, device: str | None) -> None: ...
    def busy(self, device: str | None, busy: bool) -> None: ...


class NoClaims:
    """For a process whose job or server holds the device already."""

    def take(self, device: str | None) -> None: ...
    def drop(self, device: str | None) -> None: ...
    def busy(self, device: str | None, busy: bool) -> None: ...


@dataclass(frozen=True)
class Released:
    """An engine that went: when, and why (for people)."""

    ref: ModelRef
    at: datetime
    reason: str


@dataclass(frozen=True)
class Held:
    """An engine in memory. ``bytes``: about what its weights take; ``idle_seconds``: since the last answer, 0 in use."""

    ref: ModelRef
    device: str | None
    bytes: int
    users: int
    idle_seconds: float
    decoding: str


class Line:
    """A lock that is had in the order of asking, which ``threading.Lock`` doesn't promise."""

    def __init__(self) -> None:
        self._waiting: deque[object] = deque()
        self._changed = threading.Condition()

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Wait for one's turn, and have it while the block runs."""
        ticket = object()
        with self._changed:
            self._waiting.append(ticket)
            while self._waiting[0] is not ticket:
                self._changed.wait()
        try:
            yield
        finally:
            with self._changed:
                self._waiting.popleft()
                self._changed.notify_all()
