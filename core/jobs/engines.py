"""The engines of a process that answers people, each device claimed while a model is on it.

``core.models.cache`` keeps them within bounds; here they take their turn with jobs: a device is claimed before a model is
loaded, marked busy while it answers, and given back when a job wants it and nobody is being answered. Imports no torch.
"""

from __future__ import annotations

import itertools
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from core.errors import UserError
from core.jobs.claims import CHAT, release_device, set_busy, take_device, taken, watch_claim
from core.jobs.devices import default_device
from core.models.cache import EngineCache, engines
from core.records import ModelRef

if TYPE_CHECKING:
    from core.models.engine import Engine

WATCH_SECONDS = 1.0
_numbers = itertools.count(1)


class DeviceClaims:
    """The claims of this process's engines, one a device."""

    def __init__(self) -> None:
        self._held: dict[str, tuple[str, threading.Event]] = {}

    def take(self, device: str | None) -> None:
        """Claim a device; UserError names who has it instead."""
        where = device or default_device()
        holder = f"{CHAT}{os.getpid()}-{next(_numbers)}"  # a new name each time: an old watch can't drop a new claim
        if not take_device(where, holder):
            raise UserError(*taken(where))
        self._held[where] = (holder, watch_claim(where, holder, lambda: _let_go(where), WATCH_SECONDS))

    def drop(self, device: str | None) -> None:
        """Give a device back."""
        where = device or default_device()
        holder, watch = self._held.pop(where, ("", None))
        if watch is not None:
            watch.set()
            release_device(where, holder)

    def busy(self, device: str | None, busy: bool) -> None:
        """Say whether an engine there is answering."""
        where = device or default_device()
        if where in self._held:
            set_busy(where, self._held[where][0], busy)


def chat_engines() -> EngineCache:
    """The engines of this process, which claim their devices from now on."""
    return engines(DeviceClaims)


@contextmanager
def answering(
    ref: ModelRef,
    adapters: Sequence[tuple[str, Path]] = (),
    *,
    device: str | None = None,
    progress: Callable[[str], None] | None = None,
) -> Iterator[Engine]:
    """The engine of a model with adapters (name, folder) attached, kept while the block runs.

    UserError while a job holds the device. Switching between base and attached adapters loads nothing.
    """
    with chat_engines().using(ref, device or default_device(), progress) as engine:
        for name, folder in adapters:
            engine.attach(name, folder)
        yield engine


def _let_go(device: str) -> bool:
    """Asked by a waiting job: free the device's models unless one is answering just now."""
    return chat_engines().release(device=device, reason="a job wanted the device")
