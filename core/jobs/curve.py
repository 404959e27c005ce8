"""Enough data? Queues what a learning curve lacks: the same training on parts of the rows or with other seeds, each evaluated
on the same rows."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from itertools import count, islice

from core.errors import SpecError
from core.evaluation.learning import curve_specs, curve_trainings
from core.jobs.queue import enqueue_evaluation, enqueue_training
from core.records import LIVE_STATES, Evaluation, Job, TrainSpec
from core.store.jobs import list_jobs
from core.store.runs import get_evaluation, get_run, list_evaluations, list_runs

SHARES = (0.25, 0.5)
_SAME = 0.03
"""Sizes that differ by less of the whole are one point of the curve."""
UNDER_WAY = frozenset({"queued", *LIVE_STATES})


def enqueue_curve(evaluation_id: str, shares: Sequence[float] = SHARES, seeds: int = 1) -> list[tuple[Job, Job]]:
    """Queue a training and its evaluation for each share of an evaluation's training rows that is neither there nor under way.

    ``seeds``: trainings of each size, the whole among them, with the run's own seed and those that follow it. SpecError for
    an evaluation without a run, shares outside 0 to 1, or no seed.
    """
    evaluation = get_evaluation(evaluation_id)
    if evaluation.spec.arm.run is None:
        raise SpecError(f"Evaluation {evaluation.name!r} has no training run", "Give one of a LoRA or QLoRA run.")
    if not shares or not all(0 < share < 1 for share in shares):
        raise SpecError("The parts of a learning curve lie between 0 and 100 %", "For example 25,50.")
    if seeds < 1:
        raise SpecError("A learning curve takes one seed at least", "For example --seeds 3.")
    under_way = {get_run(job.subject).name for job in curve_jobs(evaluation) if job.kind == "train"}
    queued = []
    for spec in (spec for spec in missing_specs(evaluation, shares, seeds) if spec.name not in under_way):
        training, another = enqueue_training(spec)
        arm = evaluation.spec.arm.model_copy(update={"run": another.run_id, "name": another.name})
        asked = evaluation.spec.model_copy(update={"arm": arm, "version": evaluation.version})
        queued.append((training, enqueue_evaluation(asked, after=training.job_id)[0]))
    return queued


def missing_specs(evaluation: Evaluation, shares: Sequence[float] = SHARES, seeds: int = 1) -> list[TrainSpec]:
    """The trainings that a curve with as many seeds a size lacks, the smallest first."""
    run = get_run(evaluation.spec.arm.run or "")
    there = curve_trainings(evaluation, list_evaluations(), list_runs())
    found = []
    for share in [*sorted(shares), 1.0]:
        near = {seed for rows, seed in there if abs(rows / max(1, run.trained_rows) - share) <= _SAME}
        more = (seed for seed in count(run.spec.seed) if seed not in near)
        wanted = list(islice(more, max(0, seeds - len(near))))
        found += curve_specs(run, [share], wanted) if wanted else []
    return found


def curve_jobs(evaluation: Evaluation, states: Collection[str] = UNDER_WAY) -> list[Job]:
    """The jobs in these states (not over yet) of the trainings and evaluations of an evaluation's curve, in the queue's order."""
    run = get_run(evaluation.spec.arm.run or "")
    named = re.compile(re.escape(run.name or run.run_id) + r"(, \d+% of the rows)?(, seed \d+)?")
    runs = {r.run_id for r in list_runs() if r.run_id != run.run_id and named.fullmatch(r.name)}
    subjects = runs | {e.evaluation_id for e in list_evaluations(evaluation.spec.dataset) if e.spec.arm.run in runs}
    return [job for job in list_jobs(states) if job.subject in subjects]
