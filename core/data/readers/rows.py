"""Records made into the columns of ``core.store.schema.ROWS``, chunk by chunk, with the faults put aside.

Identifiers are not given here: they depend on the dataset. Knows nothing of files.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import pyarrow as pa

from core.data.readers.base import Chunk, Fault, Limits, RowError
from core.data.readers.shapes.base import Converted, Converter
from core.store import schema

BODY = pa.schema([field for field in schema.ROWS if field.name != "row_id"])
"""The columns of a row without its identifier."""


@dataclass(frozen=True, slots=True)
class Body:
    """Rows of one chunk (columns ``BODY``) and the faults of its records, in order."""

    rows: pa.Table
    faults: list[Fault]


def convert(chunks: Iterable[Chunk], converter: Converter, limits: Limits) -> Iterator[Body]:
    """Rows of each chunk. A record that the shape refuses, or that UTF-8 can't hold, becomes a fault."""
    for chunk in chunks:
        kept: list[Converted] = []
        places: list[int] = []
        faults = list(chunk.faults)
        for index, record in enumerate(chunk.records):
            try:
                row = converter(record)
            except RowError as fault:
                faults.append(Fault(chunk.source, chunk.lines[index], str(fault), chunk.raw(index)))
            else:
                kept.append(row)
                places.append(index)
        yield _table(chunk, kept, places, faults)


def _table(chunk: Chunk, kept: list[Converted], places: list[int], faults: list[Fault]) -> Body:
    try:
        columns = _columns(kept)
    except UnicodeEncodeError:
        good = [i for i, row in enumerate(kept) if not _has_surrogate(row)]
        for i in sorted(set(range(len(kept))) - set(good)):
            reason = "holds half of a surrogate pair (such as \\ud83d alone), which is no character"
            faults.append(Fault(chunk.source, chunk.lines[places[i]], reason, chunk.raw(places[i])))
        kept, places = [kept[i] for i in good], [places[i] for i in good]
        columns = _columns(kept)
    columns["source"] = pa.repeat(pa.scalar(chunk.source, pa.large_string()), len(kept))
    columns["line"] = pa.array([chunk.lines[i] for i in places], pa.int64())
    rows = pa.table([columns[name] for name in BODY.names], schema=BODY)
    return Body(rows, sorted(faults, key=lambda fault: fault.line))


def _columns(kept: list[Converted]) -> dict[str, pa.Array]:
    transposed = list(zip(*kept, strict=True)) if kept else [()] * len(Converted._fields)
    return dict(zip(Converted._fields, map(_array, transposed), strict=True))


def _array(values: tuple[str | None, ...]) -> pa.Array:
    """A column of texts; one that holds the same nothing throughout, as most do, is made without looking at each cell."""
    if values and not any(values) and values.count(values[0]) == len(values):
        return pa.repeat(pa.scalar(values[0], pa.large_string()), len(values))
    return pa.array(values, pa.large_string())


def _has_surrogate(row: Converted) -> bool:
    try:
        "".join(cell for cell in row if cell is not None).encode()
    except UnicodeEncodeError:
        return True
    return False


def faults_table(faults: list[Fault], identifiers: list[str]) -> pa.Table:
    """Faults as ``core.store.schema.QUARANTINE``. Text that UTF-8 can't hold is written with escapes."""
    columns = {
        "quarantine_id": identifiers,
        "source": [fault.source for fault in faults],
        "line": [fault.line for fault in faults],
        "reason": [_storable(fault.reason) for fault in faults],
        "raw": [_storable(fault.raw) for fault in faults],
    }
    return pa.table(columns, schema=schema.QUARANTINE)


def _storable(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode("utf-8")
