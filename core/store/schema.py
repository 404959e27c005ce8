"""Columns of the Parquet files: rows, ledger, quarantine."""

from __future__ import annotations

import pyarrow as pa

ROWS = pa.schema(
    [
        pa.field("row_id", pa.large_string(), nullable=False),
        pa.field("instruction", pa.large_string(), nullable=False),
        pa.field("input", pa.large_string(), nullable=False),
        pa.field("output", pa.large_string(), nullable=False),
        pa.field("messages", pa.large_string()),  # JSON list of {role, content}; null: a single turn
        pa.field("split", pa.large_string(), nullable=False),  # "" until it is split
        pa.field("source", pa.large_string(), nullable=False),  # file name as it was imported
        pa.field("line", pa.int64(), nullable=False),  # 1-based line or record of the source
        pa.field("extra", pa.large_string()),  # JSON object of the columns that were not mapped; or null
    ]
)
TEXT_COLUMNS = ("instruction", "input", "output", "messages")
"""What is hashed and compared beside ``row_id`` and ``split``."""

LEDGER = pa.schema(
    [
        pa.field("version", pa.int64(), nullable=False),
        pa.field("step_id", pa.large_string(), nullable=False),
        pa.field("op", pa.large_string(), nullable=False),
        pa.field("row_id", pa.large_string(), nullable=False),
        pa.field("reason", pa.large_string(), nullable=False),
        pa.field("before", pa.large_string()),  # JSON of the changed columns; whole row when dropped; null when added
        pa.field("after", pa.large_string()),  # JSON of the changed columns; null when dropped
    ]
)

QUARANTINE = pa.schema(
    [
        pa.field("quarantine_id", pa.large_string(), nullable=False),
        pa.field("source", pa.large_string(), nullable=False),
        pa.field("line", pa.int64(), nullable=False),
        pa.field("reason", pa.large_string(), nullable=False),
        pa.field("raw", pa.large_string(), nullable=False),  # the text as it lies in the file, bad bytes as \\xNN
    ]
)
