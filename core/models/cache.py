"""Keeps engines for whoever asks, within bounds: a number, a memory budget, a time of idling.

The old engine is released before the new one loads, never after, so memory never holds both; none is released while it
answers. Whoever asks is served in the order of asking: who waits for an engine to be free is not overtaken by others that
would keep it busy. What went, when and why is kept to be shown. One cache a process (``engines``), for chat, evaluation, judge
and serving alike. Imports no torch itself; knows nothing of pages, and of claims only that they are taken and dropped.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from core.errors import ModelError
from core.models.catalogue import resolve
from core.models.kept import Claims, Held, Line, NoClaims, Released
from core.models.memory import free_memory
from core.models.weights import loaded_bytes
from core.records import ModelRef, now
from core.settings import get_settings

if TYPE_CHECKING:
    from core.models.engine import Engine

Key = tuple[ModelRef, str | None]
Progress = Callable[[str], None]
KEPT_RELEASES = 20
SPARE = 1.1
"""Free memory that a load wants, as a multiple of its weights (``core.models.load`` refuses or offloads below it)."""


def load_engine(ref: ModelRef, device: str | None, progress: Progress | None = None) -> Engine:
    """An engine for a model; imports torch. ``progress`` hears first of a download, and of a model that doesn't fit."""
    from core.models.engine import Engine
    from core.models.load import load_model

    return Engine(load_model(ref, device=device, progress=progress))


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
        wait_seconds: float = 60.0,
        load: Callable[..., Engine] = load_engine,
        size: Callable[[ModelRef], int] = lambda ref: loaded_bytes(resolve(ref), ref.quantisation),
        claims: Claims | None = None,
    ) -> None:
        self._most, self._budget, self._idle, self._patience = most, budget_bytes, idle_seconds, wait_seconds
        self._load, self._size = load, size
        self._claims: Claims = NoClaims() if claims is None else claims
        self._kept: dict[Key, _Kept] = {}
        self._released: deque[Released] = deque(maxlen=KEPT_RELEASES)
        self._changed = threading.Condition(threading.RLock())
        self._loading = Line()  # one loads at a time
        self._making_room = False  # somebody waits for engines that are answering
        self._timer: threading.Timer | None = None

    @property
    def loaded(self) -> list[ModelRef]:
        """What is in memory now."""
        with self._changed:
            return [ref for ref, _ in self._kept]

    @property
    def held(self) -> list[Held]:
        """What is in memory now, with its numbers."""
        with self._changed:
            now_ = time.monotonic()
            return [
                Held(
                    ref, device, kept.bytes, kept.users,
                    0.0 if kept.users else now_ - kept.last_used, str(getattr(kept.engine, "decoding", "")),
                )
                for (ref, device), kept in self._kept.items()
            ]  # fmt: skip

    @property
    def released(self) -> list[Released]:
        """What went lately, the last first."""
        with self._changed:
            return list(reversed(self._released))

    def claim_by(self, claims: Callable[[], Claims]) -> None:
        """Claim devices by these from now on, those of engines that are in memory too; once made, they stay.

        UserError where another has the device of an engine that is answering here unclaimed: then nothing has changed.
        """
        with self._changed:
            if not isinstance(self._claims, NoClaims):
                return
            for key in [key for key, kept in self._kept.items() if not kept.users]:
                self._let_go(key, "it was loaded without a claim on its device")
            made, taken = claims(), list[str | None]()
            try:
                for device in {device for _, device in self._kept}:
                    made.take(device)
                    taken.append(device)
                    made.busy(device, True)
            except BaseException:
                for device in taken:
                    made.drop(device)
                raise
            self._claims = made

    @contextmanager
    def using(self, ref: ModelRef, device: str | None = None, progress: Progress | None = None) -> Iterator[Engine]:
        """The engine of a model, kept from being released while the block runs.

        Many may use it at once. ModelError when the room is taken by engines that stay in use for ``wait_seconds``; until
        then nobody else begins to use them.
        ``progress`` hears what there is to wait for, in the calling thread.
        """
        kept = self._take(ref, device, progress)
        try:
            yield kept.engine
        finally:
            with self._changed:
                kept.users -= 1
                kept.last_used = time.monotonic()
                if not any(other.users for other in self._on(device)):
                    self._claims.busy(device, False)
                self._changed.notify_all()
                self._arm_timer()

    def release(self, ref: ModelRef | None = None, *, device: str | None = None, reason: str = "it was asked to go") -> bool:
        """Let go of a model, or of all (on a device, if one is named), unless in use; whether nothing of it is left."""

        def meant(key: Key) -> bool:
            return (ref is None or key[0] == ref) and (device is None or key[1] == device)

        with self._changed:
            for key in [k for k, kept in self._kept.items() if meant(k) and not kept.users]:
                self._let_go(key, reason)
            self._changed.notify_all()
            return not any(meant(key) for key in self._kept)

    def _take(self, ref: ModelRef, device: str | None, progress: Progress | None) -> _Kept:
        key = (ref, device)
        found = self._find(key)
        if found is not None:
            return found
        with self._loading.turn():
            found = self._find(key)  # who waited for the same model finds it
            if found is not None:
                return found
            size = self._size(ref)
            with self._changed:
                self._make_room(ref, size, device, progress)
                first = not self._on(device)
            if first:
                self._claims.take(device)
            try:
                made = _Kept(self._load(ref, device, *([] if progress is None else [progress])), size)
            except BaseException:
                if first:
                    self._claims.drop(device)
                raise
            with self._changed:
                self._kept[key] = made
                self._use(made, device)
            return made

    def _find(self, key: Key) -> _Kept | None:
        with self._changed:
            kept = self._kept.get(key)
            if kept is None or self._making_room:  # then it is gone when it is this one's turn, or free again
                return None
            self._use(kept, key[1])
            return kept

    def _use(self, kept: _Kept, device: str | None) -> None:
        if not any(other.users for other in self._on(device)):
            self._claims.busy(device, True)
        kept.users += 1

    def _on(self, device: str | None) -> list[_Kept]:
        return [kept for (_, where), kept in self._kept.items() if where == device]

    def _make_room(self, ref: ModelRef, size: int, device: str | None, progress: Progress | None) -> None:
        deadline = time.monotonic() + self._patience
        try:
            while self._kept and not self._fits(size, device):
                unused = [key for key, kept in self._kept.items() if not kept.users]
                if unused:
                    self._let_go(min(unused, key=lambda k: self._kept[k].last_used), f"{ref.label} was asked for")
                    continue
                busy = ", ".join(r.label for r, _ in self._kept)
                if time.monotonic() >= deadline:
                    raise ModelError(
                        f"There is no room for {ref.label}: {busy} is answering",
                        "Try again when it is done, or allow more at once with TUNEWISE_ENGINES and TUNEWISE_ENGINE_MEMORY_GB.",
                    )
                if progress is not None and not self._making_room:
                    progress(f"{ref.label} waits for {busy}, which is answering.")
                self._making_room = True
                self._changed.wait(max(0.0, deadline - time.monotonic()))
        finally:
            self._making_room = False

    def _fits(self, size: int, device: str | None) -> bool:
        if len(self._kept) >= self._most:
            return False
        if self._budget is not None and sum(kept.bytes for kept in self._kept.values()) + size > self._budget:
            return False
        return not self._on(device) or size * SPARE < free_memory(device or "cpu")

    def _let_go(self, key: Key, reason: str) -> None:
        ref, device = key
        kept = self._kept.pop(key)
        kept.engine.close()
        self._released.append(Released(ref, now(), reason))
        if not self._on(device):
            self._claims.drop(device)

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
            moment = time.monotonic()
            for key in [k for k, kept in self._kept.items() if not kept.users and moment - kept.last_used >= self._idle]:
                self._let_go(key, f"nobody asked it for {_duration(self._idle)}")
            waiting = [kept.last_used + self._idle - moment for kept in self._kept.values() if not kept.users]
            if waiting:
                self._arm_timer(max(0.01, min(waiting)))
            self._changed.notify_all()


def from_settings(claims: Claims | None = None) -> EngineCache:
    """A cache within the bounds that the settings name."""
    settings = get_settings()
    budget = settings.engine_memory_gb
    return EngineCache(
        settings.engines,
        budget_bytes=None if budget is None else int(budget * 1e9),
        idle_seconds=settings.engine_idle_seconds or None,
        claims=claims,
    )


_process: EngineCache | None = None
_guard = threading.Lock()


def engines(claims: Callable[[], Claims] | None = None) -> EngineCache:
    """The cache of this process. ``claims``: its engines take their turn with jobs by these from now on, whoever asked first.

    None: nothing is asked of claims here; there are none unless somebody names some. See ``EngineCache.claim_by``.
    """
    global _process
    with _guard:
        if _process is None:
            _process = from_settings()
        if claims is not None:
            _process.claim_by(claims)
        return _process


def _duration(seconds: float) -> str:
    return f"{seconds / 60:g} min" if seconds >= 60 else f"{seconds:g} s"
