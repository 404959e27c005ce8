"""A reporter for commands that do their work themselves: a line to stderr now and then, while it takes long.

Knows nothing of what is done.
"""

from __future__ import annotations

import time

from core.cli.common import say
from core.records import SilentReporter


class Said(SilentReporter):
    """Says how far the work is, every ``every_seconds`` and not before; never stops it."""

    def __init__(self, every_seconds: float = 5.0) -> None:
        self._every, self._began = every_seconds, time.monotonic()
        self._last = self._began

    def progress(self, done: int, total: int, *, unit: str = "rows", message: str = "", left: float | None = None) -> None:
        """A line with the amount done, the rate and, where the total is known, the time left."""
        now = time.monotonic()
        if now - self._last < self._every:
            return
        self._last = now
        rate = done / (now - self._began)
        left = (total - done) / rate if left is None and total and rate else left
        ends = "" if left is None else f", {left:,.0f} s left"
        amount = f"{done:,} of {total:,}" if total else f"{done:,}"
        say(f"{amount} {unit}, {rate:,.0f} a second{ends}{f': {message}' if message else ''}")
