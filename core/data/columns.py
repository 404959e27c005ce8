"""Columns by name: those that every row has, and those that were imported beside them (``extra``)."""

from __future__ import annotations

import json
from typing import Any

import pyarrow as pa

from core.errors import SpecError


def column_values(rows: pa.Table, column: str) -> pa.ChunkedArray:
    """A column of the rows, or one of the unmapped columns kept in ``extra``, as text; null where a row hasn't got it.

    SpecError if no row has it.
    """
    if column in rows.column_names and column != "extra":
        return rows[column].cast(pa.large_string())
    values: list[str | None] = []
    known: set[str] = set()
    for text in rows["extra"].to_pylist():
        cells: dict[str, Any] = json.loads(text) if text else {}
        known |= cells.keys()
        value = cells.get(column)
        values.append(value if value is None or isinstance(value, str) else json.dumps(value, ensure_ascii=False))
    if column not in known:
        there = [*(name for name in rows.column_names if name != "extra"), *sorted(known)]
        raise SpecError(f"There is no column {column!r}", f"Columns: {', '.join(there)}.")
    return pa.chunked_array([pa.array(values, pa.large_string())])
