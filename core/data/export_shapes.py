"""The shapes that other tools train on: alpaca, sharegpt and openai. A row as one record of each, and what a shape can't hold.

LLaMA-Factory takes the columns that its ``dataset_info.json`` names and drops the others, and TRL drops what it doesn't
know, so alpaca and sharegpt carry everything beside a row. OpenAI's description of a training line (``FineTuneChatRequestInput``)
has no place for anything else, so openai leaves it out. Knows nothing of versions or files.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from core.data.export_columns import beside_names, mixed_columns
from core.errors import UserError

Record = dict[str, Any]
SHAPES = ("alpaca", "sharegpt", "openai")
OPENAI_BESIDE = ("tools", "parallel_tool_calls", "functions")
"""What OpenAI takes beside the messages; anything else can make it refuse the file."""

_SHAREGPT = {"user": "human", "assistant": "gpt", "tool": "observation", "system": "system"}
_STUBS: dict[str, Record] = {
    "alpaca": {"instruction": "text", "input": "text", "output": "text"},
    "sharegpt": {"conversations": [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}]},
}
_TAKEN_BY_TRL = frozenset({"conversations", "prompt", "completion", "chosen", "rejected", "input_ids", "labels"})
"""Columns beside a conversation that would make TRL take the file for another kind of data."""


def messages_of(row: Record) -> list[dict[str, str]]:
    """A row's turns. A single turn: the instruction is the system text, the input the question; without input, the
    instruction is the question."""
    if row["messages"] is not None:
        turns: list[dict[str, str]] = json.loads(row["messages"])
        return turns
    asked, system = (row["input"], row["instruction"]) if row["input"].strip() else (row["instruction"], "")
    first = [{"role": "system", "content": system}] if system else []
    return [*first, {"role": "user", "content": asked}, {"role": "assistant", "content": row["output"]}]


def extra_of(row: Record) -> Record:
    """The columns that came beside a row."""
    return json.loads(row["extra"]) if row["extra"] else {}


def shape_of(form: str, rows: pa.Table) -> Callable[[Record], Record]:
    """What makes a record of ``form`` (one of ``SHAPES``) out of a row of ``rows`` (``schema.ROWS``).

    Columns beside a row whose values have no common type are JSON text, for a tool may refuse the file otherwise.
    UserError if there are rows that the shape can't hold.
    """
    check_held(form, rows)
    if form == "openai":
        return _openai
    talk = rows["messages"].null_count < rows.num_rows
    reserved = _TAKEN_BY_TRL if form == "sharegpt" else frozenset()
    names = beside_names(rows, talk=talk or form == "sharegpt", stub=_STUBS[form], reserved=reserved)
    mixed = mixed_columns(rows["extra"])
    body = _alpaca if form == "alpaca" else _sharegpt

    def record(row: Record) -> Record:
        return body(row) | _split(row) | {names[key]: _one_type(value, key in mixed) for key, value in extra_of(row).items()}

    return record


def left_out(form: str, rows: pa.Table) -> dict[str, int]:
    """Columns beside the rows, ``split`` among them, that ``form`` has no place for → how many rows have something there."""
    if form != "openai":
        return {}
    counted: Counter[str] = Counter()
    for text in rows["extra"].drop_null().to_pylist() if rows["extra"].null_count < rows.num_rows else ():
        counted.update(key for key in json.loads(text) if key not in OPENAI_BESIDE)
    split = pc.sum(pc.not_equal(rows["split"], "")).as_py() or 0
    return dict(counted.most_common()) | ({"split": split} if split else {})


def left_out_words(form: str, left: Mapping[str, int], splits: Mapping[str, int]) -> list[str]:
    """What an export in ``form`` leaves out (see ``left_out``), and which ``splits`` (name → rows) it mixes, in sentences."""
    told = []
    if left:
        columns = ", ".join(f"{name} ({count:,} row{'s' if count != 1 else ''})" for name, count in left.items())
        told.append(f"Left out: {columns}. {form} holds messages and tools only; jsonl, alpaca and sharegpt keep the rest.")
    several = [f"{name or 'no split'} ({count:,})" for name, count in splits.items() if count]
    if form in SHAPES and len(several) > 1:
        named = " and ".join([", ".join(several[:-1]), several[-1]])
        told.append(f"Rows of {named} are in one file; a tool trains on all of them.")
    return told


def check_held(form: str, rows: pa.Table) -> None:
    """UserError if conversations among the rows (columns ``row_id``, ``messages``) are none that ``form`` can hold."""
    if form != "alpaca" or rows["messages"].null_count == rows.num_rows:
        return
    wrong = [row["row_id"] for row in rows.select(["row_id", "messages"]).to_pylist() if row["messages"] and not _plain(row)]
    if wrong:
        told = f"{len(wrong):,} conversation{'s are' if len(wrong) > 1 else ' is'} no plain exchange of user and assistant"
        raise UserError(f"{told}, which alpaca can't hold; the first is row {wrong[0]}", "Export as sharegpt or openai.")


def _plain(row: Record) -> bool:
    """Whether a conversation is questions and answers in turn, after a system text or none."""
    roles = [turn["role"] for turn in _apart(json.loads(row["messages"]))[1]]
    return bool(roles) and roles == ["user", "assistant"] * (len(roles) // 2)


def tool_words(form: str, rows: pa.Table) -> list[str]:
    """What ``form`` makes of conversations (column ``messages``) in which a tool answers, in a sentence if there are any."""
    asked = pc.sum(pc.match_substring(rows["messages"], '"role":"tool"')).as_py() or 0
    if form != "openai" or not asked:
        return []
    several = "conversation holds" if asked == 1 else "conversations hold"
    return [f"{asked:,} {several} calls of functions as text, which OpenAI wants as tool_calls; sharegpt marks them as calls."]


def _split(row: Record) -> Record:
    return {"split": row["split"]} if row["split"] else {}


def _one_type(value: Any, mixed: bool) -> Any:
    return json.dumps(value, ensure_ascii=False) if mixed and not isinstance(value, str) and value is not None else value


def _alpaca(row: Record) -> Record:
    if row["messages"] is None:
        return {"instruction": row["instruction"], "input": row["input"], "output": row["output"]}
    system, turns = _apart(json.loads(row["messages"]))
    said = [turn["content"] for turn in turns]
    past = [[said[i], said[i + 1]] for i in range(0, len(said) - 2, 2)]
    return {"instruction": said[-2], "input": "", "output": said[-1], "system": system, "history": past}


def _sharegpt(row: Record) -> Record:
    system, turns = _apart(messages_of(row))
    following = [turn["role"] for turn in turns[1:]] + [""]
    talk = [
        {"from": "function_call" if after == "tool" and _calls(turn) else _SHAREGPT[turn["role"]], "value": turn["content"]}
        for turn, after in zip(turns, following, strict=True)
    ]
    return {"conversations": talk} | ({"system": system} if system else {})


def _apart(turns: list[dict[str, str]]) -> tuple[str, list[dict[str, str]]]:
    """The system text before the turns, and the turns behind it."""
    first = bool(turns) and turns[0]["role"] == "system"
    return (turns[0]["content"], turns[1:]) if first else ("", turns)


def _calls(turn: Mapping[str, str]) -> bool:
    """Whether a turn is an assistant's call of a function, as JSON."""
    if turn["role"] != "assistant" or not turn["content"].lstrip().startswith(("{", "[")):
        return False
    try:
        found = json.loads(turn["content"])
    except (ValueError, RecursionError):
        return False
    return all(isinstance(call, dict) and "name" in call for call in (found if isinstance(found, list) else [found]))


def _openai(row: Record) -> Record:
    return {"messages": messages_of(row)} | {key: value for key, value in extra_of(row).items() if key in OPENAI_BESIDE}
