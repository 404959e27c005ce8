"""Prompt or fine-tune? Arms on the same rows: the verdict, where they differ, and the rows that changed."""

from __future__ import annotations

from functools import partial

import streamlit as st

from core.evaluation.compare import MAX_ARMS
from core.jobs.queue import dispatch, enqueue_evaluation
from core.store.jobs import list_jobs
from core.store.runs import list_evaluations, list_runs
from pages.ui import (
    address,
    armform,
    charts,
    comparison,
    formats,
    pairrows,
    quickab,
    registry,
    shell,
    states,
    sureness,
    unfinished,
    views,
)

selection = shell.begin("Compare")
dispatch()
runs = list_runs()
everything = list_evaluations(selection.dataset.name if selection.dataset else None)
evaluations = [e for e in everything if e.complete]
broken = unfinished.jobs(everything)


def new_arm() -> None:
    """Let another arm answer, and what is at work."""
    for job in [j for j in list_jobs(["queued", "starting", "running", "stopping"]) if j.kind == "evaluate"]:
        states.working(job.job_id)
    unfinished.show(broken)
    ended = {job.subject for job in broken}
    answered = [e for e in everything if e.evaluation_id not in ended]
    spec = armform.form(selection, runs, answered, key="arm")
    if spec is None:
        st.caption("This dataset has no rows to answer.")
        return
    there = armform.is_there(spec, answered)
    if there and not any(run.complete for run in runs) and st.button("Train a fine-tune", type="primary", key="arm_train"):
        shell.go(registry.TRAIN)
    look = "secondary" if there else "primary"
    if st.button(armform.label(spec, selection), type=look, icon=":material/play_arrow:", key="arm_start"):
        with states.catching():
            enqueue_evaluation(spec)
            st.session_state[armform.STARTED] = True
            st.rerun()


if selection.dataset is None:
    if states.empty(
        "A prompt and a fine-tune, held against each other",
        "Both answer the same rows: how many more are right, how sure that is, what it costs, and which rows changed. "
        "It needs a dataset first.",
        "compare",
        action="Open or import a dataset",
    ):
        shell.go(registry.DATA)
    st.stop()

labels = comparison.options(evaluations)
defaults = comparison.default_arms(evaluations)
chosen: list[str] = []
if len(evaluations) >= 2:
    address.hold_several("arms", list(labels), defaults, most=MAX_ARMS)
    chosen = st.multiselect(
        "Arms, the first is what the others are held against",
        list(labels),
        format_func=labels.__getitem__,
        max_selections=MAX_ARMS,
        key="arms",
        persist_state="session",
    )
    address.tell("arms", chosen)
if len(chosen) < 2:
    shell.answer(
        comparison.missing(evaluations, selection.dataset.name),
        "Let the prompt answer the test rows, then the fine-tune: the same rows, so that nothing else makes a difference.",
    )
    new_arm()
    st.stop()

with states.catching():
    found = comparison.load(tuple(chosen))
    number = 1
    names = comparison.arm_names(found)
    if len(found.versus) > 1:
        if st.session_state.get("compare_arm", 1) not in range(1, len(names)):
            del st.session_state["compare_arm"]
        number = st.segmented_control(
            "Against the first", range(1, len(names)), default=1, format_func=names.__getitem__, key="compare_arm",
            bind="query-params", required=True,
        )  # fmt: skip
    versus = found.versus[number - 1]
    left = sum(len(rows) for rows in found.left_out.values())
    apart = f" {formats.plural(left, 'answer')} on rows that not every arm has are left out." if left else ""
    shell.answer(comparison.headline(found, versus), comparison.detail(versus) + apart)
    if len(found.versus) > 1:
        comparison.all_arms(found)
    plots, errors = charts.pair("compare") if versus.moves.num_rows else (st.container(), None)
    with plots, st.container(key="chart"):
        st.subheader("Where they differ", anchor=False)
        comparison.forest(found, versus)
    if errors is not None:
        with errors:
            st.subheader("What became of each value", anchor=False)
            comparison.matrix(found, versus)
    st.subheader("Rows", anchor=False)
    pairrows.rows(found, number)
    sureness.take(found)
    st.divider()
    unfinished.line(broken, view="compare_view", words="Another arm")
    views.tabs(
        {
            "How sure": partial(sureness.tests, found, versus),
            "Scores and costs": partial(comparison.scores, found),
            "Leaked rows": partial(sureness.leaks, found, number),
            "Enough data?": partial(sureness.enough, found, evaluations, runs),
            "Quick A/B": partial(quickab.box, selection, evaluations, runs),
            "Another arm": new_arm,
        },
        key="compare_view",
    )
