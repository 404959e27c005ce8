"""Intervals of scores that no resample changes: rows that are all alike (all right, all wrong, no row that differs).

A bootstrap of such rows has no width and reads as certainty, on 6 rows as on 6,000. There each row that the score comes from
counts as one row that is right or wrong, with Wilson's interval, and of a difference with Tango's: wide on few rows, narrow on
many. Only for scores that have a least and a greatest value. Knows nothing of how resamples are drawn.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from core.evaluation.metrics.rows import Statistics
from core.evaluation.statistics import Difference, Interval, rate_difference, wilson

_PERCENT = ("bleu", "chrf")
_MEANS = ("balanced_accuracy", "rouge_l")
_COUNTED = {
    "precision": ("predicted", "said"),
    "recall": ("gold", "is"),
    "f1": ("predicted", "said", "gold", "is"),
}
_NONE = 1e-12


def widened(
    found: Mapping[str, Interval], scores: Mapping[str, float], statistics: Statistics, units: int | None = None
) -> dict[str, Interval]:
    """The intervals, those without any width replaced by Wilson's; scores without bounds (seconds, perplexity) as they are.

    ``units``: how many independent pieces of evidence the rows are, if not as many.
    """
    ends = dict(found)
    for name, (low, high) in found.items():
        top = _top(name)
        if top and name in scores and high - low < _NONE:
            total = evidence(name, statistics) * _weight(statistics, units)
            ends[name] = Interval(*(top * end for end in wilson(scores[name] / top * total, total)))
    return ends


def widened_differences(
    found: Mapping[str, Difference], left: Statistics, right: Statistics, units: int | None = None
) -> dict[str, Difference]:
    """Differences of right and left (the same rows), those without any width with Tango's interval; p is as it was."""
    ends = dict(found)
    for name, difference in found.items():
        top = _top(name)
        if top and difference.high - difference.low < _NONE:
            total = evidence(name, left, right) * _weight(left, units)
            change = difference.value / top * total
            low, high = rate_difference(max(-change, 0.0), max(change, 0.0), total)
            ends[name] = difference._replace(low=top * low, high=top * high)
    return ends


def evidence(name: str, *arms: Statistics) -> int:
    """The rows that a score comes from: those with gold or predicted pairs (of its element, its label) in one of the arms."""
    metric, _, label = name.partition(":")
    part = next((part for part in _COUNTED if metric.endswith(part)), "")
    there = np.zeros(arms[0].rows, bool)
    kinds = set(_COUNTED.get(part, ()))
    kinds |= {f"repaired_{kind}" for kind in kinds} if metric.startswith("repaired_") else set()
    for arm in arms:
        named = [n.partition(":") for n in arm.names]
        columns = [i for i, (kind, _, of) in enumerate(named) if kind in kinds and (not label or of == label)]
        there |= (arm.values[:, columns] > 0).any(axis=1) if part else True
    return int(there.sum())


def _top(name: str) -> float:
    """The greatest value of a score; 0 for one without bounds."""
    metric = name.partition(":")[0]
    if metric in _PERCENT:
        return 100.0
    return 1.0 if metric in _MEANS or metric.endswith(tuple(_COUNTED)) else 0.0


def _weight(statistics: Statistics, units: int | None) -> float:
    return 1.0 if units is None or not statistics.rows else units / statistics.rows
