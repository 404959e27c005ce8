"""All runs with the state of their jobs, and several of them against each other."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pandas as pd
import streamlit as st

from core.figures import training as figures
from core.jobs.queue import position
from core.records import Job, Run
from core.store.jobs import get_job, list_jobs
from core.training.spec import said_data
from pages.ui import charts, formats, rundetails, runview, states, tables

AGAINST = {
    "loss": ("Loss", "Loss, smoothed (lower is better)"),
    "dev_loss": ("Dev loss", "Dev loss (lower is better)"),
    "dev_micro_f1": ("Dev micro-F1", "Dev micro-F1 (higher is better)"),
    "tokens_per_second": ("Tokens per second", "Tokens per second, smoothed"),
}
"""Measured values: what the choice says, and the axis."""


def history(runs: Sequence[Run], focus: Callable[[Run], None]) -> None:
    """All runs with the state of their jobs; a click looks at one."""
    jobs = {job.job_id: job for job in list_jobs()}
    waiting = [job for job in jobs.values() if job.state in ("queued", "starting", "running", "stopping")]
    st.markdown(
        f":gray[{formats.plural(len(waiting), 'job')} in the queue or at work; first come, first served.]"
        if waiting
        else ":gray[No job waits or works.]"
    )
    frame = pd.DataFrame(
        [
            {
                "run": run.name,
                "state": _state(jobs.get(run.job_id)),
                "data": said_data(run.spec),
                "method": run.spec.method,
                "template": run.template.ref,
                "loss": run.summary.get("loss"),
                "f1": run.summary.get("dev_micro_f1"),
                "seconds": formats.duration(run.seconds or None),
                "at": run.created_at,
            }
            for run in runs
        ]
    )
    columns = {
        "run": tables.text("Run", width="medium"),
        "state": tables.text("State", width=tables.width_of(frame["state"])),
        "data": tables.text("Data"),
        "method": tables.text("Method"),
        "template": tables.text("Template"),
        "loss": tables.decimal("Training loss", "Of the last step, in nats a token"),
        "f1": tables.decimal("Dev micro-F1", "Of the best checkpoint"),
        "seconds": tables.text("Time"),
        "at": tables.moment("Queued"),
    }
    chosen = tables.pick(frame, columns, alt="All training runs", key="history_table")
    if chosen is not None and st.button(f"Look at {runs[chosen].name}", key="history_open", on_click=focus, args=(runs[chosen],)):
        st.rerun()


def _state(job: Job | None) -> str:
    if job is None:
        return "Never queued"
    place = position(job.job_id) if job.state == "queued" else None
    return f"Number {place} in the queue" if place else states.STATE_WORDS[job.state]


def against(runs: Sequence[Run]) -> None:
    """Curves of several runs over each other, and what differs between two specs."""
    by_id = {run.run_id: run for run in runs}
    labels = {run.run_id: f"{run.name} · {run.created_at:%m-%d %H:%M}" for run in runs}
    begun = [run.run_id for run in runs if get_job(run.job_id).progress.done]
    chosen = st.multiselect("Runs", list(labels), begun[:2], format_func=labels.__getitem__, max_selections=7, key="against_runs")
    curves = {by_id[key].name: runview.measured(get_job(by_id[key].job_id))[0] for key in chosen}
    there = [name for name in AGAINST if any(name in steps for steps in curves.values())]
    if there:
        shown = st.segmented_control(
            "Shown", there, default=there[0], required=True, format_func=lambda name: AGAINST[name][0], key="against_shown",
            label_visibility="collapsed",
        )  # fmt: skip
        curves = {name: steps for name, steps in curves.items() if shown in steps}
        axis = AGAINST[shown][1]
        made = figures.overlay(curves, column=shown, y=axis)
        charts.show(made, key="overlay", alt=f"{axis} of the chosen runs over their steps")
    if len(chosen) == 2:
        frame = rundetails.difference(by_id[chosen[0]], by_id[chosen[1]])
        if len(frame):
            tables.show(
                frame, {column: tables.text("Setting" if column == "key" else column) for column in frame.columns},
                alt="What differs between the two specs",
            )  # fmt: skip
        else:
            st.caption("The two specs are the same but for their names.")
