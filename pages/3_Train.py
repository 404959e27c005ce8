"""What will it cost, how is it going? A run in focus, a new one, the queue and history, runs against each other."""

from __future__ import annotations

import streamlit as st

from core.jobs.queue import dispatch, enqueue_training, gpu_count, list_claims
from core.records import Run
from core.store.jobs import get_job
from core.store.runs import list_runs
from core.training.spec import dump_spec, validate
from pages.ui import registry, runhistory, runview, shell, states, traincost, trainfaults, trainform

selection = shell.begin("Train")
dispatch()
runs = list_runs()
by_id = {run.run_id: run for run in runs}


def focus(run: Run) -> None:
    """Look at another run from the next drawing on; the address names it, so a reload shows it again."""
    st.query_params["run"] = run.run_id


def new_run() -> str:
    """The form, its faults, what it costs, and the button that starts it; returns what it would take, in words."""
    spec = trainform.form(selection, by_id.get(st.session_state.get(trainform.BASE, "")))
    if spec is None:
        states.empty("There is nothing to train on yet", "Import a dataset first.", "train", action="Go to Data")
        return "there is no dataset to train on"
    faults = validate(spec, gpu_count())
    if faults:
        st.error(
            "**This can't be trained yet**\n\n" + "\n".join(f"- {trainfaults.said(fault)}" for fault in faults),
            icon=":material/error:",
        )
    cost = None if faults else traincost.estimate(spec)
    if cost is not None:
        traincost.show(spec, cost)
    if any(not claim.holder.startswith("job-") for claim in list_claims()):
        st.caption("A model is in memory for answers (Chat, a server). It is released before the training starts.")
    if st.button(
        traincost.label(spec, cost), type="secondary" if working or (current and runview.leads_on(current)) else "primary",
        disabled=bool(faults), icon=":material/play_arrow:", key="train_start",
    ):  # fmt: skip
        with states.catching():
            _, run = enqueue_training(spec)
            focus(run)
            st.toast(f"{run.name} is in the queue; the top of the page shows how it goes.")
            shell.scroll_up()
            st.rerun()
    with st.expander("The same as a file, for the command line"):
        st.code(dump_spec(spec), language="yaml")
    return traincost.sentence(spec, cost, len(faults))


if selection.dataset is None and not runs:
    if states.empty(
        "See a fine-tune learn, step by step",
        "Loss, speed and time left of each training, live, and what it will cost before it starts. It needs a dataset first.",
        "train",
        action="Open or import a dataset",
    ):
        shell.go(registry.DATA)
    st.stop()

working = (
    next((r for r in reversed(runs) if get_job(r.job_id).state in ("starting", "running", "stopping")), None) if runs else None
)
current = by_id.get(st.query_params.get("run", "")) or working or (runs[0] if runs else None)
if current is not None and st.query_params.get("run") != current.run_id:
    focus(current)
if current is None:
    head = st.container()
    told = new_run()
    with head:
        shell.answer(f"Nothing is trained yet: {told}", "Measure the base prompt first (Compare): it may be enough.")
    st.stop()
runview.show(current)
st.divider()
new, past, several = st.tabs(["New run", "Queue and history", "Runs against each other"], key="train_tabs")
with new:
    new_run()
with past:
    runhistory.history(runs, focus)
with several:
    runhistory.against(runs)
