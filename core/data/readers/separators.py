"""Which columns of elements hold several values in one cell, and what separates them: shown and suggested, never done unasked.

A suggestion needs strong evidence in the first records: parts that stand in the text where the whole cell doesn't, parts that
are cells of their own elsewhere, or a notation that means nothing else. Knows nothing of files.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from core.data.readers.cells import cell_text
from core.data.several import LINES, LIST, values_of

KINDS: tuple[tuple[str, ...], ...] = ((LIST,), (LINES,), (";", "；"), ("|", "｜"), ("、",), (",", "，"), (" / ",))
"""Separators that are looked for, those that go together in one; the surest first."""
EXAMPLES = 3
_FEWEST, _SHARE, _MOST, _PROVEN = 2, 0.01, 0.8, 0.5
"""Cells with several values that make evidence: how many, their share of the filled ones, how many of them must agree, and how
many the text must prove."""
_SHORT = 40
"""Characters that a value in an enumeration has at most; longer ones are rather clauses."""
_SENTENCE = ("。", "！", "？", ". ", "! ", "? ")


@dataclass(frozen=True, slots=True)
class Several:
    """A column's cells taken apart: ``cells`` of the ``filled`` ones hold several values; ``examples`` are cells and values."""

    column: str
    separators: tuple[str, ...]
    cells: int
    filled: int
    examples: tuple[tuple[str, tuple[str, ...]], ...]

    @property
    def shown(self) -> str:
        """The separators in words."""
        return separators_shown(self.separators)


def separators_shown(separators: Sequence[str]) -> str:
    """Separators in words: ``; or ；``, ``line breaks``."""
    words = {LINES: "line breaks", LIST: "a list's commas"}
    return " or ".join(words.get(separator, separator.strip() or "a blank") for separator in separators)


def taken_apart(records: Sequence[Any], separators: Mapping[str, Sequence[str]]) -> tuple[Several, ...]:
    """What the given separators (column → separators) do to the cells of some records."""
    return tuple(
        _several(column, told, [cell for record in records if (cell := _cell(record, column))])
        for column, told in separators.items()
    )


def suggested(records: Sequence[Any], mapping: Mapping[str, str]) -> tuple[Several, ...]:
    """Columns of elements (column → field ``element``) whose cells surely hold several values, and at what they part."""
    read = [column for column, field in mapping.items() if field in ("instruction", "input")]
    texts = [_text(record, read) for record in records]
    found = (
        _surest(column, [(_cell(record, column), text) for record, text in zip(records, texts, strict=True)])
        for column, field in mapping.items()
        if field == "element"
    )
    return tuple(one for one in found if one is not None)


def _several(column: str, separators: Sequence[str], cells: Sequence[str]) -> Several:
    apart = [(cell, tuple(map(str, values_of(cell, separators)))) for cell in cells]
    held = [(cell, values) for cell, values in apart if len(values) > 1]
    return Several(column, tuple(separators), len(held), len(cells), tuple(dict.fromkeys(held))[:EXAMPLES])


def _surest(column: str, beside: Sequence[tuple[str, str]]) -> Several | None:
    """The separators that surely part a column's cells, if any do. ``beside``: cell and text of each record."""
    cells = [cell for cell, _ in beside if cell]
    likely: list[Several] = []
    for kind in KINDS:
        used = tuple(sign for sign in kind if sign in (LINES, LIST) or any(sign in cell for cell in cells))
        if used and _is_sure(kind[0], used, cells, beside):
            likely.append(_several(column, used, cells))
    return max(likely, key=lambda one: one.cells, default=None)


def _is_sure(kind: str, separators: Sequence[str], cells: Sequence[str], beside: Sequence[tuple[str, str]]) -> bool:
    """Whether most cells that ``separators`` take apart surely hold several values. ``beside``: cell and text of each record."""
    apart = {cell: [str(value) for value in values_of(cell, separators)] for cell in set(cells)}
    held = [cell for cell in cells if len(apart[cell]) > 1]
    if len(held) < max(_FEWEST, _SHARE * len(cells)):
        return False
    most = _MOST * len(held)
    if kind == LIST:
        return sum(apart[cell] != [cell] for cell in cells) >= _MOST * len(cells)
    proven = sum(
        cell not in text and all(value in text for value in apart[cell]) for cell, text in beside if len(apart.get(cell, ())) > 1
    )
    if proven >= max(_FEWEST, _PROVEN * len(held)):
        return True
    if kind in (";", "|"):
        return sum(all(map(_short, apart[cell])) for cell in held) >= most
    alone = {cell for cell in cells if len(apart[cell]) == 1}
    enough = any if kind == "、" else all
    return kind != LINES and sum(enough(value in alone for value in apart[cell]) for cell in held) >= most


def _short(value: str) -> bool:
    return len(value) <= _SHORT and not any(sign in value for sign in _SENTENCE)


def _cell(record: Any, column: str) -> str:
    """A cell as text; empty if it is a list or an object already, of which nothing has to be taken apart."""
    cell = record.get(column) if isinstance(record, dict) else None
    return "" if isinstance(cell, (list, dict, bytes)) else cell_text(cell).strip()


def _text(record: Any, columns: Sequence[str]) -> str:
    return "\n".join(cell_text(record.get(column)) for column in columns) if isinstance(record, dict) else ""
