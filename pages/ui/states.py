"""The states that every page has beside *full*: empty, working, error. Knows nothing of what a page shows."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from time import monotonic
from typing import Any

import streamlit as st

from core.errors import SpecError, UserError
from core.jobs.queue import dispatch, predecessor, resume, stop, to_resume
from core.records import ENDED_STATES, Job
from core.store.jobs import get_job, log_tail
from pages.ui import formats

WORDS_WIDTH = 600
"""Pixels of the words of an empty page, less where the window is narrower."""
_PICTURES = Path(__file__).with_name("pictures")
STATE_WORDS = {
    "queued": "Waiting for its turn",
    "starting": "Starting",
    "running": "Running",
    "stopping": "Stopping at the next step",
    "finished": "Finished",
    "failed": "Failed",
    "stopped": "Stopped",
    "lost": "Its process is gone",
}
STATE_COLOURS = {"queued": "gray", "failed": "red", "lost": "red", "stopped": "gray", "finished": "green"}


def empty(
    head: str, words: str, picture: str, *, action: str = "", on_action: Callable[[], None] | None = None, also: str = ""
) -> str:
    """What a page will show, a small picture of it (``pictures/NAME.svg``), and one button that gets there.

    ``also`` is a second, quieter way. Returns the words of the button that was pressed in this run, or nothing.
    ``on_action`` runs before the page does.
    """
    row: dict[str, Any] = {"horizontal": True, "vertical_alignment": "center", "gap": "large"}  # narrow: words below the picture
    pressed = ""
    with st.container(key="answer"), st.container(key="empty_state", **row):
        st.image(_PICTURES / f"{picture}.svg", width=260, alt="")
        with st.container(width=WORDS_WIDTH, gap="small", key="empty_words"):
            st.header(head, anchor=False)
            st.markdown(words)
            with st.container(horizontal=True):
                if action and st.button(action, type="primary", key=f"empty_{picture}", on_click=on_action):
                    pressed = action
                if also and st.button(also, key=f"empty_{picture}_also"):
                    pressed = also
    return pressed


def error(fault: UserError, *, kept: str = "") -> None:
    """A fault that the user can mend: what, the way out, and that nothing is lost (``kept``)."""
    lines = [f"**{plain(fault.message)}**"]
    if isinstance(fault, SpecError) and len(fault.faults) > 1:
        lines.append("\n".join(f"- {plain(text)}" for text in fault.faults))
    lines += [plain(text) for text in (fault.hint, kept) if text]
    st.error("\n\n".join(lines), icon=":material/error:")


@contextmanager
def catching(kept: str = "") -> Iterator[None]:
    """Show a ``UserError`` of the block instead of letting it through; bugs surface."""
    try:
        yield
    except UserError as fault:
        error(fault, kept=kept)


class Bar:
    """A reporter that draws how far a task is, with its rate and time left, and leaves nothing behind."""

    def __init__(self, what: str) -> None:
        self._what, self._bar, self._started = what, st.empty(), monotonic()

    def progress(self, done: int, total: int, *, unit: str = "rows", message: str = "", left: float | None = None) -> None:
        if done >= total:
            self._bar.empty()
            return
        spent = monotonic() - self._started
        if left is None and done and spent > 2:
            left = spent * (total - done) / done
        ends = "" if left is None else f", {formats.duration(left)} left"
        at = f": {message}" if message else ""
        self._bar.progress(done / total, text=f"{self._what}{at}, {done:,} of {total:,} {unit}{ends}")

    def metrics(self, step: int, values: dict[str, float]) -> None: ...

    def log(self, text: str) -> None: ...

    def should_stop(self) -> bool:
        return False


def badge(state: str) -> None:
    """A job's state as a small label."""
    st.badge(STATE_WORDS.get(state, state), color=STATE_COLOURS.get(state, "blue"))  # type: ignore[arg-type]


def working(job_id: str, *, log: bool = False) -> None:
    """A job as it goes: how far, rate, time left, stop; refreshed by itself, and the page anew when it ends."""

    @st.fragment(run_every=2)
    def live() -> None:
        dispatch()
        job = get_job(job_id)
        _progress(job)
        if log and job.state != "queued":
            with st.expander("Log"):
                st.code(log_tail(job_id, 30) or "Nothing yet.", language=None)
        if job.state in ENDED_STATES:
            st.rerun()

    if get_job(job_id).state in ENDED_STATES:
        ended(get_job(job_id))
    else:
        live()


def ended(job: Job, *, log: bool = True) -> None:
    """A job that is over: a fault with its hint, a button that takes it up again, and its ``log``'s tail."""
    if job.state == "finished":
        return
    first = to_resume(job)
    if first.job_id != job.job_id:
        st.warning(f"**{plain(job.title)}**: {plain(job.error)}", icon=":material/link_off:")
    elif job.state == "failed" and job.error:
        error(UserError(job.error, job.hint or "The log says more."), kept="What it had written is kept.")
    else:
        st.warning(f"**{plain(job.title)}**: {STATE_WORDS[job.state].lower()}. What it had written is kept.")
    label = "Take it up again" if first.job_id == job.job_id else f"Take up “{plain(first.title)}” again, and then this"
    with st.container(horizontal=True):
        if st.button(label, key=f"resume_{job.job_id}", icon=":material/resume:"):
            with catching():
                resume(first.job_id)
                st.rerun()
    if log or first.job_id != job.job_id:
        with st.expander("Log"):
            st.code(log_tail(first.job_id) or "The log is empty.", language=None)


def time_left(job: Job) -> str:
    """``23 s``; empty where it isn't known, or has run out because what is done takes longer than was thought."""
    left = job.progress.eta_seconds
    return "" if left is None or left < 0.05 else formats.duration(left)


def progress_line(job: Job) -> str:
    """Where a job is, in words: ``120 of 400 rows · 12.3 rows/s · 23 s left``; empty while nothing is known but its state."""
    at = job.progress
    if job.state == "queued":
        before = predecessor(job)
        waits = before is not None and before.state != "finished"
        return f"Waits for the end of “{before.title}”." if before and waits else "Waits for the device to be free."
    parts = [f"{formats.count(at.done)} of {formats.count(at.total)} {at.unit}"] if at.total else []
    if at.rate:
        parts.append(f"{formats.number(at.rate)} {at.unit}/s")
    if job.state == "running" and (left := time_left(job)):
        parts.append(f"{left} left")
    if at.message:
        parts.append(at.message)
    return " · ".join(parts)


def _progress(job: Job) -> None:
    with st.container(key=f"working_{job.job_id}", gap="xsmall"):
        with st.container(horizontal=True, vertical_alignment="center", horizontal_alignment="distribute"):
            st.markdown(f"**{plain(job.title)}**", width="content")
            badge(job.state)
            st.space("stretch")
            if job.state != "stopping" and st.button("Stop", key=f"stop_{job.job_id}", icon=":material/stop_circle:"):
                stop(job.job_id)
                st.rerun(scope="fragment")
        share = job.progress.done / job.progress.total if job.progress.total else 0.0
        line = progress_line(job)
        st.progress(min(1.0, max(0.0, share)), text=f":gray[{line}]" if line else None)


def plain(text: str) -> str:
    """Text that Markdown leaves as it is."""
    return "".join(f"\\{c}" if c in "\\`*_{}[]()#+!|<>$~:" else c for c in text)
