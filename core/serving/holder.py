"""The model of a server and its claim on a device: kept while it is asked, let go when a job wants the device.

Loaded again with the first question after the device is free. One lock guards it all, so that no answer begins
on a model that is being let go. Knows nothing of HTTP.
"""

from __future__ import annotations

import itertools
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from core.errors import UserError
from core.jobs.claims import SERVER, release_device, set_busy, take_device, taken, watch_claim
from core.serving.backends import Backend, Open
from core.serving.faults import UnavailableError
from core.serving.served import Plan

REFUSED_SECONDS = 1.0
"""For so long after a refusal nobody waits for the device again: all who ask at once get the answer at once."""
_numbers = itertools.count(1)


class Holder:
    """Opens the model when it is needed and closes it when it must. Thread-safe."""

    def __init__(self, plan: Plan, device: str, open_: Open, *, patience: float = 3.0, watch_every: float = 1.0) -> None:
        self.plan, self.device = plan, device
        self._open, self._patience, self._watch_every = open_, patience, watch_every
        self._lock = threading.RLock()
        self._backend: Backend | None = None
        self._claim = ""
        self._watch: threading.Event | None = None
        self._answering = 0
        self._refused_until = 0.0
        self._closed = False

    @property
    def ready(self) -> bool:
        """Whether the model is in memory."""
        return self._backend is not None

    @property
    def answering(self) -> int:
        """How many answers are under way."""
        return self._answering

    def warm(self) -> str:
        """Load the model now; why it can't be, where its device is taken, else empty. UserError: it can't be loaded at all."""
        try:
            with self._lock:
                self._ensure()
                return ""
        except UnavailableError as error:
            return f"{error.message}. {error.hint}"

    @contextmanager
    def using(self) -> Iterator[Backend]:
        """The model, kept from being let go while the block runs. UnavailableError while its device is taken."""
        with self._lock:
            try:
                backend = self._ensure()
            except UnavailableError:
                raise
            except UserError as error:  # it could be loaded once, and can't be now
                raise UnavailableError(error.message, error.hint) from error
            self._answering += 1
            if self._answering == 1:
                set_busy(self.device, self._claim, True)
        try:
            yield backend
        finally:
            with self._lock:
                self._answering -= 1
                if self._answering == 0 and self._claim:
                    set_busy(self.device, self._claim, False)

    def close(self) -> None:
        """Free the memory and the device for good."""
        with self._lock:
            self._closed = True
            self._release()

    def _ensure(self) -> Backend:
        if self._closed:
            raise UnavailableError("The server is ending", "Start it again: `python -m core serve RUN`.")
        if self._backend is None:
            if time.monotonic() < self._refused_until:
                raise UnavailableError(*taken(self.device))
            claim = f"{SERVER}{os.getpid()}-{next(_numbers)}"
            if not take_device(self.device, claim, self._patience):
                self._refused_until = time.monotonic() + REFUSED_SECONDS
                raise UnavailableError(*taken(self.device))
            try:
                self._backend = self._open(self.plan, self.device)
            except BaseException:
                release_device(self.device, claim)
                raise
            self._claim = claim
            self._watch = watch_claim(self.device, claim, self._let_go, self._watch_every)
        return self._backend

    def _let_go(self) -> bool:
        """Asked when another wants the device: free the model unless it is answering just now."""
        with self._lock:
            if self._answering:
                return False
            self._release()
            return True

    def _release(self) -> None:
        if self._watch is not None:
            self._watch.set()
        if self._backend is not None:
            self._backend.close()
            release_device(self.device, self._claim)
        self._backend, self._watch, self._claim = None, None, ""
