"""How sure a score or a difference is: intervals, paired tests, corrections, sample sizes.

Works on row statistics (``core.evaluation.metrics.rows``) and metrics as functions of their sums; knows nothing of what
the metrics mean. Sources: bootstrap (Efron & Tibshirani 1993, ch. 13-14; paired for text scores: Koehn 2004),
approximate randomisation (Noreen 1989; Riezler & Maxwell 2005), McNemar 1947 (exact form), Holm 1979, Wilson 1927,
score interval of paired rates (Tango 1998).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any, Literal, NamedTuple, TypedDict, Unpack

import numpy as np
import numpy.typing as npt

from core.evaluation.metrics.rows import Floats, Metric, Statistics, align
from core.evaluation.resampling import (
    RESAMPLES,
    SEED,
    bootstrap_sums,
    by_cluster,
    jackknife_sums,
    joint_sums,
    swapped_sums,
)

LEVEL = 0.95
Method = Literal["percentile", "bca"]
_NORMAL = NormalDist()


class Interval(NamedTuple):
    """The ends of a confidence interval."""

    low: float
    high: float


class Difference(NamedTuple):
    """Right minus left: the value, its interval, and the two-sided p of no difference."""

    value: float
    low: float
    high: float
    p: float


class Options(TypedDict, total=False):
    """How it is resampled. ``clusters``: one label a row; whole clusters are resampled then."""

    level: float
    method: Method
    resamples: int
    seed: int
    clusters: Sequence[Any] | None


@dataclass(frozen=True)
class _Chosen:
    """``Options`` with what stands where nothing was said."""

    level: float = LEVEL
    method: Method = "percentile"
    resamples: int = RESAMPLES
    seed: int = SEED
    clusters: Sequence[Any] | None = None

    def units(self, statistics: Statistics) -> Statistics:
        """What is resampled: rows, or clusters of them."""
        return statistics if self.clusters is None else by_cluster(statistics, self.clusters)


def intervals(statistics: Statistics, metrics: Mapping[str, Metric], **options: Unpack[Options]) -> dict[str, Interval]:
    """A bootstrap interval of each metric. Metrics without a value on all rows are left out."""
    chosen = _Chosen(**options)
    units = chosen.units(statistics)
    if units.rows == 0 or not metrics:
        return {}
    samples = bootstrap_sums(units, chosen.resamples, chosen.seed)
    total = units.sums()
    left_out = jackknife_sums(units) if chosen.method == "bca" else None
    found = {}
    for name, metric in metrics.items():
        value = float(metric(total))
        if math.isnan(value):
            continue
        folds = metric(left_out) if left_out is not None else None
        found[name] = interval_of(metric(samples), value, chosen.level, folds)
    return found


def paired(
    left: Statistics, right: Statistics, metrics: Mapping[str, Metric], **options: Unpack[Options]
) -> dict[str, Difference]:
    """Right minus left on the same rows, for each metric: paired bootstrap interval, p by approximate randomisation.

    Both arms are resampled with the same rows. ValueError if they don't have as many rows.
    Metrics that either arm has no value of are left out.
    """
    if left.rows != right.rows:
        raise ValueError(f"paired arms have {left.rows} and {right.rows} rows")
    _, (differences,) = several([left, right], metrics, **options)
    return differences


def several(
    arms: Sequence[Statistics], metrics: Mapping[str, Metric], **options: Unpack[Options]
) -> tuple[list[dict[str, Interval]], list[dict[str, Difference]]]:
    """Intervals of each arm, and ``paired`` of each later arm against the first, all from the same resamples of the rows."""
    chosen = _Chosen(**options)
    arms = [chosen.units(arm) for arm in align(arms)]
    if arms[0].rows == 0:
        return [{} for _ in arms], [{} for _ in arms[1:]]
    values = [{name: float(metric(arm.sums())) for name, metric in metrics.items()} for arm in arms]
    sums = joint_sums(arms, chosen.resamples, chosen.seed)
    drawn = [{name: metric(mine) for name, metric in metrics.items()} for mine in sums]
    folds: list[dict[str, Floats]] = [{} for _ in arms]
    if chosen.method == "bca":
        folds = [{name: metric(jackknife_sums(arm)) for name, metric in metrics.items()} for arm in arms]
    ends = [
        {name: interval_of(d[name], v[name], chosen.level, f.get(name)) for name in metrics if not math.isnan(v[name])}
        for d, v, f in zip(drawn, values, folds, strict=True)
    ]
    differences = []
    for i, arm in enumerate(arms[1:], 1):
        left, right = swapped_sums(arms[0], arm, chosen.resamples, chosen.seed)
        found = {}
        for name, metric in metrics.items():
            value = values[i][name] - values[0][name]
            if not math.isnan(value):
                change = folds[i][name] - folds[0][name] if name in folds[i] else None
                low, high = interval_of(drawn[i][name] - drawn[0][name], value, chosen.level, change)
                found[name] = Difference(value, low, high, randomisation_p(metric(right) - metric(left), value))
        differences.append(found)
    return ends, differences


def interval_of(samples: Floats, value: float, level: float = LEVEL, folds: Floats | None = None) -> Interval:
    """The interval of resampled values: percentiles, or BCa when the leave-one-out ``folds`` are given.

    ``samples`` that are not a number (a resample without anything to score) are left out.
    """
    samples = samples[~np.isnan(samples)]
    if samples.size == 0:
        return Interval(math.nan, math.nan)
    tails = [(1 - level) / 2, (1 + level) / 2]
    if folds is not None:
        tails = _bca_tails(samples, value, folds, tails)
    low, high = np.quantile(samples, tails)
    return Interval(float(low), float(high))


def _bca_tails(samples: Floats, value: float, folds: Floats, tails: list[float]) -> list[float]:
    """Which percentiles bound the bias-corrected and accelerated interval (Efron & Tibshirani 1993, eq. 14.10)."""
    below = (np.count_nonzero(samples < value) + 0.5 * np.count_nonzero(samples == value)) / samples.size
    spread = np.nanmean(folds) - folds[~np.isnan(folds)]
    cubes, squares = float((spread**3).sum()), float((spread**2).sum())
    if not 0 < below < 1 or squares == 0:
        return tails
    acceleration = cubes / (6 * squares**1.5)
    bias = _NORMAL.inv_cdf(float(below))
    moved = []
    for tail in tails:
        z = bias + _NORMAL.inv_cdf(tail)
        moved.append(_NORMAL.cdf(bias + z / (1 - acceleration * z)))
    return moved


def randomisation_p(swapped: Floats, value: float) -> float:
    """Two-sided mid-p: how often a random swap of the arms' answers differs more, and half as often as much; never 0.

    Half, because a share of rows takes few values: counted whole, ties made the test give 3 false alarms in 100 at 60 rows
    where 5 are promised (Lancaster 1961 on mid-p). What was observed counts as one swap. Arms without a difference get 1.
    """
    if abs(value) <= 1e-12:
        return 1.0  # no swap can differ less: half of them would say 0.5 of two arms that are the same
    sizes = np.abs(swapped[~np.isnan(swapped)])
    more = int(np.count_nonzero(sizes > abs(value) + 1e-12))
    as_much = int(np.count_nonzero(sizes >= abs(value) - 1e-12)) - more
    return (more + 0.5 * (1 + as_much)) / (1 + sizes.size)


def least_rows(looks: int = 1, *, level: float = LEVEL) -> int:
    """Independent rows from which on ``randomisation_p`` can tell: with fewer it isn't clear even if all differ alike.

    Two of the 2ⁿ swaps of n rows differ as much then, of which mid-p counts half, times the ``looks`` that are corrected for.
    """
    return math.floor(math.log2(looks / (1 - level)) + 1e-9) + 1


def mcnemar(left: npt.ArrayLike, right: npt.ArrayLike) -> float:
    """Exact two-sided p that both arms are right equally often, from one true/false a row (binomial, half)."""
    a, b = np.asarray(left, bool), np.asarray(right, bool)
    gained, lost = int((b & ~a).sum()), int((a & ~b).sum())
    return binomial_p(min(gained, lost), gained + lost)


def binomial_p(fewer: int, total: int) -> float:
    """Two-sided p of ``fewer`` or less, or as many on the other side, of ``total`` fair tosses; 1 if there are none."""
    if total == 0:
        return 1.0
    log_half = total * math.log(2)
    choose = (math.lgamma(total + 1) - math.lgamma(k + 1) - math.lgamma(total - k + 1) for k in range(fewer + 1))
    return min(1.0, 2 * math.fsum(math.exp(c - log_half) for c in choose))


def holm(p_values: Sequence[float]) -> list[float]:
    """p values adjusted for several looks (step-down), in the given order."""
    order = sorted(range(len(p_values)), key=lambda i: p_values[i])
    adjusted, floor = [0.0] * len(p_values), 0.0
    for place, i in enumerate(order):
        floor = max(floor, min(1.0, (len(p_values) - place) * p_values[i]))
        adjusted[i] = floor
    return adjusted


def wilson(successes: float, total: float, level: float = LEVEL) -> Interval:
    """Interval of a rate; sound near 0 and 1 and on few rows. (0, 1) when there is no row."""
    if total == 0:
        return Interval(0.0, 1.0)
    z = _NORMAL.inv_cdf((1 + level) / 2)
    rate = successes / total
    middle = (rate + z * z / (2 * total)) / (1 + z * z / total)
    half = z / (1 + z * z / total) * math.sqrt(rate * (1 - rate) / total + z * z / (4 * total * total))
    return Interval(max(0.0, middle - half), min(1.0, middle + half))


def rate_difference(lost: float, gained: float, total: float, level: float = LEVEL) -> Interval:
    """Interval of a rate's change on the same rows, ``(gained - lost) / total``: Tango's score interval (Stat. Med. 17, 1998).

    ``lost``: rows that were right only before, ``gained``: only after; they may be parts of rows. Sound on few rows, and when
    no row differs, where resampling sees no doubt at all. It leaves out 0 where McNemar's asymptotic test does. (-1, 1) when
    there is no row.
    """
    if total == 0:
        return Interval(-1.0, 1.0)
    z, change = _NORMAL.inv_cdf((1 + level) / 2), gained - lost

    def accepted(delta: float) -> bool:
        """Whether the score test holds the difference ``delta`` for possible."""
        # the likeliest share q of lost rows, given delta, solves 2 total q² + b q + c = 0
        b = delta * (2 * total + lost - gained) - lost - gained
        c = -lost * delta * (1 - delta)
        q = (math.sqrt(max(0.0, b * b - 8 * total * c)) - b) / (4 * total)
        return (change - total * delta) ** 2 <= z * z * total * max(0.0, 2 * q + delta * (1 - delta))

    ends = []
    for outside in (-1.0, 1.0):
        inside = change / total
        for _ in range(60):
            middle = (inside + outside) / 2
            inside, outside = (middle, outside) if accepted(middle) else (inside, middle)
        ends.append(inside)
    return Interval(*ends)


def quantile_interval(values: npt.ArrayLike, share: float, level: float = LEVEL) -> Interval:
    """Interval of a quantile from the ranks around it, whatever the distribution (David & Nagaraja 2003, 7.1).

    ``values``: shape (rows,), one at least. On few rows an end of an outer quantile is the least or greatest value.
    """
    ordered = np.sort(np.asarray(values, dtype=np.float64))
    total, tail = len(ordered), (1 - level) / 2
    places = np.arange(total + 1)
    choose = math.lgamma(total + 1) - np.array([math.lgamma(k + 1) + math.lgamma(total - k + 1) for k in places])
    below = np.cumsum(np.exp(choose + places * math.log(share) + (total - places) * math.log1p(-share)))  # P(X <= k)
    low = int(np.searchsorted(below, tail, side="right"))  # how many k have P(X <= k) <= tail
    high = int(np.searchsorted(below, 1 - tail, side="left")) + 1  # P(X >= high) <= tail
    return Interval(float(ordered[max(0, low - 1)]), float(ordered[min(total, high) - 1]))


def rows_needed(difference: float, standard_error: float, rows: int, *, level: float = LEVEL, power: float = 0.8) -> int | None:
    """Rows for which a difference of this size would be seen with ``power``, from its standard error on ``rows`` rows.

    The error falls with the root of the rows: n = rows · ((z_level + z_power) · se / difference)². None for no difference.
    """
    if difference == 0 or not math.isfinite(difference):
        return None
    z = _NORMAL.inv_cdf((1 + level) / 2) + _NORMAL.inv_cdf(power)
    return max(1, math.ceil(rows * (z * standard_error / difference) ** 2))
