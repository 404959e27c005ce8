"""Pieces of the overview: welcome, the five steps, running jobs, last results, the machine."""

from __future__ import annotations

import streamlit as st

from core.demo import load_samples
from core.jobs.queue import dispatch
from core.records import LIVE_STATES
from core.store.jobs import list_jobs
from core.store.runs import list_evaluations
from pages.ui import formats, shell, states
from pages.ui.registry import DATA
from pages.ui.selection import Selection
from pages.ui.steps import Step, is_cleaned, next_step, survey


def welcome() -> None:
    """An empty workspace: what this is, and two ways to begin."""
    states.empty(
        "Is a better prompt enough, or is a fine-tune worth it?",
        "Bring a dataset, see what is wrong with it, clean it, measure it, train on it, and compare the answers row by row. "
        "Nothing leaves this machine. "
        "Start with the bundled sample, 1,200 rows in Chinese and English with seeded dirt, or with a file of your own.",
        "home",
    )
    with st.container(horizontal=True):
        if st.button("Open the sample", type="primary", key="home_sample"):
            with states.catching("Nothing was changed."), st.spinner("Reading the samples"):
                names = load_samples()
                shell.go(DATA, **({"dataset": names[0]} if names else {}))
        if st.button("Import a file", key="home_import", icon=":material/upload_file:"):
            st.session_state["data_import_open"] = True
            shell.go(DATA)


def surveyed(chosen: Selection) -> list[Step]:
    """The steps of what is selected."""
    assert chosen.dataset is not None
    assert chosen.version is not None
    return survey(chosen.dataset, chosen.version, measured=False)


def sentence(chosen: Selection, steps: list[Step]) -> tuple[str, str]:
    """Where the selected dataset stands, and a quieter second line."""
    assert chosen.dataset is not None
    assert chosen.version is not None
    done = sum(step.done for step in steps)
    coming = next_step(steps)
    rows = formats.plural(chosen.version.rows, "row")
    if coming is None:
        return f"All five steps are taken for {chosen.dataset.name}.", f"{rows}, {formats.splits(chosen.version.split_sizes)}."
    if done == 0:
        return f"{chosen.dataset.name} is here with {rows}; the next step is to look at the data.", ""
    return f"{done} of 5 steps are taken for {chosen.dataset.name}; next: {coming.action.lower()}.", (
        f"{rows}, {formats.splits(chosen.version.split_sizes)}." if is_cleaned(chosen.version) else f"{rows}, not cleaned yet."
    )


def primary(steps: list[Step]) -> None:
    """The one button: the next step."""
    coming = next_step(steps) or steps[-1]
    if st.button(coming.action, type="primary", key="home_next", icon=":material/arrow_forward:", icon_position="right"):
        shell.go(coming.page)


def way(steps: list[Step]) -> None:
    """The five steps in a row, each with its state and a link."""
    coming = next_step(steps)
    with st.container(key="way"):
        for column, (place, step) in zip(st.columns(5, gap="small"), enumerate(steps, 1), strict=True):
            with column, st.container(key=f"step_{place}", gap="xsmall"):
                look = "done" if step.done else "next" if step is coming else "later"
                icon = {
                    "done": ":green[:material/check_circle:]",
                    "next": ":material/radio_button_checked:",
                    "later": ":gray[:material/radio_button_unchecked:]",
                }[look]
                st.markdown(f"{icon} **{step.title}**")
                st.caption(step.words)
                shell.link(step.page, "Open", key=f"home_open_{step.title}")


def running() -> None:
    """Jobs that wait or run, each as it goes."""
    dispatch()
    live = list_jobs([*LIVE_STATES, "queued"])
    if live:
        st.subheader("Running now", anchor=False)
        for job in live[:5]:
            states.working(job.job_id)
        if len(live) > 5:
            st.caption(f"{len(live) - 5} more wait.")


def last_results(chosen: Selection) -> None:
    """The last evaluations as a chart."""
    st.subheader("Last results", anchor=False)
    evaluations = [e for e in list_evaluations() if e.complete][:7]
    if not evaluations:
        st.caption("No evaluation has finished yet. Compare shows how to start one.")


def machine() -> None:
    """What this machine can do."""
    st.subheader("This machine", anchor=False)
