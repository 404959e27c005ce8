"""What a learning curve lacks: starting the trainings on parts of the rows, and how far they are. Queues nothing by itself."""

from __future__ import annotations

import streamlit as st

from core.jobs.curve import curve_jobs, enqueue_curve
from core.jobs.queue import to_resume
from core.jobs.successors import UNFINISHED
from core.records import Evaluation
from core.store.runs import get_run
from pages.ui import formats, states

SHOWN = 4


def more(evaluation: Evaluation) -> None:
    """Jobs of this curve that are under way, or the button that queues them."""
    working = curve_jobs(evaluation)
    for job in working:
        if job.state == "queued" and job.payload.get("after"):
            st.caption(f"{states.plain(job.title)}: after its training.")
        else:
            states.working(job.job_id)
    if working:
        return
    for job in curve_jobs(evaluation, UNFINISHED)[-SHOWN:]:
        if to_resume(job).job_id == job.job_id:  # what only waited for it comes back with it
            states.ended(job)
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
