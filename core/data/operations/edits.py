"""Operations that carry what a person did: cells edited in the grid, rows taken in from quarantine, and rows brought in.

Edits name rows by ``row_id``, so they hold when earlier steps are undone; an edit of a row that isn't there
any more does nothing.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from core.data import ledger
from core.data.operations.base import Context, Operation, Outcome, State, then
from core.errors import SpecError
from core.store import schema

Column = Literal["instruction", "input", "output", "messages", "split"]
COLUMNS: tuple[Column, ...] = ("instruction", "input", "output", "messages", "split")


class Edit(BaseModel):
    """A cell's new text."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    row_id: str
    column: Column
    value: str | None


class HandEdit(Operation):
    """Cells changed by hand. The last edit of a cell counts."""

    op: ClassVar[str] = "hand_edit"
    title: ClassVar[str] = "Edit by hand"
    edits: tuple[Edit, ...] = Field(min_length=1)
    reason: str = "edited by hand"

    def run(self, state: State, context: Context) -> Outcome:
        wanted = list(dict.fromkeys(edit.row_id for edit in self.edits))
        places = pc.index_in(pa.array(wanted, pa.large_string()), state.rows["row_id"].combine_chunks()).to_pylist()
        place_of = {row_id: place for row_id, place in zip(wanted, places, strict=True) if place is not None}
        cells: dict[int, dict[Column, str | None]] = {}
        for edit in self.edits:
            if edit.row_id in place_of:
                value = edit.value if edit.column == "messages" else edit.value or ""
                cells.setdefault(place_of[edit.row_id], {})[edit.column] = value
        for place, edited in cells.items():
            edited.update(_in_step(edited, state.rows["messages"][place].as_py()))
        outcome = self.unchanged(state)
        for column in COLUMNS:
            values = {place: edited[column] for place, edited in cells.items() if column in edited}
            outcome = then(outcome, self.put(outcome.state, context, column, values, self.reason))
        return outcome


def _in_step(edited: Mapping[Column, str | None], talk: str | None) -> dict[Column, str | None]:
    """What else of a conversation changes, so that its columns and its turns keep saying the same.

    The instruction repeats the system text, the input the last question, the output the last answer.
    """
    talk = edited.get("messages", talk)
    _check_messages(talk)
    if talk is None:
        return {}
    turns: list[dict[str, str]] = json.loads(talk)
    spoken = {"instruction": "system", "input": "user", "output": "assistant"}
    last = {turn["role"]: number for number, turn in enumerate(turns)}
    if "messages" in edited:
        said = {column: turns[last[role]]["content"] if role in last else "" for column, role in spoken.items()}
        return {"instruction": said["instruction"], "input": said["input"], "output": said["output"]}
    for column, role in spoken.items():
        text = edited.get(column)  # type: ignore[call-overload]
        if text is not None and role in last:
            turns[last[role]] = {**turns[last[role]], "content": text}
    return {"messages": json.dumps(turns, ensure_ascii=False, separators=(",", ":"))}


def _check_messages(text: str | None) -> None:
    if text is None:
        return
    try:
        turns = json.loads(text)
        sound = isinstance(turns, list) and all(isinstance(t["role"], str) and isinstance(t["content"], str) for t in turns)
    except (ValueError, TypeError, KeyError, RecursionError):
        sound = False
    if not sound:
        raise SpecError("The edited conversation is no list of turns", 'Each turn is {"role": …, "content": …}.')


class TakenIn(BaseModel):
    """A row that was put aside, mended."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    quarantine_id: str
    instruction: str = ""
    input: str = ""
    output: str = ""
    messages: str | None = None
    split: str = ""


class TakeIn(Operation):
    """Rows from quarantine, mended by hand, at the end of the table. A row that isn't in quarantine is passed over."""

    op: ClassVar[str] = "take_in"
    title: ClassVar[str] = "Take in from quarantine"
    rows: tuple[TakenIn, ...] = Field(min_length=1)

    def run(self, state: State, context: Context) -> Outcome:
        aside = {row["quarantine_id"]: row for row in state.quarantine.to_pylist()}
        held = set(state.rows["row_id"].to_pylist())
        new: list[dict[str, Any]] = []
        taken: set[str] = set()
        for row in self.rows:
            origin = aside.get(row.quarantine_id)
            if origin is None or row.quarantine_id in taken or row.quarantine_id in held:
                continue
            _check_messages(row.messages)
            taken.add(row.quarantine_id)
            cells = row.model_dump(exclude={"quarantine_id"})
            place = {"row_id": row.quarantine_id, "source": origin["source"], "line": origin["line"], "extra": None}
            new.append(place | cells)
        if not new:
            return self.unchanged(state)
        extra = pa.Table.from_pylist(new, schema=schema.ROWS)
        places = np.arange(len(new), dtype=np.int64)
        entries = ledger.added(extra, places, step_id=context.step_id, op=self.op, reasons="taken in from quarantine")
        left = pc.invert(pc.is_in(state.quarantine["quarantine_id"], pa.array(sorted(taken), pa.large_string())))
        return Outcome(State(pa.concat_tables([state.rows, extra]), state.quarantine.filter(left)), entries)


class BringIn(Operation):
    """Rows of an import or a mix, as they were kept when the step was first done, at the end of the table.

    The parameters say where they came from. No ledger entry: nothing was dropped or changed.
    """

    model_config = ConfigDict(frozen=True, extra="allow")
    op: ClassVar[str] = "import"
    title: ClassVar[str] = "Import"
    elements: Annotated[tuple[str, ...], BeforeValidator(lambda value: tuple(value or ()))] = ()

    def run(self, state: State, context: Context) -> Outcome:
        if context.read_step is None:
            raise SpecError("An import can't be applied as a cleaning step", "Import the file: `python -m core import`.")
        rows, aside = context.read_step(context.step_id)
        joined = State(pa.concat_tables([state.rows, rows.cast(schema.ROWS)]), pa.concat_tables([state.quarantine, aside]))
        return Outcome(joined, ledger.CHANGES.empty_table())

    def elements_after(self, elements: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(dict.fromkeys([*elements, *self.elements]))


class MixIn(BringIn):
    """Rows drawn from other datasets when this one was mixed."""

    op: ClassVar[str] = "mix"
    title: ClassVar[str] = "Mix"
