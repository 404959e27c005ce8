"""The fingerprint of a version's rows, and equality of rows as whole columns of numbers.

Works on tables with the columns of ``core.store.schema.ROWS``; knows nothing of datasets or steps.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

HASHED = ("row_id", "instruction", "input", "output", "messages", "split")
"""Columns that make a row's content, in the order in which they are hashed."""


def content_hash(rows: pa.Table) -> str:
    """SHA-256 (hex) of the rows in their order: the same however the table is chunked or sliced.

    Each column contributes its name, which cells are null, the cells' lengths in bytes and the bytes.
    """
    digest = hashlib.sha256(str(rows.num_rows).encode())
    for name in HASHED:
        digest.update(name.encode())
        column = rows[name]
        digest.update(np.packbits(pc.is_null(column).to_numpy()).tobytes())
        column = pc.fill_null(column.cast(pa.large_string()), "")
        digest.update(pc.binary_length(column).to_numpy().astype("<i8").tobytes())
        for chunk in column.chunks:
            _, ends, data = chunk.buffers()
            if len(chunk) and data is not None:
                offsets = np.frombuffer(ends, dtype=np.int64, count=len(chunk) + 1, offset=chunk.offset * 8)
                digest.update(memoryview(data)[offsets[0] : offsets[-1]])
    return digest.hexdigest()


def split_sizes(rows: pa.Table) -> dict[str, int]:
    """Rows of each split; rows that are in none are under ``""`` and left out when there are none."""
    counts = {str(item["values"]): int(item["counts"]) for item in pc.value_counts(rows["split"]).to_pylist()}
    return {name: counts[name] for name in ("train", "dev", "test", "") if name in counts} | {
        name: count for name, count in counts.items() if name not in ("train", "dev", "test", "")
    }


def column_codes(column: pa.ChunkedArray) -> npt.NDArray[np.int64]:
    """A number for each cell, equal exactly where the cells are equal; null is a value of its own."""
    merged = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    if isinstance(merged, pa.ChunkedArray):
        merged = pa.concat_arrays(merged.chunks) if merged.num_chunks else pa.array([], merged.type)
    encoded = pc.dictionary_encode(merged, null_encoding="encode")
    codes: npt.NDArray[np.int64] = encoded.indices.to_numpy(zero_copy_only=False).astype(np.int64)
    return codes


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
    """The same grouping with groups numbered 0, 1, … by first occurrence."""
    _, first, inverse = np.unique(codes, return_index=True, return_inverse=True)
    rank = np.empty(len(first), dtype=np.int64)
    rank[np.argsort(first, kind="stable")] = np.arange(len(first))
    renumbered: npt.NDArray[np.int64] = rank[inverse]
    return renumbered


def is_first(codes: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
    """Whether a row is the first of its group."""
    first = np.zeros(len(codes), dtype=np.bool_)
    first[np.unique(codes, return_index=True)[1]] = True
    return first


def distinct_rows(rows: pa.Table, columns: Sequence[str]) -> npt.NDArray[np.bool_]:
    """Whether a row is the first one with these cells."""
    return is_first(group_codes(*(rows[name] for name in columns)))
