"""What containers hand on: records with their place, faults, and the document that they come from.

Knows nothing of any format, nor of what a record means.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, BinaryIO

from core.settings import get_settings

RAW_LIMIT = 20_000
"""Characters of a bad row's text that are kept when it is longer than any row may be."""


@dataclass(frozen=True, slots=True)
class Limits:
    """How much of a file is believed: see ``core.settings``."""

    file_bytes: int
    expanded_bytes: int
    row_characters: int
    nesting: int

    @classmethod
    def current(cls) -> Limits:
        """The limits that are set now."""
        settings = get_settings()
        return cls(
            file_bytes=settings.max_file_mb * 1024 * 1024,
            expanded_bytes=settings.max_expanded_mb * 1024 * 1024,
            row_characters=settings.max_row_characters,
            nesting=settings.max_nesting,
        )


@dataclass(frozen=True, slots=True)
class Document:
    """One readable thing: a file, or a member of an archive, already decompressed by ``open``.

    ``name`` is what rows are told to come from; ``size`` is in bytes, 0 when it isn't known before reading;
    ``split`` is the one that its name tells, for rows that tell none.
    """

    name: str
    open: Callable[[], BinaryIO]
    size: int = 0
    split: str = ""

    @property
    def suffix(self) -> str:
        """The name's last ending in lower case, e.g. ``.jsonl``."""
        base = self.name.rsplit("/", 1)[-1]
        return f".{base.rsplit('.', 1)[1].lower()}" if "." in base else ""


@dataclass(frozen=True, slots=True)
class Fault:
    """A row that can't be used, where it is and why. ``raw`` is its text as it lies in the file, bad bytes as ``\\xNN``."""

    source: str
    line: int
    reason: str
    raw: str


class RowError(Exception):
    """Raised by a shape for a record that it can't turn into a row; the text is the reason, in plain words."""


@dataclass(slots=True)
class Chunk:
    """A stretch of a document: records, the 1-based line or number of each, and what couldn't be read.

    ``raw(i)`` gives the text of record ``i`` for the quarantine.
    """

    source: str
    records: Sequence[Any]
    lines: Sequence[int]
    raw: Callable[[int], str]
    faults: list[Fault] = field(default_factory=list)


Chunks = Iterator[Chunk]


def nesting_of(value: Any, limit: int) -> int:
    """How deep lists and objects of a JSON value are nested (a scalar 0, ``[]`` 1); stops counting above ``limit``."""
    depth, level = 0, [value]
    while depth <= limit:
        level = [item for item in level if isinstance(item, (list, dict))]
        if not level:
            break
        depth += 1
        level = [child for item in level for child in (item.values() if isinstance(item, dict) else item)]
    return depth
