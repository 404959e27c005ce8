"""A path read to its end: rows without identifiers, faults, and how it was read.

Knows nothing of datasets or versions.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from core.data.readers.base import Chunk, Document, Fault, Limits
from core.data.readers.detect import chunks
from core.data.readers.guessing import Guess, guess_document
from core.data.readers.names import with_splits
from core.data.readers.places import Place, opened
from core.data.readers.rows import BODY, convert
from core.data.readers.shapes.columns import elements_of, several_in
from core.data.readers.shapes.registry import find_shape
from core.data.several import check_separators
from core.errors import UserError
from core.records import Reporter

_SPECIAL = re.compile(r"^record \d+, line \d+:|'[^']*'|\\x[0-9a-f]{2}(?:, \\x[0-9a-f]{2})*(?: …)?|(?<![\w-])\d[\d,]*\b")
"""What differs between reasons of one kind: places, quoted names, bytes, numbers."""


@dataclass(frozen=True, slots=True)
class Parsed:
    """All of a path: ``rows`` (columns ``BODY``), ``faults`` in order, the guess for its first document.

    ``elements`` are the columns that were mapped to be elements, of all documents; ``separators`` those of them that were
    split, and at what, ``several`` how many cells of each hold several values.
    """

    source: str
    sha256: str
    rows: pa.Table
    faults: list[Fault]
    guess: Guess
    elements: tuple[str, ...] = ()
    separators: Mapping[str, list[str]] = field(default_factory=dict)
    several: Mapping[str, int] = field(default_factory=dict)

    @property
    def reasons(self) -> dict[str, int]:
        """How many rows each kind of reason cost."""
        return reasons_of(self.faults)


def parse(
    path: str | Path,
    limits: Limits,
    *,
    mapping: Mapping[str, str] | None,
    shape: str | None,
    encoding: str | None,
    reporter: Reporter,
    splits: Mapping[str, str] | None = None,
    separators: Mapping[str, Sequence[str]] | None = None,
) -> Parsed:
    """Read a path; ``splits``: of some files in a folder or archive; ``separators``: element → what separates its values.

    InputFileError if it can't be read as rows at all.
    """
    with opened(path, limits) as place:
        place = replace(place, documents=with_splits(place.documents, splits or {}))
        return _parse(place, limits, {"mapping": mapping, "shape": shape, "encoding": encoding}, separators or {}, reporter)


def _parse(
    place: Place, limits: Limits, told: Mapping[str, Any], separators: Mapping[str, Sequence[str]], reporter: Reporter
) -> Parsed:
    tables: list[pa.Table] = []
    faults: list[Fault] = []
    first: Guess | None = None
    elements: dict[str, None] = {}
    split: dict[str, list[str]] = {}
    several: Counter[str] = Counter()
    done = 0
    for document in place.documents:
        guess = guess_document(document, limits, separators=separators, **told)
        first = first or guess
        elements.update(dict.fromkeys(elements_of(guess.mapping)))
        split.update(guess.options.get("separators") or {})
        converter = find_shape(guess.shape).converter(guess.mapping, guess.options)
        for body in convert(_watched(document, guess, limits, reporter), converter, limits):
            tables.append(_with_split(body.rows, document.split))
            faults.extend(body.faults)
            if split:
                several.update(several_in(body.rows, split))
            done += body.rows.num_rows + len(body.faults)
            reporter.progress(done, 0, message=document.name)
    assert first is not None, "documents() gives at least one"
    check_separators(separators, tuple(elements), place.name)
    rows = pa.concat_tables(tables) if tables else BODY.empty_table()
    return Parsed(place.name, place.sha256(), rows, faults, first, tuple(elements), split, dict(several))


def _with_split(rows: pa.Table, split: str) -> pa.Table:
    """Rows that tell no split are in the one that their document's name tells."""
    if not split:
        return rows
    filled = pc.if_else(pc.equal(rows["split"], ""), pa.scalar(split, pa.large_string()), rows["split"])
    return rows.set_column(rows.schema.get_field_index("split"), BODY.field("split"), filled)


def _watched(document: Document, guess: Guess, limits: Limits, reporter: Reporter) -> Iterator[Chunk]:
    for chunk in chunks(document, guess.how, limits):
        if reporter.should_stop():
            raise UserError(f"The import of {document.name} was stopped", "Nothing was written.")
        yield chunk


def reasons_of(faults: Iterable[Fault]) -> dict[str, int]:
    """How many rows each kind of reason cost, the commonest first; numbers and quoted parts make no difference."""
    return dict(Counter(_SPECIAL.sub("…", fault.reason).removeprefix("… ") for fault in faults).most_common())
