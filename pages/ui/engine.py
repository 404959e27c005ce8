"""The models of this server: loaded on the first question, kept, and let go when idle or when a job wants the device.

The only place of the pages from which torch is reached, and only when somebody asks for an answer. How many are kept and
for how long is ``core.models.cache``'s to say; the turn with jobs is ``core.jobs.engines``'s.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import streamlit as st

from core.jobs.engines import answering as engine_answering
from core.jobs.engines import chat_engines
from core.records import ModelRef, Run, now
from core.training.artefacts import result_folder
from pages.ui import formats


def in_memory(ref: ModelRef) -> bool:
    """Whether a model is loaded, so that its answer needn't wait for that."""
    return ref in chat_engines().loaded


@contextmanager
def answering(ref: ModelRef, runs: list[Run], progress: Callable[[str], None] | None = None) -> Iterator[Any]:
    """The engine for ``ref`` with the adapters of ``runs`` attached, marked busy while the block runs.

    UserError while a job holds the device. Switching between base and attached adapters loads nothing. ``progress`` hears
    what there is to wait for, a model that will be slow because it doesn't fit among it; none: a toast says it.
    """
    attached = [(run.run_id, result_folder(run)) for run in runs]
    with engine_answering(ref, attached, progress=progress or _toast) as engine:
        yield engine


def _toast(text: str) -> None:
    st.toast(text, icon=":material/hourglass:", duration="long")


def memory_note() -> str:
    """What is in memory, and what went last and why, in Markdown; empty where nothing was loaded yet."""
    cache = chat_engines()
    lines = []
    for kept in cache.held:
        state = "answering" if kept.users else f"idle for {formats.duration(kept.idle_seconds)}"
        how = f", {kept.decoding}" if kept.decoding and kept.decoding != "plain steps" else ""
        lines.append(f"{kept.ref.label} on {kept.device or 'this machine'}, about {formats.size(kept.bytes)}, {state}{how}.")
    for gone in cache.released[:1]:
        ago = formats.duration((now() - gone.at).total_seconds())
        lines.append(f"{gone.ref.label} was released {ago} ago: {gone.reason}.")
    return "  \n".join(lines)


def memory_panel() -> None:
    """The note, with a button that lets everything idle go; draws nothing where nothing was loaded yet."""
    note = memory_note()
    if not note:
        return
    st.caption(note)
    if any(not kept.users for kept in chat_engines().held):
        st.button("Free the memory", icon=":material/eject:", type="tertiary", key="engine_release", on_click=_release)


def _release() -> None:
    chat_engines().release(reason="it was freed here")
