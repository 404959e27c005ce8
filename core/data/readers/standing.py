"""Which column of a table is the text in which the cells of other columns stand: a table with a column for each element.

Told by what the cells hold, where their headings tell nothing; only ever proposed. Knows nothing of files.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import chain
from statistics import mean, median
from typing import Any

from core.data.readers.cells import cell_text
from core.data.readers.separators import KINDS
from core.data.several import values_of

LOOKED, TEXTS, ELEMENTS = 200, 3, 24
"""Records that are looked at, and columns that are tried: as the text the longest, as elements the first."""
_SIGNS = tuple(chain.from_iterable(KINDS))
_FEWEST, _SHARE, _CHANCE, _LONG = 2, 0.8, 0.2, 3
"""Filled cells that make evidence, their share that must stand in the text, and how much seldomer in another row's,
unless they are so many characters long that they don't by chance."""


def standing_in_text(records: Sequence[Any], columns: Sequence[str], guessed: Mapping[str, str]) -> dict[str, str]:
    """Column → field, for the text (``input``) and at least two columns whose cells stand in it (``element``); else empty.

    ``guessed``: what names told; a column that it takes for the input is the text if any is.
    """
    rows = [{column: _cell(record.get(column)) for column in columns} for record in records[:LOOKED] if isinstance(record, dict)]
    named = [column for column, field in guessed.items() if field == "input"]
    lengths = {column: mean([len(row[column]) for row in rows if row[column]] or [0]) for column in columns}
    texts = named or sorted(columns, key=lambda column: -lengths[column])[:TEXTS]
    found = {text: [other for other in columns[:ELEMENTS] if other != text and _stands(rows, text, other)] for text in texts}
    text = max(found, key=lambda one: len(found[one]), default="")
    if not text or len(found[text]) < 2:
        return {}
    return {column: "input" if column == text else "element" for column in columns if column == text or column in found[text]}


def _stands(rows: Sequence[Mapping[str, str]], text: str, column: str) -> bool:
    """Whether nearly all cells of a column stand in the text of their row, and not by chance alone."""
    filled = [row for row in rows if row[column]]
    if len(filled) < _FEWEST:
        return False
    own = mean(_within(row[column], row[text]) for row in filled)
    if own < _SHARE:
        return False
    if median(len(row[column]) for row in filled) >= _LONG:
        return True
    others = [*filled[1:], filled[0]]
    return mean(_within(row[column], other[text]) for row, other in zip(filled, others, strict=True)) <= own - _CHANCE


def _within(cell: str, text: str) -> bool:
    """Whether a cell, or each of the values in it, is a part of the text."""
    return cell != text and (cell in text or all(str(value) in text for value in values_of(cell, _SIGNS)))


def _cell(cell: Any) -> str:
    return "" if isinstance(cell, (list, dict, bytes)) else cell_text(cell).strip()
