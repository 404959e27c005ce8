"""Brings an answer from the thread that waits for the model to the event loop that speaks HTTP, and a stop back.

Each answer has a thread of its own from a pool, which also loads the model and renders the prompt, so that the event loop
never waits. Knows nothing of what is answered.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Executor
from contextlib import AbstractContextManager
from dataclasses import dataclass

from core.serving.backends import Answer, Answering
from core.serving.faults import UnavailableError

Opening = Callable[[], AbstractContextManager[Answering]]


@dataclass(frozen=True)
class _Failed:
    error: BaseException


@dataclass(frozen=True)
class _Ended:
    answer: Answer


class Flow:
    """An answer as an asynchronous iterator of text. ``answer`` holds its numbers once the iteration has ended."""

    def __init__(self, opening: Opening, executor: Executor) -> None:
        self.answer: Answer | None = None
        self._opening = opening
        self._loop = asyncio.get_running_loop()
        self._events: asyncio.Queue[str | _Failed | _Ended] = asyncio.Queue()
        self._lock = threading.Lock()
        self._answering: Answering | None = None
        self._closed = False
        self._future = executor.submit(self._work)

    async def __aiter__(self) -> AsyncIterator[str]:
        while True:
            event = await self._events.get()
            if isinstance(event, _Failed):
                raise event.error
            if isinstance(event, _Ended):
                self.answer = event.answer
                return
            yield event

    def when_done(self, then: Callable[[], None]) -> None:
        """Call ``then`` in the event loop once the thread is free again, however it ended."""
        self._future.add_done_callback(lambda _: self._in_loop(then))

    def close(self) -> None:
        """Stop the answer: the model gives its place to the next. Nothing happens if it has ended."""
        if self._future.cancel():  # its thread had not begun
            self._tell(_Failed(UnavailableError("The answer was ended before it began", "Ask again.")))
        with self._lock:
            self._closed = True
            if self._answering is not None:
                self._answering.close()

    def _work(self) -> None:
        try:
            with self._opening() as answering:
                with self._lock:
                    self._answering = answering
                    if self._closed:
                        answering.close()
                for piece in answering:
                    self._tell(piece)
                self._tell(_Ended(answering.answer))
        except BaseException as error:  # told to whoever waits
            self._tell(_Failed(error))
        finally:
            with self._lock:
                self._answering = None

    def _tell(self, event: str | _Failed | _Ended) -> None:
        self._in_loop(lambda: self._events.put_nowait(event))

    def _in_loop(self, call: Callable[[], None]) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
            self._loop.call_soon_threadsafe(call)
