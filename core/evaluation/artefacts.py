"""Files of an evaluation: predictions as they come (JSON Lines), then whole tables and a manifest.

    predictions.jsonl    appended and flushed to disk in batches; a torn last line (crash, kill) is cut off when it is read
    likelihoods.jsonl    the same for the gold answers' negative log likelihoods
    predictions.parquet  one line a row in the dataset's order; statistics.parquet, pairs.parquet beside it
    manifest.json        last: its presence means that the evaluation is complete

Knows nothing of how answers came about or are scored.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from core.errors import NotFoundError
from core.evaluation.metrics.rows import Statistics
from core.records import Evaluation
from core.store.files import MANIFEST, is_complete, write_json, write_parquet
from core.store.runs import evaluation_folder

PREDICTIONS = pa.schema(
    [
        pa.field("row_id", pa.large_string(), nullable=False),
        pa.field("instruction", pa.large_string(), nullable=False),
        pa.field("input", pa.large_string(), nullable=False),
        pa.field("output", pa.large_string(), nullable=False),
        pa.field("prediction", pa.large_string(), nullable=False),  # what is scored: raw without thinking
        pa.field("raw", pa.large_string(), nullable=False),  # the answer as it was generated
        pa.field("tokens_in", pa.int64()),
        pa.field("tokens_out", pa.int64()),
        pa.field("seconds", pa.float64()),
        pa.field("finish", pa.large_string(), nullable=False),
        pa.field("nll", pa.float64()),  # of the gold answer given the prompt, in nats
        pa.field("nll_tokens", pa.int64()),
        pa.field("split", pa.large_string(), nullable=False),
        pa.field("source", pa.large_string(), nullable=False),
        pa.field("repaired", pa.large_string()),  # what an unreadable prediction was read as for the repaired score
    ]
)
_FLUSH_ROWS = 32
ANSWERING, MEASURING = "answering", "perplexity of the gold answers"
JOURNALS = {ANSWERING: "predictions.jsonl", MEASURING: "likelihoods.jsonl"}
"""What is kept of an evaluation's work as it goes on, by what it is busy with."""


class Journal:
    """A JSON Lines file that rows are appended to as they come, keyed by ``row_id``."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        self.records = read_journal(path)
        self._file = open(path, "ab")  # noqa: SIM115 (closed by close())
        self._unsynced = 0

    def add(self, record: dict[str, Any]) -> None:
        """Append one row: safe from a killed process at once, from a power cut after at most 32 more, or ``sync()``."""
        self._file.write(json.dumps(record, ensure_ascii=False).encode("utf-8", "replace") + b"\n")
        self._file.flush()
        self.records[record["row_id"]] = record
        self._unsynced += 1
        if self._unsynced >= _FLUSH_ROWS:
            self.sync()

    def sync(self) -> None:
        """Flush to disk."""
        self._file.flush()
        os.fsync(self._file.fileno())
        self._unsynced = 0

    def close(self) -> None:
        """Flush and close."""
        self.sync()
        self._file.close()


def read_journal(path: Path) -> dict[str, dict[str, Any]]:
    """The rows of a journal by ``row_id``; a line that a crash tore is cut off the file, and so is all after it."""
    if not path.exists():
        return {}
    records: dict[str, dict[str, Any]] = {}
    whole = 0
    content = path.read_bytes()
    for line in content.splitlines(keepends=True):
        try:
            record = json.loads(line) if line.endswith(b"\n") else None
        except ValueError:
            record = None
        if not isinstance(record, dict) or "row_id" not in record:
            break
        records[record["row_id"]] = record
        whole += len(line)
    if whole < len(content):
        with open(path, "r+b") as handle:
            handle.truncate(whole)
            os.fsync(handle.fileno())
    return records


def kept_rows(evaluation_id: str, busy: str = ANSWERING) -> int:
    """How many rows were written of a work (``JOURNALS``) by whoever was busy with it; leaves the file as it is."""
    path = evaluation_folder(evaluation_id) / JOURNALS[busy]
    return path.read_bytes().count(b"\n") if path.exists() else 0


def write_tables(evaluation: Evaluation, predictions: pa.Table, statistics: Statistics, pairs: pa.Table) -> None:
    """Write the whole tables of an evaluation; ``pairs`` has the place of its row in ``row``."""
    folder = evaluation_folder(evaluation.evaluation_id)
    row_ids = predictions["row_id"]
    write_parquet(folder / "predictions.parquet", predictions.cast(PREDICTIONS))
    write_parquet(folder / "statistics.parquet", statistics.to_table(row_ids.to_pylist()))
    write_parquet(folder / "pairs.parquet", name_pairs(pairs, row_ids))


def name_pairs(pairs: pa.Table, row_ids: pa.ChunkedArray) -> pa.Table:
    """Pairs with ``row_id`` in place of ``row``."""
    return pairs.drop_columns(["row"]).add_column(0, "row_id", row_ids.take(pairs["row"]))


def write_manifest(evaluation: Evaluation) -> None:
    """Say that the evaluation's tables are complete."""
    write_json(evaluation_folder(evaluation.evaluation_id) / MANIFEST, evaluation.model_dump(mode="json"))


def read_predictions(evaluation_id: str, columns: Iterable[str] | None = None) -> pa.Table:
    """The predictions of a complete evaluation (columns of ``PREDICTIONS``), in the dataset's order."""
    return _read(evaluation_id, "predictions.parquet", columns)


def read_statistics(evaluation_id: str) -> tuple[list[str], Statistics]:
    """The ``row_id`` and statistics of each row of a complete evaluation."""
    table = _read(evaluation_id, "statistics.parquet")
    return table["row_id"].to_pylist(), Statistics.from_table(table)


def read_pairs(evaluation_id: str) -> pa.Table:
    """The fate of each pair: ``row_id`` and the columns of ``core.evaluation.scoring.PAIRS`` but ``row``. Only for extraction."""
    return _read(evaluation_id, "pairs.parquet")


def _read(evaluation_id: str, name: str, columns: Iterable[str] | None = None) -> pa.Table:
    folder = evaluation_folder(evaluation_id)
    if not is_complete(folder):
        raise NotFoundError(
            f"Evaluation {evaluation_id!r} has no finished predictions", "Wait for its job, or resume it: `python -m core jobs`."
        )
    return pq.read_table(folder / name, columns=list(columns) if columns is not None else None)
