"""Who is answered when: one thread owns a model, and all that want answers queue for it.

Requests that can go together do (continuous batching): a batch takes in waiting rows as others end, so many
chats and an evaluation share the model without waiting for one another to finish. Running out of memory
halves the batch; a row that fits alone is never lost. A torch module; knows nothing of pages or jobs.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Any, Protocol, TypeVar

import torch

from core.errors import ModelError
from core.models.batch import Batch, Request
from core.models.lane import Lane
from core.models.memory import out_of_memory, release_memory

T = TypeVar("T")
ALWAYS_ROOM = 16
"""Rows by which chats may go beyond a full batch of an evaluation, so that they needn't wait for it."""
MOST_OVERTAKEN = 32
"""Chats that go before rows of an evaluation that wait; then it is those rows' turn, so that none waits for ever."""
QUANTUM = 8
"""Steps that a batch takes before one with another adapter has its turn."""


class Adapting(Protocol):
    """What the scheduler needs of the adapters."""

    def select(self, names: Sequence[str | None]) -> tuple[Any, dict[str, Any]]:
        """Make ready for rows with these adapters: the callable to run, and its further arguments."""

    def can_mix(self, names: Sequence[str | None]) -> bool:
        """Whether rows with these adapters can go in one forward pass."""


class Limits(Protocol):
    """How much fits at once."""

    def rows(self, widest: int, held: int) -> int:
        """Rows of ``widest`` tokens, prompt and answer, that go in one batch, ``held`` of them there already."""

    def fits_pass(self, rows: int, longest: int) -> bool:
        """Whether so many prompts are read in one pass, padded to the longest."""


class Scheduler:
    """Runs requests on one model in a thread of its own, until ``close``."""

    def __init__(
        self, model: Any, adapters: Adapting, limits: Limits, pad: int, device: torch.device, lane: Lane | None = None
    ) -> None:
        self._lane = lane
        self._model, self._adapters, self._limits, self._pad, self._device = model, adapters, limits, pad, device
        self._changed = threading.Condition()
        self._chats: deque[Request] = deque()  # interactive requests that wait
        self._rows: deque[Request] = deque()  # the others that wait
        self._calls: deque[tuple[Callable[[], Any], Future[Any]]] = deque()
        self._batches: list[Batch] = []
        self._ceiling = 2**30  # rows; lowered when memory ran out
        self._overtaken = 0  # chats that went before rows that wait, since such rows were let in last
        self._steps = 0
        self._closed = False
        self._working = False  # between two waits, a prompt that is being read among it
        self._thread = threading.Thread(target=self._loop, name="tunewise-engine", daemon=True)
        self._thread.start()

    def submit(self, requests: Sequence[Request]) -> None:
        """Queue requests, in this order; interactive ones go before those that aren't, ``MOST_OVERTAKEN`` at most."""
        with self._changed:
            self._check_open()
            for request in requests:
                self._line_of(request).append(request)
            self._changed.notify_all()

    def run(self, work: Callable[[], T]) -> T:
        """Do something with the model between two steps, in its thread, and return what it returns."""
        if threading.current_thread() is self._thread:
            return work()
        future: Future[T] = Future()
        with self._changed:
            self._check_open()
            self._calls.append((work, future))
            self._changed.notify_all()
        return future.result()

    def cancel(self, requests: Sequence[Request]) -> None:
        """End these at the next step; what waits ends at once."""
        with self._changed:
            for request in requests:
                request.cancelled = True
                if request in (line := self._line_of(request)):
                    line.remove(request)
                    request.end("stopped")

    def position(self, request: Request) -> int:
        """How many requests wait before this one; 0 when it is next or being answered."""
        with self._changed:
            line = self._line_of(request)
            return line.index(request) if request in line else 0

    @property
    def busy(self) -> bool:
        """Whether anything is waiting or under way."""
        with self._changed:
            return bool(self._working or self._chats or self._rows or self._calls)

    def close(self) -> None:
        """End everything that is under way as stopped, and the thread."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        if threading.current_thread() is not self._thread:
            self._thread.join()

    def forget_model(self) -> None:
        """After ``close``: hold on to nothing that takes memory."""
        self._model = None

    def _line_of(self, request: Request) -> deque[Request]:
        return self._chats if request.interactive else self._rows

    def _check_open(self) -> None:
        if self._closed:
            raise released()

    def _loop(self) -> None:
        if self._device.type == "cuda":
            torch.cuda.set_device(self._device)
        while True:
            with self._changed:
                self._working = bool(self._batches)
                while not (self._closed or self._calls or self._chats or self._rows or self._batches):
                    self._changed.wait()
                if self._closed:
                    break
                self._working = True
                calls = list(self._calls)
                self._calls.clear()
            for work, future in calls:
                try:
                    future.set_result(work())
                except BaseException as error:  # belongs to the caller
                    future.set_exception(error)
            self._admit()
            if self._batches:
                self._advance(self._batches[0])
        self._finish_all()

    def _finish_all(self) -> None:
        with self._changed:
            waiting, calls = [*self._chats, *self._rows], list(self._calls)
            for line in (self._chats, self._rows, self._calls):
                line.clear()
        for request in [*waiting, *(r for b in self._batches for r in b.requests)]:
            if not request.finish:
                request.end("stopped")
        self._batches.clear()
        for _, future in calls:
            future.set_exception(released())

    def _admit(self) -> None:
        """Let waiting requests in, where there is room: read their prompts and put them beside the others."""
        group = self._next_group()
        if not group:
            return
        fresh = Batch(self._model, group, self._pad, self._device, self._lane)
        if not self._step(fresh) or not fresh.requests:
            return
        host = next((b for b in self._batches if self._together(b, fresh)), None)
        if host is None:
            self._batches.append(fresh)
            return
        try:
            host.join(fresh)
        except (torch.OutOfMemoryError, RuntimeError, MemoryError) as error:
            self._batches.remove(host)
            self._recover([*host.requests, *fresh.requests], error)

    def _next_group(self) -> list[Request]:
        with self._changed:
            overdue = bool(self._rows) and self._overtaken >= MOST_OVERTAKEN
            line = self._rows if overdue or not self._chats else self._chats
            if not line:
                return []
            first = line[0]
            running = [b for b in self._batches if self._adapters.can_mix([first.adapter, *(r.adapter for r in b.requests)])]
            widest = max([first.length + first.max_new_tokens, *(b.width for b in running)])
            held = sum(len(b) for b in self._batches)
            capacity = min(self._ceiling, self._limits.rows(widest, held))
            room = capacity + ALWAYS_ROOM * first.interactive - held
            worth = 1 if first.interactive or overdue else max(1, min(len(line), capacity // 4))  # reading holds up the others
            if self._batches and room < worth:
                return []
            group: list[Request] = []
            longest = 0
            for request in list(line):
                names = [r.adapter for r in [*group, request]]
                longest = max(longest, request.length)
                if len(group) >= max(1, room) or not self._adapters.can_mix(names):
                    break
                if group and not self._limits.fits_pass(len(group) + 1, longest):
                    break  # the rest is read next, after a step of those that are in
                group.append(line.popleft())
            self._overtaken = self._overtaken + len(group) if first.interactive and self._rows else 0
            return group

    def _together(self, host: Batch, fresh: Batch) -> bool:
        names = [r.adapter for r in [*host.requests, *fresh.requests]]
        return host.joinable and fresh.joinable and self._adapters.can_mix(names)

    def _advance(self, batch: Batch) -> None:
        if not self._step(batch) or not batch.requests:
            batch.release()
            self._batches.remove(batch)
            return
        self._steps += 1
        if self._steps % QUANTUM == 0 and len(self._batches) > 1:
            self._batches.append(self._batches.pop(0))

    def _step(self, batch: Batch) -> bool:
        """One step; whether the batch still stands. A fault ends its requests with that error."""
        requests = list(batch.requests)
        try:
            batch.step(lambda: self._adapters.select([r.adapter for r in requests]))
        except (torch.OutOfMemoryError, RuntimeError, MemoryError) as error:
            self._recover(requests, error)
            return False
        except Exception as error:
            _fail(requests, error)
            return False
        return True

    def _recover(self, requests: Sequence[Request], error: BaseException) -> None:
        """After running out of memory: smaller batches from now on, and these rows go on from where they were."""
        alive = [r for r in requests if not r.finish]
        if not out_of_memory(error):
            _fail(alive, error)
        elif len(alive) <= 1:
            hint = "Ask for fewer new tokens, shorten the prompt, load the model in nf4, or free memory by ending other jobs."
            tokens = alive[0].length if alive else 0
            _fail(alive, ModelError(f"Out of memory on {self._device} with one row of {tokens} tokens", hint))
        else:
            self._ceiling = max(1, len(alive) // 2)
            with self._changed:
                for request in reversed(alive):
                    self._line_of(request).appendleft(request)
        error.__traceback__ = None  # it holds the tensors that didn't fit
        release_memory()


def released() -> ModelError:
    """What those get who ask a closed engine."""
    return ModelError("The model was released while it was asked", "Ask again: it is loaded anew.")


def _fail(requests: Sequence[Request], error: BaseException) -> None:
    for request in requests:
        if not request.finish:
            request.end("stopped", error)
