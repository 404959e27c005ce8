"""Where an arm does badly: scores of groups of rows against the rest, the worst first, corrected for many looks.

A slice is the rows with one value in one column (source, language, input length, number of gold values, an element that gold has,
any column of the data), or in two columns at once. Knows nothing of how rows were answered.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from core.data.answers import parse_answer
from core.errors import UserError
from core.evaluation import artefacts
from core.evaluation.metrics import extraction
from core.evaluation.metrics.generation import has_han
from core.evaluation.metrics.rows import Floats, Metric, Statistics, Sums
from core.evaluation.scoring import LOWER_IS_BETTER, metrics_of, score_intervals
from core.evaluation.statistics import holm
from core.records import Evaluation
from core.store.datasets import read_rows
from core.store.runs import get_evaluation

Mask = npt.NDArray[np.bool_]
MIN_ROWS = 8
SHUFFLES = 4000
Values = Sequence[str | tuple[str, ...]]
"""A column's value in each row; a tuple: the row is in the slice of each of them."""
MAX_VALUES = 30
"""A column of the data with more values than this isn't sliced by."""
_CELLS = 500_000
"""Places of shuffled rows held at once: they stay in the cache."""


@dataclass(frozen=True)
class Slice:
    """A group of rows. ``difference`` is its score minus that of the rest; ``p_adjusted`` is Holm's over all slices looked at."""

    column: str
    value: str
    rows: int
    score: float
    low: float
    high: float
    rest: float
    difference: float
    p: float
    p_adjusted: float
    row_ids: tuple[str, ...]


def slices(
    evaluation_id: str,
    metric: str,
    *,
    columns: Mapping[str, Values] | None = None,
    depth: int = 1,
    min_rows: int = MIN_ROWS,
) -> list[Slice]:
    """Slices of a complete evaluation, the worst first.

    ``columns``: values of each row to slice by, in the order of its predictions; none: ``slice_columns``. ``depth`` 2 looks at
    pairs of columns, too. Rows without any gold value are no slice of an F1. p: how often a random group of that size differs
    from the rest at least as much. UserError for a metric that this evaluation doesn't have.
    """
    row_ids, statistics = artefacts.read_statistics(evaluation_id)
    metrics = metrics_of(statistics.names)
    if metric not in metrics:
        raise UserError(f"Evaluation {evaluation_id!r} has no metric {metric!r}", f"It has: {', '.join(sorted(metrics))}.")
    by = slice_columns(get_evaluation(evaluation_id)) if columns is None else columns
    groups = [group for group in _groups(by, statistics.rows, depth, min_rows) if _measurable(statistics, metric, group[2])]
    needed, measure = _narrowed(statistics, metric, metrics[metric])
    tested = _tested(needed, measure, [mask for _, _, mask in groups])
    adjusted = holm([p for _, _, p in tested])
    found = []
    for (column, value, mask), (score, rest, p), p_adjusted in zip(groups, tested, adjusted, strict=True):
        ends = score_intervals(needed.take(mask), {metric: measure}).get(metric, (score, score))
        named = tuple(row_id for row_id, inside in zip(row_ids, mask.tolist(), strict=True) if inside)
        found.append(Slice(column, value, int(mask.sum()), score, *ends, rest, score - rest, p, p_adjusted, named))
    sign = -1 if metric in LOWER_IS_BETTER else 1
    return sorted(found, key=lambda s: (sign * s.difference, s.p))


def slice_columns(evaluation: Evaluation) -> dict[str, Values]:
    """What rows are sliced by when nothing is said: source, language, lengths, gold values and elements, columns of the data."""
    predictions = artefacts.read_predictions(evaluation.evaluation_id, ("row_id", "input", "output", "source"))
    texts = predictions["input"].to_pylist()
    found: dict[str, Values] = {
        "source": predictions["source"].to_pylist(),
        "language": [language(text) for text in texts],
        "input characters": _binned([len(text) for text in texts]),
    }
    if evaluation.task == "extraction":
        gold = [parse_answer(text) for text in predictions["output"].to_pylist()]
        counts = [len(answer.pairs) for answer in gold]
        found["gold values"] = [str(n) if n < 3 else "3 to 5" if n < 6 else "6 or more" for n in counts]
        found["gold has"] = [tuple(dict.fromkeys(element for element, _ in answer.pairs)) for answer in gold]
    return found | _extra(evaluation, predictions["row_id"].to_pylist())


def language(text: str) -> str:
    """``zh``, ``en`` or ``mixed``: by Han characters and Latin letters."""
    han, latin = sum(map(has_han, text)), sum(c.isascii() and c.isalpha() for c in text)
    if not han:
        return "en" if latin else "other"
    return "zh" if latin <= 2 * han else "mixed"


def _binned(numbers: Sequence[int]) -> list[str]:
    """Quarters of a number's range of values, named by their ends."""
    if not numbers:
        return []
    edges = np.unique(np.quantile(numbers, [0, 0.25, 0.5, 0.75, 1]).round().astype(int))
    if edges.size < 3:
        return [str(n) for n in numbers] if len(set(numbers)) <= 4 else [f"{edges[0]} to {edges[-1]}"] * len(numbers)
    place = np.clip(np.searchsorted(edges, numbers, side="right") - 1, 0, edges.size - 2)
    names = [f"{low} to {high - 1 if i < edges.size - 2 else high}" for i, (low, high) in enumerate(pairwise(edges.tolist()))]
    return [names[i] for i in place]


def _extra(evaluation: Evaluation, row_ids: Sequence[str]) -> dict[str, list[str]]:
    """Columns of the data that were not mapped and have few values."""
    rows = read_rows(evaluation.spec.dataset, evaluation.version, columns=("row_id", "extra"))
    wanted = set(row_ids)
    pairs = zip(rows["row_id"].to_pylist(), rows["extra"].to_pylist(), strict=True)
    extra = {row_id: json.loads(text) for row_id, text in pairs if text and row_id in wanted}
    names = dict.fromkeys(name for values in extra.values() for name in values)
    found = {}
    for name in names:
        values = [extra.get(row_id, {}).get(name) for row_id in row_ids]
        texts = ["" if v is None else v if isinstance(v, str) else json.dumps(v, ensure_ascii=False) for v in values]
        if 1 < len(set(texts)) <= MAX_VALUES:
            found[name] = texts
    return found


def _groups(columns: Mapping[str, Values], rows: int, depth: int, min_rows: int) -> list[tuple[str, str, Mask]]:
    """Every slice that is large enough, and whose rest is."""
    single = {name: _masks(values) for name, values in columns.items()}
    found = [(name, value, mask) for name, values in single.items() for value, mask in values.items()]
    if depth > 1:
        for (a, left), (b, right) in combinations(single.items(), 2):
            found += [(f"{a}, {b}", f"{x}, {y}", m & n) for x, m in left.items() for y, n in right.items()]
    unique: dict[bytes, tuple[str, str, Mask]] = {}
    for name, value, mask in found:
        if min_rows <= mask.sum() <= rows - min_rows:
            unique.setdefault(mask.tobytes(), (name, value, mask))
    return list(unique.values())


def _masks(values: Values) -> dict[str, Mask]:
    """The rows of each value of a column."""
    places: dict[str, list[int]] = {}
    for place, value in enumerate(values):
        for one in (value,) if isinstance(value, str) else value:
            places.setdefault(one, []).append(place)
    found = {}
    for value, rows in places.items():
        found[value] = np.zeros(len(values), bool)
        found[value][rows] = True
    return found


def _measurable(statistics: Statistics, metric: str, mask: Mask) -> bool:
    """Whether rows can have the metric at all: F1, precision and recall of rows without any gold value are 0 by convention."""
    sums = Sums(statistics.names, statistics.values)
    if not metric.endswith(("_f1", "_precision", "_recall")) or not sums.labels("gold"):
        return True
    there = sums.group("gold").sum(axis=-1) > 0
    return bool(there[mask].any() and there[~mask].any())


def _narrowed(statistics: Statistics, name: str, metric: Metric) -> tuple[Statistics, Metric]:
    """Only the columns that a metric needs, where that is known, for speed."""
    if not name.startswith("micro_"):
        return statistics, metric
    sums = Sums(statistics.names, statistics.values)
    values = np.stack([sums.group(kind).sum(axis=-1) for kind in ("tp", "predicted", "gold")], axis=1)
    return Statistics(("tp:all", "predicted:all", "gold:all"), values), extraction.micro(name.removeprefix("micro_"))


def _tested(statistics: Statistics, metric: Metric, masks: Sequence[Mask]) -> list[tuple[float, float, float]]:
    """Score of each slice, of its rest, and the permutation p of their difference."""
    total = statistics.values.sum(axis=0)
    sizes = sorted({int(mask.sum()) for mask in masks})
    shuffled = _shuffled_sums(statistics, sizes)
    found = []
    for mask in masks:
        inside = statistics.values[mask].sum(axis=0)
        score = float(metric(Sums(statistics.names, inside)))
        rest = float(metric(Sums(statistics.names, total - inside)))
        drawn = shuffled[int(mask.sum())]
        random: Floats = metric(Sums(statistics.names, drawn)) - metric(Sums(statistics.names, total - drawn))
        as_large = int(np.count_nonzero(np.abs(random) >= abs(score - rest) - 1e-12))
        found.append((score, rest, (1 + as_large) / (1 + SHUFFLES)))
    return found


def _shuffled_sums(statistics: Statistics, sizes: Sequence[int]) -> dict[int, Floats]:
    """Sums over the first k rows of many random orders, for each size k: shape (SHUFFLES, columns)."""
    generator = np.random.default_rng(7)
    rows, width = statistics.rows, len(statistics.names)
    found: dict[int, Floats] = {size: np.empty((SHUFFLES, width)) for size in sizes}
    if not sizes:
        return found
    chunk = max(1, _CELLS // max(1, rows))
    places = np.tile(np.arange(rows, dtype=np.int32), (chunk, 1))
    starts = [0, *sizes[:-1]]  # a stretch between two sizes is summed once, then the stretches are added up
    for start in range(0, SHUFFLES, chunk):
        count = min(chunk, SHUFFLES - start)
        orders = generator.permuted(places[:count], axis=1)[:, : sizes[-1]]
        for column in range(width):
            stretches = np.add.reduceat(statistics.values[:, column][orders], starts, axis=1)
            for place, running in enumerate(np.cumsum(stretches, axis=1).T):
                found[sizes[place]][start : start + count, column] = running
    return found


def slices_table(found: Sequence[Slice]) -> pa.Table:
    """Slices as a table, without their rows."""
    names = ("column", "value", "rows", "score", "low", "high", "rest", "difference", "p", "p_adjusted")
    columns: dict[str, list[Any]] = {name: [getattr(s, name) for s in found] for name in names}
    return pa.table(columns)
