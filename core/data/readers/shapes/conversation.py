"""A record that holds a conversation: ShareGPT (from/value), OpenAI messages (role/content), or pairs
of question and answer (human/assistant as Firefly has them, input/output as XTuner has them).

One exchange, with a system text or without, becomes a row of a single turn (system text → instruction, question → input,
reply → output). A longer one keeps all of its turns in ``messages``; instruction, input and output then repeat the system
text, the last question and the last reply. Order of roles is not judged here. Knows nothing of files.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from core.data.mapping import NAMES
from core.data.readers.base import RowError
from core.data.readers.shapes import flat
from core.data.readers.shapes.base import Converted, Converter, fields_of, rest_of, row_of, split_of, text_of

ROLES = {
    "system": "system", "developer": "system", "系统": "system",
    "human": "user", "user": "user", "用户": "user",
    "gpt": "assistant", "assistant": "assistant", "bot": "assistant", "chatgpt": "assistant", "bard": "assistant",
    "bing": "assistant", "model": "assistant", "ai": "assistant", "助手": "assistant",
    "function_call": "assistant", "tool_call": "assistant",
    "observation": "tool", "tool": "tool", "function": "tool", "function_response": "tool", "tool_response": "tool",
}  # fmt: skip
"""Role names in use, and the four that are kept. A function call is the assistant's turn before a tool's."""
_SINGLE = ("instruction", "input", "output")
_ROLE_KEYS = ("from", "role", "speaker")
_TEXT_KEYS = ("value", "content", "text")
_PAIRS = (("human", "assistant"), ("user", "assistant"), ("input", "output"))


def matches(records: Sequence[Any], columns: Sequence[str], given: Mapping[str, str]) -> dict[str, str] | None:
    """Column → field if a column holds lists of turns in most of the records that have it."""
    chosen = next((column for column, field in given.items() if field == "messages"), None)
    candidates = [chosen] if chosen else sorted(columns, key=lambda name: name.lower() not in NAMES["messages"])
    chosen_or_named = {chosen, *(column for column in columns if column.lower() in NAMES["messages"])}
    for column in candidates:
        values = [_turns_of(record[column]) for record in records if isinstance(record, dict) and record.get(column)]
        if column in chosen_or_named and values and 2 * sum(map(_is_pairs, values)) > len(values):
            values = [_unpaired(value) if isinstance(value, list) else value for value in values]
        if values and 2 * sum(map(_is_turns, values)) > len(values):
            mapping = dict(given) | {column: "messages"}
            return mapping | _beside(columns, mapping)
    return None


def _beside(columns: Sequence[str], mapping: Mapping[str, str]) -> dict[str, str]:
    """Columns beside the turns: system text and split by any of their names, the single texts by their own only."""
    found: dict[str, str] = {}
    for field, names in (("system", NAMES["system"]), ("split", NAMES["split"]), *((f, (f,)) for f in _SINGLE)):
        if field not in mapping.values():
            column = next((c for c in columns if c.strip().lower() in names and c not in mapping), None)
            if column is not None:
                found[column] = field
    return found


def _turns_of(value: Any) -> Any:
    """A list of turns that was written into a cell as JSON text, read; everything else as it is."""
    if isinstance(value, str) and value.startswith("["):
        try:
            return json.loads(value)
        except (ValueError, RecursionError):
            return value
    return value


def _is_pairs(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(_pair_keys(turn) is not None for turn in value)


def _pair_keys(turn: Any) -> tuple[str, str] | None:
    return next((keys for keys in _PAIRS if isinstance(turn, dict) and all(key in turn for key in keys)), None)


def _unpaired(turns: list[Any]) -> list[Any]:
    """Pairs of question and answer as turns, with the system text that the first pair may have."""
    made: list[Any] = []
    for turn in turns:
        keys = _pair_keys(turn)
        if keys is None:
            made.append(turn)
            continue
        if turn.get("system") and not made:
            made.append({"role": "system", "content": turn["system"]})
        made += [{"role": "user", "content": turn[keys[0]]}, {"role": "assistant", "content": turn[keys[1]]}]
    return made


def _is_turns(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(map(_is_turn, value))


def _is_turn(turn: Any) -> bool:
    return (
        isinstance(turn, dict)
        and any(key in turn for key in _ROLE_KEYS)
        and (any(key in turn for key in _TEXT_KEYS) or "tool_calls" in turn or "function_call" in turn)
    )


def converter(mapping: Mapping[str, str], options: Mapping[str, Any]) -> Converter:
    """Rows out of the column mapped to ``messages``. No turns, an unknown role or a turn that isn't text are faults.

    A record without turns but with single texts in columns of their own is read as those.
    """
    fields = fields_of(mapping)
    column, system, split = fields["messages"], fields.get("system"), fields.get("split")
    single = {field: fields[field] for field in _SINGLE if field in fields}
    used = frozenset(name for name in (column, system, split, *single.values()) if name is not None)
    flat_mapping = {name: field for field, name in fields.items() if field not in ("messages", "system")} | {column: "extra"}
    as_flat = flat.converter(flat_mapping, options) if "output" in single else None

    def convert(record: Any) -> Converted:
        if not isinstance(record, dict) or column not in record:
            raise RowError(f"no field {column!r}")
        turns = _turns_of(record[column])
        if not turns and as_flat is not None and any(record.get(name) for name in single.values()):
            return as_flat({key: value for key, value in record.items() if key != column})
        if not isinstance(turns, list) or not turns:
            raise RowError(f"{column!r} holds no turns")
        messages = [_message(turn, place) for place, turn in enumerate(_unpaired(turns), 1)]
        before = text_of(record.get(system)) if system else ""
        if before:
            messages.insert(0, {"role": "system", "content": before})
        extra = None if record.keys() <= used else rest_of(record, used)
        row = row_of(messages, split_of(record, split), extra)
        told = {field: text_of(record.get(name)) for field, name in single.items()}
        return row._replace(**told) if row.messages is not None and any(told.values()) else row

    return convert


def _message(turn: Any, place: int) -> dict[str, str]:
    if not isinstance(turn, dict):
        raise RowError(f"turn {place} is not an object with a role and a text")
    role = next((turn[key] for key in _ROLE_KEYS if key in turn), None)
    known = ROLES.get(role.strip().lower()) if isinstance(role, str) else None
    if known is None:
        raise RowError(f"turn {place} has the role {role!r}, which isn't known" if role else f"turn {place} has no role")
    return {"role": known, "content": _text(turn, place)}


def _text(turn: Mapping[str, Any], place: int) -> str:
    """A turn's text; the calls of an assistant that calls functions instead of speaking."""
    value = next((turn[key] for key in _TEXT_KEYS if key in turn), None)
    calls = turn.get("tool_calls") or ([{"function": turn["function_call"]}] if turn.get("function_call") else [])
    if isinstance(value, list):
        value = _parts(value, place)
    said = text_of(value)
    if not calls:
        return said
    if not isinstance(calls, list) or not all(isinstance(call, dict) for call in calls):
        raise RowError(f"turn {place} calls functions in a form that isn't known")
    functions = [call.get("function", call) for call in calls]
    called = text_of(functions[0] if len(functions) == 1 else functions)
    return f"{said}\n{called}" if said else called


def _parts(parts: list[Any], place: int) -> str:
    texts = []
    for part in parts:
        if isinstance(part, dict) and part.get("type", "text") in ("text", "input_text", "output_text"):
            texts.append(text_of(part.get("text")))
        elif isinstance(part, str):
            texts.append(part)
        else:
            raise RowError(f"turn {place} holds something else than text")
    return "".join(texts)
