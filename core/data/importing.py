"""Import: a file becomes a version of a dataset, whole or not at all, and what it brought is kept for replay.

Reads everything before it writes anything, so a file that is refused leaves the workspace as it was.
Knows nothing of how files are read (``core.data.readers``) or cleaned.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from core.data.elements import guess_task, infer_elements
from core.data.mapping import check_fields, check_split
from core.data.readers.base import Limits
from core.data.readers.guessing import Guess, guess
from core.data.readers.reading import Parsed, parse
from core.data.readers.rows import BODY, faults_table
from core.data.readers.separators import Several, separators_shown
from core.errors import ConflictError, InputFileError, UserError
from core.records import Dataset, Reporter, SilentReporter, Step, Task, Version
from core.store import datasets as store
from core.store import schema
from core.store.content import content_hash, split_sizes
from core.store.files import check_name

IMPORT = "import"
"""The recipe step that brings rows; they are kept by ``store.save_step``, so that a recipe can be replayed from them."""

_TRIES = 10
"""How often an import that others overtake numbers its version anew."""

__all__ = ["IMPORT", "Guess", "Imported", "guess", "import_file", "with_identifiers"]


@dataclass(frozen=True, slots=True)
class Imported:
    """What an import made: ``rows`` and ``quarantined`` are of this file alone.

    ``several``: elements whose cells were split → how many hold several values; ``suggested``: others whose cells surely do.
    """

    dataset: Dataset
    version: Version
    rows: int
    quarantined: int
    reasons: Mapping[str, int] = field(default_factory=dict)
    several: Mapping[str, int] = field(default_factory=dict)
    suggested: tuple[Several, ...] = ()


def import_file(
    path: str | Path,
    name: str,
    *,
    task: Task | None = None,
    mapping: Mapping[str, str] | None = None,
    split: str = "",
    splits: Mapping[str, str] | None = None,
    elements: Sequence[str] = (),
    shape: str | None = None,
    encoding: str | None = None,
    separators: Mapping[str, Sequence[str]] | None = None,
    reporter: Reporter | None = None,
) -> Imported:
    """Bring a file into dataset ``name``: a new dataset, or the latest rows of one that exists and these.

    ``mapping`` (column → field), ``shape`` and ``encoding`` stand where given and are guessed otherwise; ``split`` puts all
    rows into one split, ``splits`` those of a file in a folder or archive (by its name), which else are in the split that
    the file's name tells. Columns mapped to ``element`` (``*``: all that are nothing else) make the answer together, and name
    the elements of a dataset whose elements aren't inferred from earlier rows. ``separators`` (element → what separates the
    values in its cells, see ``core.data.several``; ``*``: every other element) says which cells hold several values.
    InputFileError, with nothing written, for a file that keeps no row or a document that doesn't parse.
    """
    check_name(name, "dataset name")
    check_split(split)
    check_fields(mapping or {})
    parsed = parse(
        path,
        Limits.current(),
        mapping=mapping,
        shape=shape,
        encoding=encoding,
        reporter=reporter or SilentReporter(),
        splits=splits,
        separators=separators,
    )
    if parsed.rows.num_rows == 0:
        raise _nothing_kept(parsed)
    for _ in range(_TRIES):
        with suppress(ConflictError):  # another import into this dataset ended meanwhile: these rows come behind its rows
            return _store(parsed, name, task, split, tuple(elements))
    return _store(parsed, name, task, split, tuple(elements))


def _nothing_kept(parsed: Parsed) -> InputFileError:
    if not parsed.faults:
        return InputFileError(f"{parsed.source} holds no row", "Choose a file with rows in it.")
    fault = parsed.faults[0]
    where = f"line {fault.line}: " if not fault.reason.startswith("record") else ""
    return InputFileError(
        f"None of the {len(parsed.faults):,} rows of {parsed.source} can be used. {where}{fault.reason}",
        "Check the columns and the shape; --map column=field says which column is which.",
    )


def _store(parsed: Parsed, name: str, task: Task | None, split: str, elements: tuple[str, ...]) -> Imported:
    """Write the version and its step. Nothing before this line has touched the workspace."""
    known = store.find_dataset(name)
    versions = store.list_versions(name) if known else []
    _check_task(known, task)
    if known is None or not known.elements_inferred:
        elements = (*elements, *parsed.elements)
    ordinal = 1 + len({step.step_id for version in versions for step in version.recipe if step.op == IMPORT})
    prefix = hashlib.sha256(f"{parsed.sha256}:{ordinal}".encode()).hexdigest()[:6]
    new = with_identifiers(parsed.rows, prefix, split)
    aside = faults_table(parsed.faults, [f"q-{prefix}-{n:07d}" for n in range(1, len(parsed.faults) + 1)])
    step = Step(op=IMPORT, params=_params(parsed, prefix, split, elements))
    rows = pa.concat_tables([store.read_rows(name), new]) if versions else new
    quarantine = pa.concat_tables([store.read_quarantine(name), aside]) if versions else aside
    dataset = _dataset(known, name, rows, task, elements)
    version = Version(
        dataset=name,
        number=versions[-1].number + 1 if versions else 1,
        parent=versions[-1].number if versions else None,
        recipe=(*versions[-1].recipe, step) if versions else (step,),
        rows=rows.num_rows,
        quarantined=quarantine.num_rows,
        content_hash=content_hash(rows),
        split_sizes=split_sizes(rows),
        note=f"import {parsed.source}{_split_words(parsed)}",
    )
    if versions:
        store.remove_leftovers(name)
    store.save_step(name, step.step_id, new, aside)
    try:
        store.save_version(dataset, version, rows, quarantine=quarantine)
    except BaseException:
        store.discard_step(name, step.step_id)
        raise
    return Imported(dataset, version, new.num_rows, aside.num_rows, parsed.reasons, parsed.several, parsed.guess.suggested)


def _split_words(parsed: Parsed) -> str:
    """Which cells were split, for the version's note."""
    return "".join(
        f"; {column} split at {separators_shown(told)} ({parsed.several.get(column, 0):,} with several values)"
        for column, told in parsed.separators.items()
    )


def _check_task(known: Dataset | None, task: Task | None) -> None:
    if known is not None and task is not None and task != known.task:
        raise UserError(
            f"Dataset {known.name!r} is for {known.task}, not {task}", "Leave the task out, or import under another name."
        )


def _params(parsed: Parsed, prefix: str, split: str, elements: tuple[str, ...]) -> dict[str, Any]:
    return {
        "file": parsed.source,
        "sha256": parsed.sha256,
        "container": parsed.guess.container,
        "delimiter": parsed.guess.how.dialect.delimiter,
        "quoted": parsed.guess.how.dialect.quoted,
        "marked": parsed.guess.how.dialect.marked,
        "columns": list(parsed.guess.columns),
        "shape": parsed.guess.shape,
        "mapping": dict(parsed.guess.mapping),
        "encoding": parsed.guess.encoding,
        "split": split,
        "elements": list(elements),
        "options": dict(parsed.guess.options) | ({"separators": dict(parsed.separators)} if parsed.separators else {}),
        "several": dict(parsed.several),
        "prefix": prefix,
        "rows": parsed.rows.num_rows,
        "quarantined": len(parsed.faults),
    }


def with_identifiers(rows: pa.Table, prefix: str, split: str = "", first: int = 1) -> pa.Table:
    """Rows (columns ``BODY``) with ``row_id`` ``prefix-0000001`` and so on, and with ``split`` where one is given."""
    numbers = pc.utf8_lpad(pa.array(range(first, first + rows.num_rows), pa.int64()).cast(pa.string()), 7, "0")
    identifiers = pc.binary_join_element_wise(pa.scalar(prefix), numbers, "-").cast(pa.large_string())
    columns = [identifiers, *(rows[column] for column in BODY.names)]
    table = pa.table(columns, schema=schema.ROWS)
    if not split:
        return table
    place = table.schema.get_field_index("split")
    return table.set_column(place, schema.ROWS.field("split"), pa.repeat(pa.scalar(split, pa.large_string()), len(table)))


def _dataset(known: Dataset | None, name: str, rows: pa.Table, task: Task | None, elements: tuple[str, ...]) -> Dataset:
    """The dataset's record: the task and elements that were given stand, others are guessed from all rows."""
    kind: Task = known.task if known else task or guess_task(rows)
    before = known.elements if known and not known.elements_inferred else ()
    given = tuple(dict.fromkeys([*before, *elements]))
    inferred = kind == "extraction" and not given
    named = infer_elements(rows) if inferred else given
    if known is not None:
        return known.model_copy(update={"elements": named, "elements_inferred": inferred})
    return Dataset(name=name, task=kind, elements=named, elements_inferred=inferred)
