"""Enough data? A learning curve from runs on growing parts of the data, and what twice the data would be expected to bring.

The error (1 - score) is taken to fall as a power of the number of training rows (Cortes et al. 1993; Hestness et al. 2017),
a straight line in logarithms, fitted to each resample of the test rows. Where a size was trained with several seeds its
score is their mean, and the spread between seeds, pooled over the sizes in logarithms of the error, is drawn beside the test rows
(Student's t for the few seeds that tell it); with one seed a size its chance can't be told, which is said.
Scores from 0 to 100 (BLEU, chrF) are fitted as shares of 100. Knows nothing of training.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from core.errors import UserError
from core.evaluation import artefacts
from core.evaluation.common import positions
from core.evaluation.metrics.names import PERCENT
from core.evaluation.metrics.rows import Floats, Statistics, align
from core.evaluation.resampling import RESAMPLES, SEED, bootstrap_sums
from core.evaluation.scoring import LOWER_IS_BETTER, metrics_of
from core.evaluation.statistics import Interval, interval_of
from core.evaluation.unvaried import evidence
from core.evaluation.verdict import NAMES
from core.records import Evaluation, Run, TrainSpec

_LEAST_ERROR = 1e-4
COSTS = LOWER_IS_BETTER | {"tokens_per_second"}
"""Metrics that are no score: how unlikely gold is, and what answers cost."""
_FREE = {
    "name", "data", "dev", "max_steps", "seed", "log_every", "eval_every", "eval_rows", "eval_max_new_tokens", "save_every",
    "keep_checkpoints", "report_to", "launch_backend", "gpus", "micro_batch_size", "gradient_checkpointing", "packing",
}  # fmt: skip
"""Of a spec, what may differ between the trainings of one curve."""


@dataclass(frozen=True)
class Point:
    """A size: training rows, mean score of its trainings and its interval; ``runs``: the score of each."""

    rows: int
    score: float
    low: float
    high: float
    runs: tuple[float, ...] = ()


@dataclass(frozen=True)
class LearningCurve:
    """Scores over training rows, and the score expected with ``expected_rows``.

    ``gain`` is expected minus the score at most rows. ``exponent``: the error falls with rows to the minus this power.
    ``between_seeds``: standard deviation of the score between trainings on most rows that differ by their seed; none where
    no size was trained with two.
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
    between_seeds: float | None = None

    @property
    def top(self) -> float:
        """The best score there can be."""
        return _top(self.metric)

    @property
    def sentence(self) -> str:
        """The finding in words, and what its intervals hold."""
        return f"{self._finding} {self.seeds_sentence}"

    @property
    def seeds_sentence(self) -> str:
        """Whether the chance of another training seed is in the intervals, and how large it is."""
        if self.between_seeds is None:
            return "Each size was trained with one seed: what another seed would change is not in these intervals."
        counts = [len(point.runs) for point in self.points]
        many = f"{min(counts)}" if min(counts) == max(counts) else f"{min(counts)} to {max(counts)}"
        return (
            "The spread between training seeds is in these intervals: a standard deviation of "
            f"{self._said(self.between_seeds)} at {self.points[-1].rows:,} rows, from {many} trainings a size."
        )

    @property
    def _finding(self) -> str:
        low, high = self.gain_interval
        change = f"{self._said(self.gain, '+')} [{self._said(low, '+')}, {self._said(high, '+')}]"
        name = NAMES.get(self.metric, self.metric.replace("_", " "))
        what = f"{self.expected_rows:,} training rows would be expected to reach {name} {self._said(self.expected)}"
        if low > 0.005 * self.top:
            return f"More data should help: {what}, {change} against {self.points[-1].rows:,} rows."
        if high < 0.02 * self.top:
            return f"More data would bring little: {what}, {change} against {self.points[-1].rows:,} rows."
        return f"Whether more data would help is open: {what}, {change} against {self.points[-1].rows:,} rows."

    def _said(self, value: float, sign: str = "") -> str:
        return f"{value:{sign}.{1 if self.top > 1 else 3}f}"


def learning_curve(runs: Sequence[tuple[int, str]], metric: str = "micro_f1", *, factor: float = 2.0) -> LearningCurve:
    """The curve through (training rows, evaluation) pairs on their common test rows; ``metric``: a score with a best value.

    Pairs of the same size are trainings with different seeds. UserError for fewer than two sizes, no common rows, or a metric
    that isn't there or has no best value (perplexity, what a request costs).
    """
    ordered = sorted(runs)
    sizes = sorted({rows for rows, _ in ordered})
    if len(sizes) < 2:
        raise UserError("A learning curve needs runs on at least two sizes of data", "Train on 25 %, 50 % and 100 % of the rows.")
    statistics = _common([evaluation_id for _, evaluation_id in ordered])
    measures = metrics_of(statistics[0].names)
    if metric not in measures:
        raise UserError(f"These evaluations have no metric {metric!r}", f"They have: {', '.join(sorted(measures))}.")
    if metric in COSTS:
        raise UserError(f"{metric} has no best value that it could near", "Take a score, such as exact_match.")
    measure, top = measures[metric], _top(metric)
    each = np.array([float(measure(s.sums())) for s in statistics]) / top
    drawn = np.stack([measure(bootstrap_sums(s, RESAMPLES, SEED)) for s in statistics], axis=1) / top
    drawn, alike = _doubted(drawn, each, [evidence(metric, s) for s in statistics])
    places = [[i for i, (rows, _) in enumerate(ordered) if rows == size] for size in sizes]
    values = np.array([each[place].mean() for place in places])
    samples = np.stack([drawn[:, place].mean(axis=1) for place in places], axis=1)
    spread, freedom = _seed_spread([each[place] for place in places])
    if freedom:
        samples = _with_seeds(samples, spread, freedom, np.array([len(place) for place in places]))
    target = sizes[-1] * factor
    expected, exponent = _extrapolated(np.array(sizes, float), values[None, :], target)
    ahead, _ = _extrapolated(np.array(sizes, float), samples, target)
    value, last = float(expected[0]), float(values[-1])
    ends = [interval_of(samples[:, i], float(v)) for i, v in enumerate(values)]
    ends = [
        Interval(min(e.low, v), max(e.high, v)) if alike[p].any() else e for e, v, p in zip(ends, values, places, strict=True)
    ]
    points = tuple(
        Point(rows, top * float(v), *_times(top, end), tuple((top * each[place]).tolist()))
        for rows, v, end, place in zip(sizes, values, ends, places, strict=True)
    )
    return LearningCurve(
        metric=metric,
        test_rows=statistics[0].rows,
        points=points,
        expected_rows=round(target),
        expected=top * value,
        expected_interval=_times(top, interval_of(ahead, value)),
        gain=top * (value - last),
        gain_interval=_times(top, interval_of(ahead - samples[:, -1], value - last)),
        exponent=float(exponent[0]),
        between_seeds=top * spread * (1 - last) if freedom else None,
    )


def _top(metric: str) -> float:
    return 100.0 if metric in PERCENT else 1.0


def _times(factor: float, ends: Interval) -> Interval:
    return Interval(factor * ends.low, factor * ends.high)


def _doubted(drawn: Floats, scores: Floats, rows: Sequence[int]) -> tuple[Floats, npt.NDArray[np.bool_]]:
    """Resamples (resamples x evaluations), and which had no spread: these are drawn from what so many rows that are right or
    wrong leave open (Jeffreys' beta distribution), since test rows that are all alike, all wrong say, are no certainty."""
    alike = np.ptp(drawn, axis=0) < 1e-12
    rng = np.random.default_rng(SEED + 2)
    found = drawn.copy()
    for place in np.flatnonzero(alike).tolist():
        right = scores[place] * rows[place]
        found[:, place] = rng.beta(right + 0.5, rows[place] - right + 0.5, len(drawn))
    return found, alike


def _seed_spread(groups: Sequence[Floats]) -> tuple[float, int]:
    """Pooled standard deviation of the logarithm of the error between seeds of the same size, and its degrees of freedom."""
    errors = [np.log(np.maximum(1 - scores, _LEAST_ERROR)) for scores in groups]
    freedom = sum(len(scores) - 1 for scores in errors)
    squares = sum(float(((e - e.mean()) ** 2).sum()) for e in errors)
    return (float(np.sqrt(squares / freedom)) if freedom else 0.0), freedom


def _with_seeds(samples: Floats, spread: float, freedom: int, seeds: npt.NDArray[np.int_]) -> Floats:
    """Samples (resamples x sizes) of means over ``seeds`` trainings, moved by the chance of which seeds were drawn."""
    rng = np.random.default_rng(SEED + 1)
    scale = spread * np.sqrt(freedom / rng.chisquare(freedom, (len(samples), 1)))  # one unknown spread for all sizes
    moved = np.log(np.maximum(1 - samples, _LEAST_ERROR)) + scale * rng.standard_normal(samples.shape) / np.sqrt(seeds)
    found: Floats = 1 - np.exp(np.minimum(moved, 0.0))
    return found


def curve_candidates(evaluation: Evaluation, others: Iterable[Evaluation], runs: Iterable[Run]) -> list[tuple[int, str]]:
    """(training rows, evaluation) pairs that lie on one curve with an evaluation of a run: other sizes or seeds.

    The same rows asked, the same base model, method, template and data, whatever part of it; of each size and seed the newest.
    """
    return sorted((rows, key) for (rows, _), key in curve_trainings(evaluation, others, runs).items())


def curve_trainings(evaluation: Evaluation, others: Iterable[Evaluation], runs: Iterable[Run]) -> dict[tuple[int, int], str]:
    """The evaluations of ``curve_candidates`` by training rows and seed."""
    by_id = {run.run_id: run for run in runs}
    mine = by_id.get(evaluation.spec.arm.run or "")
    if mine is None:
        return {}
    found = {(mine.trained_rows, mine.spec.seed): evaluation.evaluation_id}
    for other in others:
        run = by_id.get(other.spec.arm.run or "")
        if run is not None and other.complete and _place(other) == _place(evaluation) and _recipe(run) == _recipe(mine):
            found.setdefault((run.trained_rows, run.spec.seed), other.evaluation_id)
    return found


def curve_specs(run: Run, shares: Sequence[float] = (0.25, 0.5), seeds: Sequence[int] = ()) -> list[TrainSpec]:
    """Specs of the same training on the first parts of its rows, each with every seed (none given: the run's own).

    All of the rows (1) with the run's own seed is the run itself and left out.
    """
    found = []
    for share in shares:
        part = max(1, round(run.trained_rows * share))
        total = sum(use.weight for use in run.spec.data)
        uses = tuple(use.model_copy(update={"limit": max(1, round(part * use.weight / total))}) for use in run.spec.data)
        for seed in seeds or (run.spec.seed,):
            if share == 1 and seed == run.spec.seed:
                continue
            changes: dict[str, object] = {"seed": seed, "name": curve_name(run, share, seed)}
            if share < 1:
                changes["data"] = uses
                if run.spec.max_steps is not None:  # as many epochs, so a part of the steps
                    changes["max_steps"] = max(1, round(run.spec.max_steps * share))
            found.append(run.spec.model_copy(update=changes))
    return found


def curve_name(run: Run, share: float, seed: int) -> str:
    """What a training for a run's curve is called."""
    part = f", {share:.0%} of the rows" if share < 1 else ""
    return f"{run.name or run.run_id}{part}" + (f", seed {seed}" if seed != run.spec.seed else "")


def _place(evaluation: Evaluation) -> tuple[object, ...]:
    spec = evaluation.spec
    return spec.dataset, evaluation.version, spec.split, spec.limit, evaluation.template.ref


def _recipe(run: Run) -> dict[str, object]:
    """What must be equal on one curve: all that decides what is learnt but rows, the steps that go with them, and the seed."""
    spec = run.spec.model_dump(exclude=_FREE)
    return {**spec, "uses": tuple((use.dataset, use.split, use.weight) for use in run.spec.data)}


def _common(evaluation_ids: Sequence[str]) -> list[Statistics]:
    """Statistics of the rows that all evaluations have, in one order and with the same columns."""
    read = [artefacts.read_statistics(evaluation_id) for evaluation_id in evaluation_ids]
    common = set(read[0][0]).intersection(*(row_ids for row_ids, _ in read[1:]))
    kept = [row_id for row_id in read[0][0] if row_id in common]
    if not kept:
        raise UserError("These evaluations have no row in common", "Evaluate all runs on the same split of the same version.")
    found = []
    for row_ids, statistics in read:
        found.append(statistics.take(positions(row_ids, kept)))
    return align(found)


def _extrapolated(sizes: Floats, scores: Floats, target: float) -> tuple[Floats, Floats]:
    """Score at ``target`` rows and the exponent, for each line of ``scores`` (lines x sizes), by least squares in logarithms."""
    x, y = np.log(sizes), np.log(np.maximum(1 - scores, _LEAST_ERROR))
    centred = x - x.mean()
    slope = (y * centred).sum(axis=1) / (centred**2).sum()
    level = y.mean(axis=1) + slope * (np.log(target) - x.mean())
    return 1 - np.exp(level), -slope
