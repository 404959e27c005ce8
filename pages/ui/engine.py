"""The one model of this server: loaded on the first question, kept, and let go when a job wants its device.

Another model is loaded only after the one before is released, so that memory never holds both. This is the only
place of the pages from which torch is reached, and only when somebody asks for an answer.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import streamlit as st

from core.errors import UserError
from core.jobs.queue import default_device, release_device, set_busy, watch_claim
from core.records import ModelRef, Run
from core.serving.holder import take_device, taken
from core.training.artefacts import result_folder

HOLDER = f"chat-{os.getpid()}"
_lock = threading.RLock()


class Held:
    """An engine with its claim on a device."""

    def __init__(self, ref: ModelRef) -> None:
        from core.models.engine import Engine
        from core.models.load import load_model

        self.ref, self.device = ref, default_device()
        if not take_device(self.device, HOLDER):
            raise UserError(*taken(self.device))
        try:
            self.engine = Engine(load_model(ref, device=self.device))
        except BaseException:
            release_device(self.device, HOLDER)
            raise
        self.answering = 0
        self._watch = watch_claim(self.device, HOLDER, _let_go)

    def close(self) -> None:
        """Release the memory, then the device."""
        self._watch.set()
        self.engine.close()
        release_device(self.device, HOLDER)


@st.cache_resource(max_entries=1, show_spinner=False, on_release=Held.close)
def _held(ref: str) -> Held:
    return Held(ModelRef.model_validate_json(ref))


_loaded: dict[str, Held] = {}


def loaded() -> ModelRef | None:
    """The model that is in memory now, without loading one."""
    held = _loaded.get("now")
    return held.ref if held else None


@contextmanager
def answering(ref: ModelRef, runs: list[Run]) -> Iterator[Any]:
    """The engine for ``ref`` with the adapters of ``runs`` attached, marked busy while the block runs.

    UserError while a job holds the device. Switching between base and attached adapters loads nothing.
    """
    with _lock:
        now = _loaded.get("now")
        if now is not None and now.ref != ref:
            _release()
        held = _held(ref.model_dump_json())
        _loaded["now"] = held
        held.answering += 1
    set_busy(held.device, HOLDER, True)
    try:
        for run in runs:
            held.engine.attach(run.run_id, result_folder(run))
        yield held.engine
    finally:
        with _lock:
            held.answering -= 1
            if held.answering == 0:
                set_busy(held.device, HOLDER, False)


def _let_go() -> bool:
    """Asked by a waiting job: free the model unless it is answering just now."""
    with _lock:
        now = _loaded.get("now")
        if now is None:
            return True
        if now.answering:
            return False
        _release()
        return True


def _release() -> None:
    _loaded.pop("now", None)
    _held.clear()
