"""A cell that holds several values, taken apart: at separators, at line breaks, or as a list that was written into it.

A separator in quotes or brackets, between two digits (``1,000``, ``2024/05/06``) or in a character reference (``&amp;``)
separates nothing. Knows nothing of columns and files.
"""

from __future__ import annotations

import ast
import io
import json
import re
import tokenize
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from itertools import pairwise
from typing import Any

from core.errors import InputFileError

LINES, LIST = "lines", "list"
"""Words that stand for line breaks, and for a list as JSON or Python write it, where a separator is told."""
EVERY = "*"
"""Stands for every column of elements that no separator is told for."""

_BREAK = r"\r\n|\r|\n"
_IN_NUMBERS = frozenset(",，.．/:：-")
_PAIRS = dict(zip("“‘「『《〈«（([【〔{", "”’」』》〉»）)]】〕}", strict=True))
_OPENING_BEFORE = re.compile(r"[\s“‘「『《〈«（(\[【〔{,，;；、|｜/:：]\Z")
_CLOSING_AFTER = re.compile(r"\Z|[\s”’」』》〉»）)\]】〕},，;；、|｜/:：.。!?！？]")
_REFERENCE = re.compile(r"&(?:#\d{1,7}|#[xX][0-9a-fA-F]{1,6}|[A-Za-z][A-Za-z0-9]{1,30});")
_LITERAL_CHARACTERS = 20_000
"""Longest text that is read as a list that Python wrote."""


def values_of(cell: str, separators: Sequence[str]) -> list[Any]:
    """The values in a cell, in their order, stripped, blank ones left out; one if nothing separates any.

    A value that stands in ``"`` as a whole loses them. Of a list, numbers become text as they are written, and values that are
    lists or objects stay such.
    """
    if LIST in separators and (items := _listed(cell)) is not None:
        return items
    literal = tuple(separator for separator in separators if separator != LIST)
    if not literal:
        return [whole] if (whole := cell.strip()) else []
    return [_unquoted(piece) for piece in _pieces(cell, literal) if piece]


def _pieces(cell: str, separators: tuple[str, ...]) -> Iterator[str]:
    at = 0
    kept = _protected(cell, separators)
    for match in _pattern(separators).finditer(cell):
        if any(start <= match.start() < end for start, end in kept) or _in_number(cell, match):
            continue
        yield cell[at : match.start()].strip()
        at = match.end()
    yield cell[at:].strip()


@lru_cache(maxsize=64)
def _pattern(separators: tuple[str, ...]) -> re.Pattern[str]:
    longest = sorted(separators, key=len, reverse=True)
    return re.compile("|".join(_BREAK if separator == LINES else re.escape(separator) for separator in longest))


def _in_number(cell: str, match: re.Match[str]) -> bool:
    before, after = cell[match.start() - 1 : match.start()], cell[match.end() : match.end() + 1]
    return match[0] in _IN_NUMBERS and before.isdigit() and after.isdigit()


def _protected(cell: str, separators: tuple[str, ...]) -> list[tuple[int, int]]:
    """Stretches [from, to) in which nothing separates. A quote or bracket that isn't closed protects nothing."""
    spans = [(found.start(), found.end()) for found in _REFERENCE.finditer(cell)] if "&" in cell else []
    told = set("".join(separators))
    opened: list[tuple[str, int]] = []
    for place, character in enumerate(cell):
        if character in told:
            continue
        closing = next((depth for depth in range(len(opened) - 1, -1, -1) if opened[depth][0] == character), None)
        if closing is not None and (character not in "\"'" or _CLOSING_AFTER.match(cell, place + 1)):
            spans.append((opened[closing][1], place + 1))
            del opened[closing:]
        elif character in _PAIRS:
            opened.append((_PAIRS[character], place))
        elif character in "\"'" and (not place or _OPENING_BEFORE.search(cell[place - 1 : place])):
            opened.append((character, place))
    return spans


def _unquoted(piece: str) -> str:
    inner = piece[1:-1]
    if len(piece) > 2 and piece[0] == piece[-1] == '"' and '"' not in inner.replace('""', ""):
        return inner.replace('""', '"').strip() or piece
    return piece


def _listed(cell: str) -> list[Any] | None:
    """The items of a list written as JSON or by Python, or None if the cell is no such list."""
    text = cell.strip()
    if not (text.startswith("[") and text.endswith("]")):
        return None
    try:
        found = json.loads(text, parse_float=str, parse_int=str, parse_constant=str)
    except (ValueError, RecursionError):
        found = _python_list(text)
    if not isinstance(found, list):
        return None
    items = [item.strip() if isinstance(item, str) else item for item in found if item is not None]
    return [str(item).lower() if isinstance(item, bool) else item for item in items if item != ""]


def _python_list(text: str) -> list[Any] | None:
    """A list that Python wrote; not one of numpy, whose texts stand side by side and would be glued together."""
    if len(text) > _LITERAL_CHARACTERS:
        return None
    try:
        kinds = [token.type for token in tokenize.generate_tokens(io.StringIO(text).readline)]
        found = ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return None
    glued = any(one == two == tokenize.STRING for one, two in pairwise(kinds))
    plain = isinstance(found, list) and all(isinstance(item, (str, bool, int, float, type(None))) for item in found)
    if glued or not plain:
        return None
    return [str(item) if isinstance(item, (int, float)) and not isinstance(item, bool) else item for item in found]


def parse_separators(pairs: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """``column=separator`` texts of the command line as column → separators; a column can be named several times."""
    found: dict[str, tuple[str, ...]] = {}
    for pair in pairs:
        column, sign, separator = pair.rpartition("=")
        if not sign or not column or not separator:
            raise InputFileError(
                f"{pair!r} is not column=separator", "For example: --separator 作者=、 or --separator authors=lines"
            )
        found[column] = (*found.get(column, ()), separator)
    return found


def separators_for(
    given: Mapping[str, Sequence[str]], elements: Sequence[str], columns: Sequence[str]
) -> dict[str, tuple[str, ...]]:
    """Element → separators out of what is ``given``, in which ``*`` is every other element of these ``columns``.

    InputFileError if a column that is given is there but is no element.
    """
    wrong = next((column for column in given if column in columns and column not in elements), None)
    if wrong is not None:
        raise InputFileError(f"Cells of {wrong!r} can't be split, for it is no element", f"Name it one: --map {wrong}=element")
    for_all = given.get(EVERY, ()) if EVERY not in columns else ()
    told = {element: tuple(given.get(element, for_all)) for element in elements}
    return {element: separators for element, separators in told.items() if separators}


def check_separators(given: Mapping[str, Sequence[str]], elements: Sequence[str], source: str) -> None:
    """InputFileError if a column that is given, or ``*``, is none of the elements that were found in ``source``."""
    missing = next((column for column in given if column not in elements and (column != EVERY or not elements)), None)
    if missing is not None:
        raise InputFileError(
            f"{source} has no element {missing!r} whose cells could be split"
            if missing != EVERY
            else f"{source} has no elements whose cells could be split",
            f"Elements: {', '.join(elements) or 'none; name some: --map column=element'}.",
        )
