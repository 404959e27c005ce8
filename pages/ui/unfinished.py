"""Arms that ended without scores: why, and the way to take them up again. Reads jobs; starts none by itself."""

from __future__ import annotations

from collections.abc import Iterable

import streamlit as st

from core.jobs.successors import UNFINISHED
from core.records import Evaluation, Job
from core.store.jobs import list_jobs
from pages.ui import formats, states

SHOWN = 3


def jobs(evaluations: Iterable[Evaluation]) -> list[Job]:
    """The ended jobs of those evaluations that have no scores, the newest first."""
    without = {e.evaluation_id for e in evaluations if not e.complete}
    return [job for job in list_jobs(UNFINISHED) if job.kind == "evaluate" and job.subject in without][::-1]


def line(broken: list[Job], *, view: str, words: str) -> None:
    """One quiet line that says how many there are and why the newest ended; its button opens the view that lists them."""
    if not broken:
        return
    why = states.plain(broken[0].error) or f"{states.plain(broken[0].title)}: {states.STATE_WORDS[broken[0].state].lower()}."
    with st.container(horizontal=True, vertical_alignment="center"):
        st.markdown(f":gray[:material/link_off: {formats.plural(len(broken), 'arm')} without scores. {why}]", width="content")
        st.button("Look", key="unfinished_look", type="tertiary", on_click=_open, args=(view, words))


def _open(view: str, words: str) -> None:
    st.session_state[view] = words


def show(broken: list[Job]) -> None:
    """Each of the newest with its reason and a button that takes it, or what it waited for, up again."""
    for job in broken[:SHOWN]:
        states.ended(job)
    if len(broken) > SHOWN:
        st.caption(f"{len(broken) - SHOWN} older ones: `python -m core jobs` lists them.")
