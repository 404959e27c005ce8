"""Equality of rows as whole columns of numbers: which cells, and which rows, are the same.

Works on Arrow columns; knows nothing of datasets or steps.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc


def distinct(column: pa.ChunkedArray | pa.Array) -> tuple[pa.Array, npt.NDArray[np.int64]]:
    """The different values of a column by first occurrence, and which of them each cell is; null is a value of its own."""
    merged = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    encoded = pc.dictionary_encode(merged, null_encoding="encode")
    return encoded.dictionary, encoded.indices.to_numpy(zero_copy_only=False).astype(np.int64)


def column_codes(column: pa.ChunkedArray | pa.Array) -> npt.NDArray[np.int64]:
    """A number for each cell, equal exactly where the cells are equal; null is a value of its own."""
    return distinct(column)[1]


def group_codes(*columns: pa.ChunkedArray | npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """A number for each row, equal exactly where all columns (texts or codes) are equal; numbered by first occurrence."""
    combined: npt.NDArray[np.int64] | None = None
    for column in columns:
        codes = column if isinstance(column, np.ndarray) else column_codes(column)
        combined = codes if combined is None else combined * (int(codes.max(initial=0)) + 1) + codes
        combined = renumber(combined)
    assert combined is not None, "no column to compare"
    return combined


def renumber(codes: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """The same grouping with groups numbered 0, 1, … by first occurrence (by hashing, which sorting is slow beside)."""
    indices = pc.dictionary_encode(pa.array(codes, pa.int64())).indices
    renumbered: npt.NDArray[np.int64] = indices.to_numpy(zero_copy_only=False).astype(np.int64)
    return renumbered


def is_first(codes: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
    """Whether a row is the first of its group."""
    numbered = renumber(codes)
    before = np.concatenate([[-1], np.maximum.accumulate(numbered)[:-1]]) if len(numbered) else numbered
    first: npt.NDArray[np.bool_] = numbered > before
    return first


def first_of_group(codes: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """For each row the position of the first row with the same code."""
    numbered = renumber(codes)
    positions: npt.NDArray[np.int64] = np.flatnonzero(is_first(numbered))[numbered]
    return positions
