"""What a table of rows holds, in a few figures: its hash and the sizes of its splits.

Both depend on the rows alone, not on how the table is cut into chunks. Knows nothing of files.
"""

from __future__ import annotations

import hashlib

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from core.store import schema

HASHED_COLUMNS = ("row_id", *schema.TEXT_COLUMNS, "split")


def content_hash(rows: pa.Table) -> str:
    """SHA-256 (64 hex digits) of the rows' identifiers, texts and splits, in their order.

    Each column is hashed as the lengths of its cells (-1 for null) and then their UTF-8 bytes, so that two
    tables of equal rows have the same hash however they are chunked. Sources, lines and extra columns don't count.
    """
    whole = hashlib.sha256(str(rows.num_rows).encode())
    for name in HASHED_COLUMNS:
        lengths, texts = hashlib.sha256(), hashlib.sha256()
        for chunk in rows[name].cast(pa.large_string()).chunks:
            sizes = pc.fill_null(pc.cast(pc.binary_length(chunk), pa.int64()), -1)
            lengths.update(np.ascontiguousarray(sizes.to_numpy(zero_copy_only=False), dtype="<i8").tobytes())
            texts.update(_bytes_of(pc.fill_null(chunk, "")))
        whole.update(name.encode() + lengths.digest() + texts.digest())
    return whole.hexdigest()


def _bytes_of(chunk: pa.LargeStringArray) -> memoryview | bytes:
    _, offsets, data = chunk.buffers()
    if data is None or len(chunk) == 0:
        return b""
    ends = np.frombuffer(offsets, dtype=np.int64)
    return memoryview(data)[ends[chunk.offset] : ends[chunk.offset + len(chunk)]]


def split_sizes(rows: pa.Table) -> dict[str, int]:
    """Rows of each split, e.g. ``{"train": 80, "test": 20}``; rows in none count under ``""``."""
    counts = pc.value_counts(rows["split"])
    return {item["values"]: item["counts"] for item in counts.to_pylist()}
