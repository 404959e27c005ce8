"""A record of named texts: instruction, input, output, perhaps with system text and history (alpaca).

A history makes the row a conversation, as any other is. Knows nothing of files.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from core.data.mapping import split_named
from core.data.readers.base import RowError
from core.data.readers.shapes.base import Converted, Converter, fields_of, rest_of, row_of, split_of, text_of


def converter(mapping: Mapping[str, str], _options: Mapping[str, Any]) -> Converter:
    """Rows by the mapped columns. A record without the answer's column, or without any text, is a fault."""
    fields = fields_of(mapping)
    instruction, input_, output = fields.get("instruction"), fields.get("input"), fields.get("output")
    system, history, split = fields.get("system"), fields.get("history"), fields.get("split")
    used = frozenset(column for column in (instruction, input_, output, history, split) if column is not None)
    wanted = tuple(column for column in (instruction, input_) if column is not None)

    def cell(record: Mapping[str, Any], column: str | None) -> str:
        value = record.get(column) if column is not None else None
        return value if type(value) is str else text_of(value)

    def convert(record: Any) -> Converted:
        if not isinstance(record, dict):
            raise RowError(f"not an object with named fields but {describe(record)}")
        if output not in record:
            raise RowError(f"no field {output!r}")
        if instruction not in record and input_ not in record:
            raise RowError(f"no field {' or '.join(map(repr, wanted))}")
        asked, text, answer = cell(record, instruction), cell(record, input_), cell(record, output)
        past = record.get(history) if history is not None else None
        keep = used if not past or system is None else used | {system}
        if split is not None and split_named(str(record.get(split) or "")) is None:
            keep = keep - {split}
        extra = None if record.keys() <= keep else rest_of(record, keep)
        if past:
            turns = _with_history(past, text_of(record.get(system)) if system else "", asked, text, answer)
            return row_of(turns, split_of(record, split), extra)
        return Converted(asked, text, answer, None, split_of(record, split), extra)

    return convert


def describe(value: Any) -> str:
    """What a JSON value is, in words."""
    kinds = {list: "a list", str: "a text", bool: "true or false", int: "a number", float: "a number"}
    return "null" if value is None else kinds.get(type(value), type(value).__name__)


def _with_history(past: Any, system: str, asked: str, text: str, answer: str) -> list[dict[str, str]]:
    if not isinstance(past, Sequence) or isinstance(past, str):
        raise RowError("the history is not a list of [question, answer] pairs")
    messages = [{"role": "system", "content": system}] if system else []
    for turn in past:
        if not isinstance(turn, Sequence) or isinstance(turn, str) or len(turn) != 2:
            raise RowError("a turn of the history is not a [question, answer] pair")
        messages += [{"role": "user", "content": text_of(turn[0])}, {"role": "assistant", "content": text_of(turn[1])}]
    question = "\n".join(part for part in (asked, text) if part)
    messages += [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
    return messages
