"""What a file would be read as, on its first records, before anything is imported: shape, mapping, preview.

The Data page shows it and lets each part be changed. Knows nothing of datasets.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from core.data.elements import guess_task
from core.data.mapping import check_mapping, guess_flat, with_every_other
from core.data.readers.base import Document, Fault, Limits
from core.data.readers.detect import How, columns_of, how_to_read, sample
from core.data.readers.names import with_splits
from core.data.readers.places import opened
from core.data.readers.rows import convert
from core.data.readers.separators import Several, suggested, taken_apart
from core.data.readers.shapes.columns import elements_of
from core.data.readers.shapes.registry import Shape, find_shape, fitting
from core.data.readers.standing import standing_in_text
from core.data.several import check_separators, separators_for
from core.errors import InputFileError, UnnamedColumnsError
from core.records import Task

PREVIEW_ROWS = 20


@dataclass(frozen=True, slots=True)
class Guess:
    """How a document would be read. ``mapping`` is column → field; ``alternatives`` are the other shapes that fit.

    ``preview`` holds the first rows as they would be imported (columns of a row without its identifier),
    ``faults`` the first records that would be quarantined, both out of the ``sampled`` records looked at. ``files`` are
    the names of all documents, each with the split that its name tells ("" for none). ``several`` are the columns of
    elements whose cells are split as told, ``suggested`` others whose cells surely hold several values.
    """

    source: str
    how: How
    shape: str
    mapping: dict[str, str]
    columns: tuple[str, ...]
    options: dict[str, Any] = field(default_factory=dict)
    alternatives: tuple[str, ...] = ()
    task: Task = "generation"
    preview: tuple[dict[str, Any], ...] = ()
    faults: tuple[Fault, ...] = ()
    sampled: int = 0
    files: tuple[tuple[str, str], ...] = ()
    several: tuple[Several, ...] = ()
    suggested: tuple[Several, ...] = ()

    @property
    def encoding(self) -> str:
        """Python's name of the encoding; empty for binary files."""
        return self.how.encoding

    @property
    def read_as(self) -> str:
        """Container and encoding, and what tells the encoding, in words: ``jsonl, gb18030 (common Chinese characters)``."""
        why = f" ({self.how.encoding_why})" if self.how.encoding_why else ""
        return f"{self.container}, {self.encoding}{why}" if self.encoding else self.container

    @property
    def container(self) -> str:
        """Kind of file: ``jsonl``, ``json``, ``delimited``, …"""
        return self.how.container


def guess(
    path: str | Path,
    *,
    mapping: Mapping[str, str] | None = None,
    shape: str | None = None,
    encoding: str | None = None,
    splits: Mapping[str, str] | None = None,
    separators: Mapping[str, Sequence[str]] | None = None,
) -> Guess:
    """What ``import_file`` would make of a path (of the first document in it). Writes nothing.

    InputFileError if it can't be read, or no shape fits and none is given; UnnamedColumnsError if naming its columns would help.
    """
    limits = Limits.current()
    with opened(path, limits) as place:
        documents = with_splits(place.documents, splits or {})
        made = guess_document(documents[0], limits, mapping=mapping, shape=shape, encoding=encoding, separators=separators)
        if len(documents) == 1:
            check_separators(separators or {}, elements_of(made.mapping), made.source)
        preview = tuple({**row, "split": row["split"] or documents[0].split} for row in made.preview)
        return replace(made, files=tuple((document.name, document.split) for document in documents), preview=preview)


def guess_document(
    document: Document,
    limits: Limits,
    *,
    mapping: Mapping[str, str] | None = None,
    shape: str | None = None,
    encoding: str | None = None,
    separators: Mapping[str, Sequence[str]] | None = None,
) -> Guess:
    """The guess for one document; see ``guess``."""
    how = how_to_read(document, limits, encoding)
    chunks = list(sample(document, how, limits))
    records = [record for chunk in chunks for record in chunk.records]
    faults = [fault for chunk in chunks for fault in chunk.faults]
    columns = columns_of(records)
    if not records:
        raise _no_record(document.name, faults)
    given = with_every_other(mapping or {}, columns)
    check_mapping(given, columns, document.name)
    fits = fitting(records, columns, given)
    chosen, columns_to_fields = _choose(document.name, fits, shape, records, columns, given)
    split = separators_for(separators or {}, elements_of(columns_to_fields), columns)
    options = chosen.options(records) | ({"separators": {column: list(told) for column, told in split.items()}} if split else {})
    bodies = list(convert(chunks, chosen.converter(columns_to_fields, options), limits))
    rows = next((body.rows for body in bodies if body.rows.num_rows), bodies[0].rows)
    return Guess(
        source=document.name,
        how=how,
        shape=chosen.name,
        mapping=columns_to_fields,
        columns=tuple(columns),
        options=options,
        alternatives=tuple(other.name for other, _ in fits if other is not chosen),
        task=guess_task(rows),
        preview=tuple(rows.slice(0, PREVIEW_ROWS).to_pylist()),
        faults=tuple(fault for body in bodies for fault in body.faults)[:PREVIEW_ROWS],
        sampled=len(records) + len(faults),
        several=taken_apart(records, split),
        suggested=tuple(one for one in suggested(records, columns_to_fields) if one.column not in split),
    )


def _choose(
    source: str,
    fits: Sequence[tuple[Shape, dict[str, str]]],
    wanted: str | None,
    records: Sequence[Any],
    columns: Sequence[str],
    given: Mapping[str, str],
) -> tuple[Shape, dict[str, str]]:
    for shape, mapping in fits:
        if wanted in (None, shape.name):
            return shape, mapping
    if wanted is not None:
        shape = find_shape(wanted)
        if set(shape.needs) <= set(given.values()):
            return shape, dict(given)
        raise InputFileError(
            f"{source} can't be read as {wanted}: it needs {' and '.join(shape.needs)}",
            f"Map columns to them with --map column=field. Columns: {', '.join(columns) or 'none'}.",
        )
    if not columns:
        kind = type(records[0]).__name__ if records else "nothing"
        raise InputFileError(f"The rows of {source} have no named fields ({kind})", "Each row must be an object with names.")
    if "element" in given.values():
        raise UnnamedColumnsError(
            f"{source} has no column that looks like the text in which the elements are: {', '.join(columns[:12])}",
            "Say which it is, for example: --map 正文=input",
            tuple(columns),
        )
    likely = {} if given else standing_in_text(records, columns, guess_flat(columns))
    if likely:
        elements = [column for column, field in likely.items() if field == "element"]
        text = next(column for column in likely if column not in elements)
        options = " ".join(f"--map {shlex.quote(f'{column}={field}')}" for column, field in likely.items())
        raise UnnamedColumnsError(
            f"No heading of {source} tells what is the text and what the answer: {', '.join(columns[:12])}",
            f"The cells of {', '.join(elements)} stand in {text}. If they are its elements: {options}",
            tuple(columns),
            likely,
        )
    raise UnnamedColumnsError(
        f"{source} has no columns that look like a text and its answer: {', '.join(columns[:12])}",
        "Say which is which, for example: --map text=input --map label=output; "
        "where each element has a column of its own: --map text=input --map '*=element'",
        tuple(columns),
    )


def _no_record(source: str, faults: Sequence[Fault]) -> InputFileError:
    if not faults:
        return InputFileError(f"{source} holds no row", "Choose a file with rows in it.")
    first = faults[0]
    return InputFileError(
        f"No row of {source} can be read. Line {first.line}: {first.reason}",
        "Is it the kind of file that its name says? Mend that line, or export the data again.",
    )


def describe_guess(made: Guess) -> dict[str, Any]:
    """The guess as plain values, for ``--json`` and logs."""
    return {
        "source": made.source,
        "container": made.container,
        "encoding": made.encoding,
        "read_as": made.read_as,
        "shape": made.shape,
        "mapping": made.mapping,
        "columns": list(made.columns),
        "alternatives": list(made.alternatives),
        "task": made.task,
        "files": [{"name": name, "split": split} for name, split in made.files],
        "several": [asdict(one) for one in made.several],
        "suggested": [asdict(one) for one in made.suggested],
        "preview": [
            {key: json.loads(value) if key == "extra" and value else value for key, value in row.items()} for row in made.preview
        ],
    }
