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
import pyarrow.parquet as pq

from core.errors import UserError
from core.lengths.counting import Counter
from core.models.tokenizer import load_tokenizer
from core.prompts.control import backend
from core.prompts.render import Rendered, RowError, render
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
    ]
)
COLUMNS = ("row_id", "split", "instruction", "input", "output", "messages", "extra")
CHUNK = 20_000
FORMAT = 1
"""Part of the cache's key: raised when the counting changes."""


class StoppedError(UserError):
    """The count was stopped; what was counted is kept nowhere."""


def measure(
    dataset: str,
    version: int | None,
    template: Template,
    model: ModelRef | None = None,
    *,
    shots: Sequence[Mapping[str, Any]] = (),
    reporter: Reporter | None = None,
) -> pa.Table:
    """Columns ``row_id, split, prompt, answer, whole, fault`` (tokens; null with a fault), in the version's order.

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
    table = measure_rows(rows, template, tokenizer, elements=elements, shots=shots, reporter=reporter)
    write_parquet(path, table)
    return table


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
    reporter = reporter or SilentReporter()
    counter = Counter(tokenizer)
    parts: list[pa.Table] = []
    for start in range(0, max(rows.num_rows, 1), CHUNK):
        if reporter.should_stop():
            raise StoppedError("The count of tokens was stopped", "Start it again to have it whole.")
        chunk = rows.slice(start, CHUNK)
        parts.append(_measure_chunk(chunk, template, counter, elements, shots))
        reporter.progress(start + chunk.num_rows, rows.num_rows, unit="rows", message="counting tokens")
    return pa.concat_tables(parts)


def _measure_chunk(
    rows: pa.Table, template: Template, counter: Counter, elements: Sequence[str], shots: Sequence[Mapping[str, Any]]
) -> pa.Table:
    made: list[Rendered | str] = []
    for row in rows.to_pylist():
        try:
            made.append(render(template, row, tokenizer=counter.tokenizer, elements=elements, shots=shots))
        except RowError as fault:
            made.append(fault.message)
    counts = counter.count([s for r in made if isinstance(r, Rendered) for s in r.segments])
    prompt, answer = np.zeros(len(made), np.int32), np.zeros(len(made), np.int32)
    at = 0
    for place, rendered in enumerate(made):
        if isinstance(rendered, Rendered):
            end = at + len(rendered.segments)
            prompt[place], answer[place] = sum(counts[at : end - 1]), counts[end - 1]
            at = end
    faults = [None if isinstance(r, Rendered) else r for r in made]
    return lengths_table(rows, prompt, answer, faults)


def lengths_table(rows: pa.Table, prompt: Any, answer: Any, faults: Sequence[str | None]) -> pa.Table:
    """The table of ``measure`` out of counts; rows with a fault get nulls."""
    wrong = np.array([fault is not None for fault in faults], bool)
    columns = [pa.array(values, pa.int32(), mask=wrong) for values in (prompt, answer, prompt + answer)]
    return pa.table([rows["row_id"], rows["split"], *columns, pa.array(faults, pa.large_string())], schema=LENGTHS)


def cache_path(
    version: Version,
    template: Template,
    tokenizer: PreTrainedTokenizerFast,
    elements: Sequence[str],
    shots: Sequence[Mapping[str, Any]],
    kind: str = "lengths",
) -> Path:
    """Where the counts of a version for a template's text and a tokenizer are kept."""
    depends = [FORMAT, version.content_hash or f"{version.dataset}@{version.number}", text_hash(template), fingerprint(tokenizer)]
    key = json.dumps([*depends, list(elements), [dict(s) for s in shots]], sort_keys=True, default=str)
    name = hashlib.sha256(key.encode()).hexdigest()[:24]
    return area("cache", "lengths", version.dataset, f"v{version.number:04d}", f"{kind}-{name}.parquet")


_fingerprints: dict[int, tuple[Any, str]] = {}


def fingerprint(tokenizer: PreTrainedTokenizerFast) -> str:
    """Hash of all that decides a tokenizer's ids: vocabulary, merges, added tokens, chat template."""
    known = _fingerprints.get(id(tokenizer))
    if known is None or known[0] is not tokenizer:
        parts = [backend(tokenizer).to_str(), str(tokenizer.chat_template), str(tokenizer.eos_token), str(tokenizer.bos_token)]
        known = (tokenizer, hashlib.sha256("\0".join(parts).encode()).hexdigest()[:24])
        _fingerprints[id(tokenizer)] = known
    return known[1]
