"""A row written in the app becomes a row of a dataset: what stands there already is said, and the step can be undone.

Knows nothing of where the row comes from; ``source`` says it.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.compute as pc

from core.data.answers import parse_answer
from core.data.grounding import locate
from core.data.importing import import_file
from core.data.operations.adding import NewRow
from core.data.recipes import apply
from core.errors import UserError
from core.records import Step, Task, Version
from core.store.datasets import find_dataset, read_rows

CHAT = "chat"
_TRIES = 4
_EQUAL = ("instruction", "input", "output", "messages")


@dataclass(frozen=True, slots=True)
class Standing:
    """Rows that a dataset has already: ``equal`` ones, and others that ask the same and answer differently.

    Each is (row_id, split, output).
    """

    equal: tuple[tuple[str, str, str], ...] = ()
    conflicting: tuple[tuple[str, str, str], ...] = ()


def standing(name: str, row: Mapping[str, Any]) -> Standing:
    """What the latest version of a dataset has of a row (instruction, input, output, messages)."""
    if find_dataset(name) is None:
        return Standing()
    table = read_rows(name, columns=["row_id", "split", "instruction", "input", "output", "messages"])
    same = table.filter(
        pc.and_(pc.equal(table["input"], row["input"]), pc.equal(table["instruction"], row.get("instruction", "")))
    )
    found = same.to_pylist()
    wanted = {column: row.get(column) or None for column in _EQUAL}
    equal = [r for r in found if all((r[column] or None) == wanted[column] for column in _EQUAL)]
    others = [r for r in found if r not in equal and r["output"] != row["output"]]
    return Standing(*(tuple((r["row_id"], r["split"], r["output"]) for r in rows) for rows in (equal, others)))


def doubts(name: str, row: Mapping[str, Any]) -> list[str]:
    """What is unusual about a row for a dataset of extraction, in words: nothing here keeps it from being added."""
    dataset = find_dataset(name)
    answer = parse_answer(row["output"])
    if (dataset is not None and dataset.task != "extraction") or not answer.ok:
        return []
    told = []
    if dataset is not None and dataset.elements:
        strange = [element for element in answer.elements if element not in dataset.elements]
        if strange:
            told.append(f"{name} has no element {', '.join(strange)}.")
    absent = [value for _, value in answer.pairs if locate(value, row["input"]).kind == "absent"]
    if absent:
        told.append(f"Not in the text: {', '.join(absent)}.")
    return told


def add_row(name: str, row: Mapping[str, Any], *, split: str = "", task: Task = "extraction", source: str = CHAT) -> Version:
    """Add a row (instruction, input, output, messages, extra) to a dataset's latest version; a new dataset if there is none.

    UserError, with nothing written, if an equal row stands there or an answer of an extraction is no JSON object.
    """
    known = find_dataset(name)
    kind = known.task if known else task
    row = _single(row)
    _check(name, row, kind)
    if known is None:
        return _begun(name, row, split, kind, source)
    mark = json.dumps([source, *(row.get(column) for column in _EQUAL)], ensure_ascii=False)
    row_id = f"{source}-{hashlib.sha256(mark.encode()).hexdigest()[:12]}"
    new = NewRow(row_id=row_id, split=split, source=source, **{k: row[k] for k in (*_EQUAL, "extra") if row.get(k)})
    step = Step(op="add_rows", params={"rows": [new.model_dump(mode="json", exclude_defaults=True)]})
    for number in range(_TRIES):
        try:
            return apply(name, [step], note=f"add a row from {source}")
        except UserError as fault:  # somebody else made the next version first
            if "exists already" not in fault.message or number == _TRIES - 1:
                raise
    raise AssertionError("unreachable")


def _single(row: Mapping[str, Any]) -> dict[str, Any]:
    """The row with its answer stripped; a conversation of one question is no conversation, as at an import."""
    turns = json.loads(row.get("messages") or "[]")
    several = sum(turn["role"] == "user" for turn in turns) > 1
    return {**row, "output": str(row["output"]).strip(), "messages": row["messages"] if several else None}


def _check(name: str, row: Mapping[str, Any], task: Task) -> None:
    if not row["output"]:
        raise UserError("The answer is empty", "Write what the right answer is; {} says that nothing is to be found.")
    if task == "extraction" and not row.get("messages"):
        answer = parse_answer(row["output"])
        if not answer.ok:
            raise UserError(f"The answer can't be read: {answer.error}", "Write one JSON object of elements.")
    equal = standing(name, row).equal
    if equal:
        row_id, split, _ = equal[0]
        raise UserError(
            f"{name} has this row already: {row_id}{f' in {split}' if split else ''}", "Nothing was added. Change the answer."
        )


def _begun(name: str, row: Mapping[str, Any], split: str, task: Task, source: str) -> Version:
    """A new dataset of one row, imported like a file named after the source, so that everything of an import holds for it."""
    told: dict[str, Any] = {"instruction": row.get("instruction", ""), "input": row["input"], "output": row["output"]}
    if row["messages"]:
        told = {"messages": json.loads(row["messages"])}
    told |= row.get("extra") or {}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / source
        path.write_text(json.dumps(told, ensure_ascii=False) + "\n", encoding="utf-8")
        return import_file(path, name, task=task, split=split).version
