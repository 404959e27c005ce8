"""Extraction scores: precision, recall and F1 over (element, value) pairs, exact match, JSON validity, error kinds.

Strict: a pair counts when both strings are equal, lists as multisets, a scalar as a list of one, other values
as canonical JSON; an unreadable prediction has no pairs and is never an exact match, nor is anything equal to an
unreadable gold answer. Micro: pairs of all rows and elements together. Macro: mean of the elements' F1, over elements
that gold has. What only predictions have (an element that was made up, or one that no row here has) has no recall that could
be found: its pairs lower the micro scores and are named in ``without_gold``, so that a model that invents many names can't
make the macro score a mean over its inventions. Knows nothing of how texts came about.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from typing import Any

import numpy as np

from core.evaluation.metrics.error_kinds import ERROR_KINDS, Matched
from core.evaluation.metrics.rows import Floats, Metric, Statistics, Sums, labels_of, ratio

FORMAT_DETAILS = ("not_json", "cut_off", "unknown_element")
OTHER = "(other)"
MAX_UNKNOWN = 100
"""Elements that only predictions have: beyond so many, the rarer ones are counted together as ``(other)``."""


def row_statistics(matched: Sequence[Matched], schema: Collection[str] | None = None) -> Statistics:
    """One line a row.

    Columns: ``rows``, ``exact_match``, ``json_valid``, ``tp:E``, ``predicted:E`` and ``gold:E`` of each element,
    ``error:KIND``, ``format:DETAIL`` (``not_json`` and ``cut_off`` count rows, ``unknown_element`` pairs).
    """
    elements, folded = _elements(matched, schema)
    lines = []
    for row in matched:
        line = Counter(rows=1, exact_match=int(row.exact), json_valid=int(row.predicted.ok))
        line.update(f"gold:{element}" for element, _ in row.gold.pairs)
        line.update(f"predicted:{folded.get(element, element)}" for element, _ in row.predicted.pairs)
        line.update(f"tp:{o.element}" if o.kind == "correct" else f"error:{o.kind}" for o in row.outcomes)
        line.update(f"format:{o.detail}" for o in row.outcomes if o.detail == "unknown_element")
        if row.fault:
            line[f"format:{row.fault}"] = 1
        lines.append(line)
    names = ["rows", "exact_match", "json_valid"]
    names += [f"{kind}:{element}" for kind in ("tp", "predicted", "gold") for element in elements]
    names += [f"error:{kind}" for kind in ERROR_KINDS] + [f"format:{detail}" for detail in FORMAT_DETAILS]
    return Statistics.from_rows(lines, names)


def _elements(matched: Sequence[Matched], schema: Collection[str] | None) -> tuple[list[str], dict[str, str]]:
    """Elements that get columns, and which element is counted as which."""
    known = dict.fromkeys([*(schema or ()), *sorted({element for row in matched for element, _ in row.gold.pairs})])
    unknown = Counter(element for row in matched for element, _ in row.predicted.pairs if element not in known)
    ranked = sorted(unknown, key=lambda e: (-unknown[e], e))
    folded = dict.fromkeys(ranked[MAX_UNKNOWN:], OTHER)
    return [*known, *sorted(ranked[:MAX_UNKNOWN]), *([OTHER] if folded else [])], folded


def precision(tp: Floats, predicted: Floats, gold: Floats) -> Floats:
    """Share of predicted pairs that are right; 0 when there are none."""
    return ratio(tp, predicted)


def recall(tp: Floats, predicted: Floats, gold: Floats) -> Floats:
    """Share of gold pairs that were found; 0 when there are none."""
    return ratio(tp, gold)


def f1(tp: Floats, predicted: Floats, gold: Floats) -> Floats:
    """Harmonic mean of the two, 2tp / (predicted + gold); 0 when both are empty."""
    return ratio(2 * tp, predicted + gold)


PARTS = {"precision": precision, "recall": recall, "f1": f1}


def micro(part: str) -> Metric:
    """``precision``, ``recall`` or ``f1`` over all elements' pairs."""

    def metric(sums: Sums) -> Floats:
        return PARTS[part](*(sums.group(kind).sum(axis=-1) for kind in ("tp", "predicted", "gold")))

    return metric


def of_element(part: str, element: str) -> Metric:
    """``precision``, ``recall`` or ``f1`` of one element."""
    return lambda sums: PARTS[part](*(sums[f"{kind}:{element}"] for kind in ("tp", "predicted", "gold")))


def macro_f1(sums: Sums) -> Floats:
    """Mean F1 of the elements that gold has (in these rows, each resample by itself); 0 when it has none."""
    tp, predicted, gold = (sums.group(kind) for kind in ("tp", "predicted", "gold"))
    there = gold > 0
    return ratio(np.where(there, f1(tp, predicted, gold), 0.0).sum(axis=-1), np.asarray(there.sum(axis=-1), float))


def share(name: str) -> Metric:
    """Mean of a column over rows."""
    return lambda sums: ratio(sums[name], sums["rows"])


def metrics(names: Collection[str]) -> dict[str, Metric]:
    """The metrics that these columns allow, by name; ``f1:E`` and its like for each element."""
    if not labels_of(names, "tp") and "json_valid" not in names:  # rows in which nothing is and nothing was said have no element
        return {}
    found: dict[str, Metric] = {f"micro_{part}": micro(part) for part in PARTS}
    found |= {"macro_f1": macro_f1, "exact_match": share("exact_match"), "json_valid": share("json_valid")}
    found |= {f"{part}:{element}": of_element(part, element) for element in labels_of(names, "tp") for part in PARTS}
    return found


def scores(statistics: Statistics) -> dict[str, Any]:
    """The fixed keys of ``score`` for extraction, and what they were counted from."""
    sums = statistics.sums()
    elements = sums.labels("tp")
    return {
        "rows": statistics.rows,
        "micro": {part: float(micro(part)(sums)) for part in PARTS},
        "macro_f1": float(macro_f1(sums)),
        "per_element": {
            element: {part: float(of_element(part, element)(sums)) for part in PARTS}
            | {kind: int(sums[f"{kind}:{element}"]) for kind in ("tp", "predicted", "gold")}
            for element in elements
        },
        "without_gold": _without_gold(sums),
        "exact_match": float(share("exact_match")(sums)),
        "json_valid": float(share("json_valid")(sums)),
        "errors": {kind: int(sums[f"error:{kind}"]) for kind in ERROR_KINDS},
        "format": {detail: int(sums[f"format:{detail}"]) for detail in FORMAT_DETAILS},
        "pairs": {kind: int(sums.group(kind).sum()) for kind in ("tp", "predicted", "gold")},
    }


def _without_gold(sums: Sums) -> dict[str, int]:
    """Predicted pairs of each element that gold has nowhere, the most first."""
    counts = {
        e: int(sums[f"predicted:{e}"]) for e in sums.labels("gold") if sums[f"gold:{e}"] == 0 and sums[f"predicted:{e}"] > 0
    }
    return dict(sorted(counts.items(), key=lambda found: (-found[1], found[0])))
