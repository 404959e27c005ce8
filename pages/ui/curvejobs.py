"""What a learning curve lacks: starting the trainings on parts of the rows, and how far they are. Queues nothing by itself."""

from __future__ import annotations

import streamlit as st

from core.evaluation.learning import LearningCurve
from core.jobs.curve import curve_jobs, enqueue_curve, missing_specs
from core.jobs.queue import to_resume
from core.jobs.successors import UNFINISHED
from core.records import Evaluation, Run, TrainSpec
from core.store.runs import get_run
from pages.ui import formats, states

SHOWN, SEEDS = 4, 3


def more(evaluation: Evaluation) -> None:
    """Jobs of this curve that are under way, or the button that queues them."""
    if _working(evaluation):
        return
    run = get_run(str(evaluation.spec.arm.run))
    st.markdown(
        f"One size of training data ({formats.plural(run.trained_rows, 'row')}) makes no curve. The same training on a quarter "
        "and on half of the rows, evaluated on the same test rows, would show whether more data helps."
    )
    sizes = " and ".join(formats.count(max(1, round(run.trained_rows * share))) for share in (0.25, 0.5))
    if st.button(f"Train and evaluate on {sizes} rows", key="enough_train", icon=":material/model_training:"):
        with states.catching():
            enqueue_curve(evaluation.evaluation_id)
            st.rerun()


def seeds(evaluation: Evaluation, curve: LearningCurve) -> None:
    """What of a curve is under way, or the button that trains each size with as many seeds as make its chance known."""
    if _working(evaluation):
        return
    run = get_run(str(evaluation.spec.arm.run))
    shares = [p.rows / run.trained_rows for p in curve.points if p.rows < run.trained_rows]
    if curve.points[-1].rows > run.trained_rows or not shares:
        return  # a part of a larger run, which is the one to ask
    missing = missing_specs(evaluation, shares, SEEDS)
    if missing:
        cost = sum(_share(spec, run) for spec in missing) * run.seconds
        about = f", about {formats.duration(cost)} of training" if cost else ""
        words = f"Train each size with {SEEDS} seeds: {formats.plural(len(missing), 'more training')}{about}"
        if st.button(words, key="enough_seeds", icon=":material/model_training:"):
            with states.catching():
                enqueue_curve(evaluation.evaluation_id, shares, SEEDS)
                st.rerun()


def _share(spec: TrainSpec, run: Run) -> float:
    limits = [use.limit for use in spec.data]
    return 1.0 if spec.data == run.spec.data else min(1.0, sum(limit or 0 for limit in limits) / max(1, run.trained_rows))


def _working(evaluation: Evaluation) -> bool:
    """Show the curve's jobs that are under way, else those that ended unfinished; whether any is under way."""
    working = curve_jobs(evaluation)
    for job in working:
        if job.state == "queued" and job.payload.get("after"):
            st.caption(f"{states.plain(job.title)}: after its training.")
        else:
            states.working(job.job_id)
    for job in [] if working else curve_jobs(evaluation, UNFINISHED)[-SHOWN:]:
        if to_resume(job).job_id == job.job_id:  # what only waited for it comes back with it
            states.ended(job)
    return bool(working)
