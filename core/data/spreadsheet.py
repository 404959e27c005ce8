"""Cells that a spreadsheet would run as a formula: made harmless on the way out, restored when our own file comes back.

A quoted cell gets a ``'`` before it, and its row names the column in a last column, ``MARK``. So a file that we wrote reads
back as it was, also after it was sorted or saved again, and a file of others, which has no such column, is never touched.
Source of the rule: OWASP, "CSV Injection". Knows nothing of files.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence

MARK = "tunewise_quoted"
"""The column that names, as a JSON list, the columns whose cells were quoted in a row."""
_DANGEROUS = tuple("=+-@\t\r\n＝＋－＠")
_LIKE_QUOTED = re.compile(f"'*[{re.escape(''.join(_DANGEROUS))}]")


def harmless(cell: str) -> str:
    """A cell that a spreadsheet won't take for a formula: ``'`` before ``= + - @`` (also full-width), tab or line break."""
    return f"'{cell}" if cell.startswith(_DANGEROUS) else cell


def harmless_name(column: str) -> str:
    """A column's name made harmless so that ``plain_name`` can undo it without a mark of its own."""
    return f"'{column}" if _LIKE_QUOTED.match(column) else column


def plain_name(column: str) -> str:
    """What ``harmless_name`` was given."""
    return column[1:] if column.startswith("'") and _LIKE_QUOTED.match(column) else column


def quoted_columns(record: Mapping[str, str]) -> list[str]:
    """The columns of a record whose cells ``harmless`` changes."""
    return [column for column, cell in record.items() if cell.startswith(_DANGEROUS)]


def restored(record: dict[str, str]) -> dict[str, str]:
    """A record without ``MARK``, and without the quotes of which it tells; a mark that can't be read tells of none."""
    try:
        quoted = json.loads(record.pop(MARK, "") or "[]")
    except (ValueError, RecursionError):
        quoted = []
    for column in quoted if isinstance(quoted, list) else []:
        if isinstance(column, str) and record.get(column, "").startswith("'"):
            record[column] = record[column][1:]
    return record


def restored_header(header: Sequence[str]) -> list[str]:
    """Column names of our own file as they were; those of others as they are."""
    return [plain_name(column) for column in header] if MARK in header else list(header)
