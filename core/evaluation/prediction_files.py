"""Predictions made elsewhere: JSON Lines files of ``{"input", "output", "prediction"}``.

Knows nothing of tasks or scores. Every line that can't be used is a fault of the file, named by its number: a score
on some of the rows would be a wrong score.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from core.data.answers import storable
from core.errors import InputFileError
from core.settings import get_settings

FIELDS = ("input", "output", "prediction")
NUMBERS = ("nll", "nll_tokens", "tokens_in", "tokens_out", "seconds")
_FORM = 'Each line is {"input": …, "output": the gold answer, "prediction": the answer to score}.'


def read_prediction_file(path: Path, *, gold: bool = True) -> dict[str, list[Any]]:
    """Columns ``input``, ``output``, ``prediction``, ``row_id`` (null where the line has none), ``line``, and those of
    ``NUMBERS`` that every line has.

    ``gold``: whether each line must have ``output``; without it, ``row_id`` or ``input`` must say which row it answers.
    An answer may stand as nested JSON instead of as text. InputFileError names the line of the first fault.
    """
    rows = [_row(line, number, path.name, gold) for number, line in enumerate(_lines(path), 1) if line.strip()]
    if not rows:
        raise InputFileError(f"{path.name} has no rows", _FORM)
    columns: dict[str, list[Any]] = {name: [row[name] for row in rows] for name in (*FIELDS, "row_id", "line")}
    columns |= {name: [row[name] for row in rows] for name in NUMBERS if all(name in row for row in rows)}
    return columns


def _lines(path: Path) -> list[str]:
    if not path.is_file():
        raise InputFileError(f"There is no file {path}", "Give the path of a JSON Lines file with predictions.")
    if path.stat().st_size > get_settings().max_file_mb * 2**20:
        raise InputFileError(f"{path.name} is larger than {get_settings().max_file_mb} MB", "Raise TUNEWISE_MAX_FILE_MB.")
    try:
        return path.read_text("utf-8-sig").split("\n")
    except UnicodeDecodeError as error:
        raise InputFileError(
            f"{path.name} is not UTF-8 text (byte {error.start})", "Save it as JSON Lines, one object a line, in UTF-8."
        ) from None


def _row(line: str, number: int, name: str, gold: bool) -> dict[str, Any]:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError) as error:
        reason = error.msg if isinstance(error, json.JSONDecodeError) else "nested too deeply"
        raise InputFileError(f"{name}, line {number}: not JSON ({reason})", _FORM) from None
    if not isinstance(value, dict):
        raise InputFileError(f"{name}, line {number}: not an object", _FORM)
    missing = [field for field in ("output", "prediction") if field not in value and (gold or field != "output")]
    if not gold and "input" not in value and value.get("row_id") is None:
        missing.append("row_id")
    if missing:
        there = ", ".join(map(str, value)) or "none"
        raise InputFileError(f"{name}, line {number}: no {' and no '.join(map(repr, missing))} (it has: {there})", _FORM)
    row: dict[str, Any] = {field: _text(value.get(field)) for field in FIELDS}
    row["line"] = number
    row["row_id"] = storable(str(value["row_id"])) if value.get("row_id") is not None else None
    for field in NUMBERS:
        if field in value:
            if isinstance(value[field], bool) or not isinstance(value[field], (int, float, type(None))):
                raise InputFileError(f"{name}, line {number}: {field!r} is not a number", "Leave it out or give a number.")
            row[field] = value[field]
    return row


def _text(value: Any) -> str:
    """A text as it is, nothing as an empty text, anything else as JSON."""
    if value is None:
        return ""
    return storable(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))
