"""Figures about measured lengths: percentiles, totals, rows over a maximum. Knows nothing of how they were counted."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

PERCENTILES = (50, 90, 95, 99)
PARTS = ("prompt", "answer", "whole")


def summary(table: pa.Table, max_length: int | None = None) -> dict[str, Any]:
    """``rows``; p50, p90, p95, p99, max, mean, total of prompt, answer and whole (tokens); ``over_max_length``; ``faults``;
    ``empty_answers``: rows whose answer says nothing.

    Percentiles are real lengths (the smallest length that at least that share of rows doesn't exceed).
    ``rows`` counts every row; a row with a fault has no length and is over nothing.
    """
    result: dict[str, Any] = {"rows": table.num_rows}
    for part in PARTS:
        result[part] = _figures(lengths(table, part))
    over = 0 if max_length is None else int(np.count_nonzero(lengths(table, "whole") > max_length))
    return {
        **result,
        "max_length": max_length,
        "over_max_length": over,
        "faults": table["fault"].length() - table["fault"].null_count,
        "empty_answers": pc.sum(table["empty"]).as_py() or 0,
    }


def lengths(table: pa.Table, part: str) -> npt.NDArray[np.int64]:
    """The lengths of a part as an array, rows with a fault left out."""
    values: npt.NDArray[np.int64] = table[part].drop_null().to_numpy().astype(np.int64)
    return values


def _figures(values: npt.NDArray[np.int64]) -> dict[str, float | int]:
    if not len(values):
        return {**{f"p{p}": 0 for p in PERCENTILES}, "max": 0, "mean": 0.0, "total": 0}
    points = np.percentile(values, PERCENTILES, method="inverted_cdf")
    found: dict[str, float | int] = {f"p{p}": int(v) for p, v in zip(PERCENTILES, points, strict=True)}
    return {**found, "max": int(values.max()), "mean": round(float(values.mean()), 2), "total": int(values.sum())}


def by_split(table: pa.Table, max_length: int | None = None) -> dict[str, dict[str, Any]]:
    """``summary`` of each split, by its name."""
    return {name: summary(table.filter(pc.equal(table["split"], name)), max_length) for name in _names(table["split"])}


def _names(column: pa.ChunkedArray) -> Sequence[str]:
    return sorted(pc.unique(column).to_pylist())


def longest(table: pa.Table, n: int = 20) -> pa.Table:
    """The ``n`` longest rows, the longest first."""
    order = pc.select_k_unstable(table, k=min(n, table.num_rows), sort_keys=[("whole", "descending")])
    return table.take(order)
