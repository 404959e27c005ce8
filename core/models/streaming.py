"""An answer on its way to whoever asked: its text as it comes, its place in the queue, its numbers at the end.

Imports no torch; knows nothing of models.
"""

from __future__ import annotations

import queue
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from core.models.answers import Answered

if TYPE_CHECKING:
    from core.models.batch import Event, Finish, Request
    from core.models.scheduler import Scheduler

POLL_SECONDS = 0.25
"""How often a caller that waits looks whether it should stop."""


class Streaming(Iterator[str]):
    """An answer on its way. Iterate for its pieces of text; close it, or drop it, and the model stops working on it."""

    def __init__(self, scheduler: Scheduler, request: Request, should_stop: Callable[[], bool] | None) -> None:
        self._scheduler, self._request, self._should_stop = scheduler, request, should_stop
        self._ended = False

    def __next__(self) -> str:
        while not self._ended:
            if self._should_stop and self._should_stop():
                self.close()
                break
            try:
                _, piece, self._ended = self._request.events.get(timeout=POLL_SECONDS)
            except queue.Empty:
                continue
            if self._ended and self._request.error is not None:
                raise self._request.error
            if piece:
                return piece
        raise StopIteration

    @property
    def position(self) -> int:
        """How many wait before this one; 0: it is its turn."""
        return self._scheduler.position(self._request)

    @property
    def answer(self) -> Answered:
        """The answer so far, whole once the iteration has ended."""
        return answered(self._request)

    def close(self) -> None:
        """Stop here."""
        self._ended = True
        if not self._request.finish:
            self._scheduler.cancel([self._request])

    def __del__(self) -> None:
        self.close()


def collect(
    scheduler: Scheduler,
    requests: Sequence[Request],
    events: queue.SimpleQueue[Event],
    should_stop: Callable[[], bool] | None,
    on_row: Callable[[int, Answered], None] | None,
) -> None:
    """Wait until all requests, which tell ``events``, have ended, and tell ``on_row`` of those that no stop cut short.

    Raises the first request's error.
    """
    left, stopping = len(requests), False
    while left:
        if not stopping and should_stop and should_stop():
            stopping = True
            scheduler.cancel(requests)
        try:
            request, _, last = events.get(timeout=POLL_SECONDS if should_stop else None)
        except queue.Empty:
            continue
        if not last:
            continue
        left -= 1
        if request.error is not None:
            raise request.error
        if on_row and request.finish != "stopped":
            on_row(request.row, answered(request))


def answered(request: Request) -> Answered:
    """A request's answer, as far as it came."""
    ended = bool(request.made) and request.made[-1] in request.ends
    finish: Finish = request.finish or "stopped"
    return Answered(
        ids=tuple(request.made[:-1] if ended else request.made),
        text=request.text.text,
        tokens=len(request.made),
        seconds=max(0.0, request.ended - request.started) if request.started else 0.0,
        finish=finish,
        prompt_tokens=len(request.ids),
        first_token_seconds=max(0.0, request.first_token - request.submitted) if request.first_token else 0.0,
    )
