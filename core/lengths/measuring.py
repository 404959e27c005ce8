"""Tokens of prompt and answer of every row of a version, kept on disk by what they depend on.

The counts are those of ``core.prompts.examples``: the same render, the same segments, the same tokenizer. Texts
are encoded once each, in the tokenizer's own parallel batches. Knows nothing of maximum lengths.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from core.errors import UserError
from core.lengths.chunks import Chunk, Chunks
from core.lengths.counting import Counter
from core.lengths.pieces import Pieces
from core.models.tokenizer import load_tokenizer
from core.prompts.control import backend
from core.prompts.examples import empty_answer
from core.prompts.templates import text_hash
from core.records import ModelRef, Reporter, SilentReporter, Template, Version
from core.store import datasets
from core.store.files import area, write_parquet

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

LENGTHS = pa.schema(
    [
        pa.field("row_id", pa.large_string()),
        pa.field("split", pa.large_string()),
        pa.field("prompt", pa.int32()),
        pa.field("answer", pa.int32()),
        pa.field("whole", pa.int32()),
        pa.field("fault", pa.large_string()),
        pa.field("empty", pa.bool_()),
    ]
)
COLUMNS = ("row_id", "split", "instruction", "input", "output", "messages", "extra")
CHUNK = 50_000
FORMAT = 2
"""Part of the cache's key: raised when the counting changes."""


class StoppedError(UserError):
    """The count was stopped; the pieces counted so far are kept."""


def measure(
    dataset: str,
    version: int | None,
    template: Template,
    model: ModelRef | None = None,
    *,
    shots: Sequence[Mapping[str, Any]] = (),
    reporter: Reporter | None = None,
) -> pa.Table:
    """Columns ``row_id, split, prompt, answer, whole, fault, empty``, in the version's order.

    Lengths are in tokens, null with a fault; ``empty``: the answer says nothing, only its end token would be learnt.

    Read from the workspace when it was counted before; else counted with progress, and kept. StoppedError if the
    reporter asks for a stop.
    """
    of = datasets.get_version(dataset, version)
    tokenizer = load_tokenizer(model or ModelRef())
    elements = datasets.get_dataset(dataset).elements
    path = cache_path(of, template, tokenizer, elements, shots)
    if path.is_file():
        return pq.read_table(path, memory_map=True)
    rows = datasets.read_rows(dataset, of.number, columns=COLUMNS)
    pieces = Pieces(Counter(tokenizer), rows.num_rows, path.parent / f"pieces-{content_of(of)}-{fingerprint(tokenizer)}")
    try:
        table = _measured(rows, template, pieces, elements, shots, reporter)
    finally:
        pieces.save()
    write_parquet(path, table)
    return table


def is_measured(dataset: str, version: int | None, template: Template, model: ModelRef | None = None) -> bool:
    """Whether ``measure`` (without worked examples) would read what is kept."""
    tokenizer, elements = load_tokenizer(model or ModelRef()), datasets.get_dataset(dataset).elements
    return cache_path(datasets.get_version(dataset, version), template, tokenizer, elements, ()).is_file()


def last_measured(dataset: str, version: int, template: Template, model: ModelRef | None = None) -> int | None:
    """The newest version up to ``version`` for which ``is_measured`` says yes; None without one."""
    numbers = sorted((of.number for of in datasets.list_versions(dataset) if of.number <= version), reverse=True)
    return next((number for number in numbers if is_measured(dataset, number, template, model)), None)


def measure_rows(
    rows: pa.Table,
    template: Template,
    tokenizer: PreTrainedTokenizerFast,
    *,
    elements: Sequence[str] = (),
    shots: Sequence[Mapping[str, Any]] = (),
    reporter: Reporter | None = None,
) -> pa.Table:
    """``measure`` for rows at hand (columns of ``store.schema.ROWS``, at least ``COLUMNS``); nothing is kept."""
    return _measured(rows, template, Pieces(Counter(tokenizer), rows.num_rows), elements, shots, reporter)


def _measured(
    rows: pa.Table,
    template: Template,
    pieces: Pieces,
    elements: Sequence[str],
    shots: Sequence[Mapping[str, Any]],
    reporter: Reporter | None,
) -> pa.Table:
    reporter = reporter or SilentReporter()
    chunks = Chunks(template, pieces, elements, shots)
    parts: list[pa.Table] = []
    for start in range(0, rows.num_rows, CHUNK):
        if reporter.should_stop():
            raise StoppedError("The count of tokens was stopped", "Start it again: it goes on from what is kept.")
        chunk = rows.slice(start, CHUNK)
        parts.append(_table(chunk, chunks.count(chunk, start)))
        reporter.progress(start + chunk.num_rows, rows.num_rows, unit="rows", message="counting tokens")
    return pa.concat_tables(parts) if parts else LENGTHS.empty_table()


def _table(rows: pa.Table, counted: Chunk) -> pa.Table:
    none: pa.Array = pa.nulls(rows.num_rows, pa.large_string())
    said = [counted.faults.get(place) for place in range(rows.num_rows)] if counted.faults else []
    wrong = np.zeros(rows.num_rows, bool)
    wrong[list(counted.faults)] = True
    counts = (counted.prompt, counted.answer, counted.prompt + counted.answer)
    columns = [pa.array(values, pa.int32(), mask=wrong) for values in counts]
    faults = pa.array(said, pa.large_string()) if said else none
    return pa.table([rows["row_id"], rows["split"], *columns, faults, pa.array(_empty(rows))], schema=LENGTHS)


def _empty(rows: pa.Table) -> Any:
    found = pc.equal(pc.utf8_trim_whitespace(rows["output"].fill_null("")), "").to_numpy(zero_copy_only=False)
    talks = np.flatnonzero(pc.is_valid(rows["messages"]).to_numpy(zero_copy_only=False))
    if len(talks):
        found = found.copy()
        messages = rows["messages"].take(pa.array(talks)).to_pylist()
        found[talks] = [empty_answer({"messages": text}) for text in messages]
    return found


def cache_path(
    version: Version,
    template: Template,
    tokenizer: PreTrainedTokenizerFast,
    elements: Sequence[str],
    shots: Sequence[Mapping[str, Any]],
    kind: str = "lengths",
) -> Path:
    """Where the counts of a version for a template's text and a tokenizer are kept."""
    depends = [FORMAT, content_of(version), text_hash(template), fingerprint(tokenizer)]
    key = json.dumps([*depends, list(elements), [dict(s) for s in shots]], sort_keys=True, default=str)
    name = hashlib.sha256(key.encode()).hexdigest()[:24]
    return area("cache", "lengths", version.dataset, f"v{version.number:04d}", f"{kind}-{name}.parquet")


def content_of(version: Version) -> str:
    """What stands for a version's rows in the name of a file."""
    return (version.content_hash or f"{version.dataset}@{version.number}")[:24]


_fingerprints: dict[int, tuple[Any, str]] = {}


def fingerprint(tokenizer: PreTrainedTokenizerFast) -> str:
    """Hash of all that decides a tokenizer's ids: vocabulary, merges, added tokens, chat template."""
    known = _fingerprints.get(id(tokenizer))
    if known is None or known[0] is not tokenizer:
        parts = [backend(tokenizer).to_str(), str(tokenizer.chat_template), str(tokenizer.eos_token), str(tokenizer.bos_token)]
        known = (tokenizer, hashlib.sha256("\0".join(parts).encode()).hexdigest()[:24])
        _fingerprints[id(tokenizer)] = known
    return known[1]
