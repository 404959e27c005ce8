"""What every shape makes of a record, and how loose values become text.

Knows nothing of any shape.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from core.data.mapping import BESIDE, plain_names, split_named
from core.data.readers.base import RowError
from core.data.readers.json_text import compact, compact_any


class Converted(NamedTuple):
    """The text columns of a row; ``messages`` and ``extra`` are JSON text or None."""

    instruction: str
    input: str
    output: str
    messages: str | None
    split: str
    extra: str | None


Converter = Callable[[Any], Converted]


def text_of(value: Any) -> str:
    """A value as text: text as it is, nothing (null, NaN) as ``""``, times as ISO 8601, everything else as compact JSON."""
    if isinstance(value, str):
        return value
    if value is None or value != value:
        return ""
    if isinstance(value, (bytes, bytearray)):
        raise RowError(f"{len(value)} bytes where a text should be")
    try:
        return compact(value)
    except TypeError:
        return compact_any(value) if isinstance(value, (dict, list)) else str(value)
    except ValueError as error:
        raise RowError(f"a value that JSON can't hold: {error}") from error


def fields_of(mapping: Mapping[str, str]) -> dict[str, str]:
    """Field → column; columns mapped to ``extra`` are left out."""
    return {field: column for column, field in mapping.items() if field != "extra"}


def rest_of(record: Mapping[str, Any], used: frozenset[str]) -> str | None:
    """The columns that weren't mapped, as a JSON object, under the names that they had before an export; None without any."""
    rest = {key: value for key, value in record.items() if key not in used}
    if any(isinstance(key, str) and key.startswith(BESIDE) for key in rest):
        names = plain_names(list(rest))
        rest = {names[key]: value for key, value in rest.items()}
    return compact_any(rest) if rest else None


def row_of(messages: list[dict[str, str]], split: str, extra: str | None) -> Converted:
    """A row out of a conversation's messages (role, content).

    One exchange, with a system text or without, is a row of a single turn; a longer one keeps all of its turns, and
    instruction, input and output repeat the system text, the last question and the last reply.
    """
    roles = [message["role"] for message in messages]
    single = roles[-2:] == ["user", "assistant"] and roles[:-2] in ([], ["system"])
    instruction = messages[0]["content"] if roles[0] == "system" else ""
    question = next((m["content"] for m in reversed(messages) if m["role"] == "user"), "")
    reply = messages[-1]["content"] if roles[-1] == "assistant" else ""
    return Converted(instruction, question, reply, None if single else compact(messages), split, extra)


def split_of(record: Mapping[str, Any], column: str | None) -> str:
    """The row's own split, ``""`` when its column says none that is known."""
    value = record.get(column) if column is not None else None
    return (split_named(value) or "") if isinstance(value, str) else ""
