"""Enough data? A learning curve from runs on growing parts of the data, and what twice the data would be expected to bring.

The error (1 - score) is taken to fall as a power of the number of training rows (Cortes et al. 1993; Hestness et al. 2017),
a straight line in logarithms, fitted to each resample of the test rows. The interval holds the test rows'
chance, not that of another training seed. Knows nothing of training.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from core.errors import UserError
from core.evaluation import artefacts
from core.evaluation.metrics.rows import Floats, Statistics, align
from core.evaluation.resampling import RESAMPLES, SEED, bootstrap_sums
from core.evaluation.scoring import metrics_of
from core.evaluation.statistics import Interval, interval_of
from core.records import Evaluation, Run, TrainSpec

_LEAST_ERROR = 1e-4


@dataclass(frozen=True)
class Point:
    """A run: training rows, score and its interval."""

    rows: int
    score: float
    low: float
    high: float


@dataclass(frozen=True)
class LearningCurve:
    """Scores over training rows, and the score expected with ``expected_rows``.

    ``gain`` is expected minus the score at most rows. ``exponent``: the error falls with rows to the minus this power.
    """

    metric: str
    test_rows: int
    points: tuple[Point, ...]
    expected_rows: int
    expected: float
    expected_interval: Interval
    gain: float
    gain_interval: Interval
    exponent: float

    @property
    def sentence(self) -> str:
        """The finding in words."""
        change = f"{self.gain:+.3f} [{self.gain_interval.low:+.3f}, {self.gain_interval.high:+.3f}]"
        what = f"{self.expected_rows:,} training rows would be expected to reach {self.metric} {self.expected:.3f}"
        if self.gain_interval.low > 0.005:
            return f"More data should help: {what}, {change} against {self.points[-1].rows:,} rows."
        if self.gain_interval.high < 0.02:
            return f"More data would bring little: {what}, {change} against {self.points[-1].rows:,} rows."
        return f"Whether more data would help is open: {what}, {change} against {self.points[-1].rows:,} rows."


def learning_curve(runs: Sequence[tuple[int, str]], metric: str = "micro_f1", *, factor: float = 2.0) -> LearningCurve:
    """The curve through (training rows, evaluation) pairs on their common test rows; ``metric`` is a share, 0 to 1.

    UserError for fewer than two sizes, no common rows, or a metric that isn't there.
    """
    ordered = sorted(runs)
    sizes = np.array([rows for rows, _ in ordered], float)
    if len(set(sizes.tolist())) < 2:
        raise UserError("A learning curve needs runs on at least two sizes of data", "Train on 25 %, 50 % and 100 % of the rows.")
    statistics = _common([evaluation_id for _, evaluation_id in ordered])
    measures = metrics_of(statistics[0].names)
    if metric not in measures:
        raise UserError(f"These evaluations have no metric {metric!r}", f"They have: {', '.join(sorted(measures))}.")
    measure = measures[metric]
    values = np.array([float(measure(s.sums())) for s in statistics])
    samples = np.stack([measure(bootstrap_sums(s, RESAMPLES, SEED)) for s in statistics], axis=1)
    target = sizes[-1] * factor
    expected, exponent = _extrapolated(sizes, values[None, :], target)
    drawn, _ = _extrapolated(sizes, samples, target)
    value, last = float(expected[0]), float(values[-1])
    points = tuple(
        Point(rows, float(v), *interval_of(samples[:, i], float(v)))
        for i, ((rows, _), v) in enumerate(zip(ordered, values, strict=True))
    )
    return LearningCurve(
        metric=metric,
        test_rows=statistics[0].rows,
        points=points,
        expected_rows=round(target),
        expected=value,
        expected_interval=interval_of(drawn, value),
        gain=value - last,
        gain_interval=interval_of(drawn - samples[:, -1], value - last),
        exponent=float(exponent[0]),
    )


def curve_candidates(evaluation: Evaluation, others: Iterable[Evaluation], runs: Iterable[Run]) -> list[tuple[int, str]]:
    """(training rows, evaluation) pairs that lie on one curve with an evaluation of a run: the same question, other sizes.

    The same rows asked, the same base model, method, template and data, whatever part of it; of each size the newest.
    """
    by_id = {run.run_id: run for run in runs}
    mine = by_id.get(evaluation.spec.arm.run or "")
    if mine is None:
        return []
    found: dict[int, str] = {mine.trained_rows: evaluation.evaluation_id}
    for other in others:
        run = by_id.get(other.spec.arm.run or "")
        if run is not None and other.complete and _place(other) == _place(evaluation) and _recipe(run) == _recipe(mine):
            found.setdefault(run.trained_rows, other.evaluation_id)
    return sorted(found.items())


def smaller_specs(run: Run, shares: Sequence[float] = (0.25, 0.5)) -> list[TrainSpec]:
    """Specs of the same training on the first parts of its rows, for a learning curve; the largest size is the run itself."""
    found = []
    for share in shares:
        part = max(1, round(run.trained_rows * share))
        total = sum(use.weight for use in run.spec.data)
        uses = tuple(use.model_copy(update={"limit": max(1, round(part * use.weight / total))}) for use in run.spec.data)
        changes: dict[str, object] = {"data": uses, "name": f"{run.name or run.run_id}, {share:.0%} of the rows"}
        if run.spec.max_steps is not None:  # as many epochs, so a part of the steps
            changes["max_steps"] = max(1, round(run.spec.max_steps * share))
        found.append(run.spec.model_copy(update=changes))
    return found


def _place(evaluation: Evaluation) -> tuple[object, ...]:
    spec = evaluation.spec
    return spec.dataset, evaluation.version, spec.split, spec.limit, evaluation.template.ref


def _recipe(run: Run) -> tuple[object, ...]:
    spec = run.spec
    return spec.model, spec.method, spec.template, tuple((use.dataset, use.split) for use in spec.data)


def _common(evaluation_ids: Sequence[str]) -> list[Statistics]:
    """Statistics of the rows that all evaluations have, in one order and with the same columns."""
    read = [artefacts.read_statistics(evaluation_id) for evaluation_id in evaluation_ids]
    common = set(read[0][0]).intersection(*(row_ids for row_ids, _ in read[1:]))
    kept = [row_id for row_id in read[0][0] if row_id in common]
    if not kept:
        raise UserError("These evaluations have no row in common", "Evaluate all runs on the same split of the same version.")
    found = []
    for row_ids, statistics in read:
        place = {row_id: i for i, row_id in enumerate(row_ids)}
        found.append(statistics.take(np.array([place[row_id] for row_id in kept])))
    return align(found)


def _extrapolated(sizes: Floats, scores: Floats, target: float) -> tuple[Floats, Floats]:
    """Score at ``target`` rows and the exponent, for each line of ``scores`` (lines x sizes), by least squares in logarithms."""
    x, y = np.log(sizes), np.log(np.maximum(1 - scores, _LEAST_ERROR))
    centred = x - x.mean()
    slope = (y * centred).sum(axis=1) / (centred**2).sum()
    level = y.mean(axis=1) + slope * (np.log(target) - x.mean())
    return 1 - np.exp(level), -slope
