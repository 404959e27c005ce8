"""How much one render may do. Knows nothing of what is rendered."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field

MAX_CHARACTERS = 4_000_000
"""Most characters that one text may write; a row has at most a million."""
MAX_WORK = 50_000_000
"""Most characters that all steps of one text may touch together; a turn of a loop counts as 50."""
SECONDS = 2.0
"""Of processor time, so that a busy machine doesn't turn a render into a fault."""


class TooMuchError(Exception):
    """A render went over its budget."""


@dataclass
class Budget:
    """What one render has used of its budget. ``started`` is the thread's processor time."""

    started: float = field(default_factory=time.thread_time)
    work: int = 0


current: ContextVar[Budget | None] = ContextVar("budget", default=None)


@contextmanager
def budget() -> Iterator[None]:
    """Everything inside the block is one render."""
    token = current.set(Budget())
    try:
        yield
    finally:
        current.reset(token)


def spend(work: int) -> None:
    """Count ``work`` characters; TooMuchError when the render in progress has used up its work or its time."""
    if work > MAX_CHARACTERS:
        raise TooMuchError(f"it makes a text of more than {MAX_CHARACTERS:,} characters")
    budget = current.get()
    if budget is None:
        return
    budget.work += work
    if budget.work > MAX_WORK:
        raise TooMuchError("it does too much work")
    if time.thread_time() - budget.started > SECONDS:
        raise TooMuchError(f"it takes longer than {SECONDS:g} s")


def written(parts: Iterable[str]) -> Iterator[str]:
    """The parts of a text as they are written, all of them one render; TooMuchError where they grow past ``MAX_CHARACTERS``."""
    size = 0
    with budget():
        for part in parts:
            size += len(part)
            if size > MAX_CHARACTERS:
                raise TooMuchError(f"it writes more than {MAX_CHARACTERS:,} characters")
            yield part
