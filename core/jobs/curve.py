"""Enough data? Queues what a learning curve lacks: the same training on parts of the rows, each evaluated on the same rows."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from core.errors import SpecError
from core.evaluation.learning import curve_candidates, smaller_specs
from core.jobs.queue import enqueue_evaluation, enqueue_training
from core.records import LIVE_STATES, Evaluation, Job
from core.store.jobs import list_jobs
from core.store.runs import get_evaluation, get_run, list_evaluations, list_runs

SHARES = (0.25, 0.5)
_SAME = 0.03
"""Sizes that differ by less of the whole are one point of the curve."""
UNDER_WAY = frozenset({"queued", *LIVE_STATES})


def enqueue_curve(evaluation_id: str, shares: Sequence[float] = SHARES) -> list[tuple[Job, Job]]:
    """Queue a training and its evaluation for each share of an evaluation's training rows that is neither there nor under way.

    SpecError for an evaluation without a run, or shares outside 0 to 1.
    """
    evaluation = get_evaluation(evaluation_id)
    if evaluation.spec.arm.run is None:
        raise SpecError(f"Evaluation {evaluation.name!r} has no training run", "Give one of a LoRA or QLoRA run.")
    if not shares or not all(0 < share < 1 for share in shares):
        raise SpecError("The parts of a learning curve lie between 0 and 100 %", "For example 25,50.")
    run = get_run(evaluation.spec.arm.run)
    there = [rows / run.trained_rows for rows, _ in curve_candidates(evaluation, list_evaluations(), list_runs())]
    missing = [share for share in sorted(shares) if all(abs(share - other) > _SAME for other in there)]
    under_way = {get_run(job.subject).name for job in curve_jobs(evaluation) if job.kind == "train"}
    queued = []
    for spec in (spec for spec in smaller_specs(run, missing) if spec.name not in under_way):
        training, smaller = enqueue_training(spec)
        arm = evaluation.spec.arm.model_copy(update={"run": smaller.run_id, "name": smaller.name})
        asked = evaluation.spec.model_copy(update={"arm": arm, "version": evaluation.version})
        queued.append((training, enqueue_evaluation(asked, after=training.job_id)[0]))
    return queued


def curve_jobs(evaluation: Evaluation, states: Collection[str] = UNDER_WAY) -> list[Job]:
    """The jobs in these states (not over yet) of the trainings and evaluations of an evaluation's curve, in the queue's order."""
    run = get_run(evaluation.spec.arm.run or "")
    names = {spec.name for spec in smaller_specs(run, [n / 100 for n in range(1, 100)])}
    runs = {r.run_id for r in list_runs() if r.name in names}
    subjects = runs | {e.evaluation_id for e in list_evaluations(evaluation.spec.dataset) if e.spec.arm.run in runs}
    return [job for job in list_jobs(states) if job.subject in subjects]
