"""Keeps engines for whoever asks, within bounds: a number, a memory budget, a time of idling.

The old engine is released before the new one loads, never after, so memory never holds both. Imports no
torch itself; knows nothing of pages or device claims.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from core.errors import ModelError
from core.models.catalogue import resolve
from core.models.weights import loaded_bytes
from core.records import ModelRef

if TYPE_CHECKING:
    from core.models.engine import Engine

Key = tuple[ModelRef, str | None]


def load_engine(ref: ModelRef, device: str | None) -> Engine:
    """An engine for a model; imports torch."""
    from core.models.engine import Engine
    from core.models.load import load_model

    return Engine(load_model(ref, device=device))


class _Kept:
    def __init__(self, engine: Engine, size: int) -> None:
        self.engine, self.bytes = engine, size
        self.users = 0
        self.last_used = time.monotonic()


class EngineCache:
    """At most ``most`` engines whose weights take ``budget_bytes`` together; idle ones go after ``idle_seconds``.

    Thread-safe. A timer releases idle engines: nobody needs to ask for it to happen.
    """

    def __init__(
        self,
        most: int = 1,
        *,
        budget_bytes: int | None = None,
        idle_seconds: float | None = 900.0,
        wait_seconds: float = 30.0,
        load: Callable[[ModelRef, str | None], Engine] = load_engine,
        size: Callable[[ModelRef], int] = lambda ref: loaded_bytes(resolve(ref), ref.quantisation),
    ) -> None:
        self._most, self._budget, self._idle, self._patience = most, budget_bytes, idle_seconds, wait_seconds
        self._load, self._size = load, size
        self._kept: dict[Key, _Kept] = {}
        self._changed = threading.Condition()
        self._loading = threading.Lock()
        self._timer: threading.Timer | None = None

    @property
    def loaded(self) -> list[ModelRef]:
        """What is in memory now."""
        with self._changed:
            return [ref for ref, _ in self._kept]

    @contextmanager
    def using(self, ref: ModelRef, device: str | None = None) -> Iterator[Engine]:
        """The engine of a model, kept from being released while the block runs.

        Many may use it at once. ModelError when the room is taken by engines that stay in use for ``wait_seconds``.
        """
        kept = self._take(ref, device)
        try:
            yield kept.engine
        finally:
            with self._changed:
                kept.users -= 1
                kept.last_used = time.monotonic()
                self._changed.notify_all()
                self._arm_timer()

    def release(self, ref: ModelRef | None = None) -> bool:
        """Let go of a model, or of all, unless it is in use; whether nothing of it is left."""
        with self._changed:
            for key in [k for k, kept in self._kept.items() if (ref is None or k[0] == ref) and not kept.users]:
                self._kept.pop(key).engine.close()
            self._changed.notify_all()
            return not any(ref is None or k[0] == ref for k in self._kept)

    def _take(self, ref: ModelRef, device: str | None) -> _Kept:
        key = (ref, device)
        found = self._find(key)
        if found is not None:
            return found
        with self._loading:  # one loads at a time; who waited for the same model finds it
            found = self._find(key)
            if found is not None:
                return found
            size = self._size(ref)
            with self._changed:
                self._make_room(ref, size)
            made = _Kept(self._load(ref, device), size)
            with self._changed:
                made.users = 1
                self._kept[key] = made
            return made

    def _find(self, key: Key) -> _Kept | None:
        with self._changed:
            kept = self._kept.get(key)
            if kept is not None:
                kept.users += 1
            return kept

    def _make_room(self, ref: ModelRef, size: int) -> None:
        deadline = time.monotonic() + self._patience
        while self._kept and not self._fits(size):
            unused = [key for key, kept in self._kept.items() if not kept.users]
            if unused:
                self._kept.pop(min(unused, key=lambda k: self._kept[k].last_used)).engine.close()
            elif not self._changed.wait(max(0.0, deadline - time.monotonic())) and time.monotonic() >= deadline:
                busy = ", ".join(r.label for r, _ in self._kept)
                raise ModelError(f"There is no room for {ref.label}: {busy} is answering", "Try again when it is done.")

    def _fits(self, size: int) -> bool:
        within = self._budget is None or sum(kept.bytes for kept in self._kept.values()) + size <= self._budget
        return len(self._kept) < self._most and within

    def _arm_timer(self, delay: float | None = None) -> None:
        if self._idle is None or self._timer is not None:
            return
        self._timer = threading.Timer(self._idle if delay is None else delay, self._release_idle)
        self._timer.daemon = True
        self._timer.start()

    def _release_idle(self) -> None:
        assert self._idle is not None
        with self._changed:
            self._timer = None
            now = time.monotonic()
            for key in [k for k, kept in self._kept.items() if not kept.users and now - kept.last_used >= self._idle]:
                self._kept.pop(key).engine.close()
            waiting = [kept.last_used + self._idle - now for kept in self._kept.values() if not kept.users]
            if waiting:
                self._arm_timer(max(0.01, min(waiting)))
            self._changed.notify_all()
