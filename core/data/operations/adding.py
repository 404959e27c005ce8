"""The operation that adds rows written in the app (answers of a chat) to a dataset, whole, so that a replay needs no file."""

from __future__ import annotations

import json
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
from pydantic import BaseModel, ConfigDict, Field

from core.data import ledger
from core.data.operations.base import Context, Operation, Outcome, State
from core.store import schema


class NewRow(BaseModel):
    """A row that came from no file. ``messages`` is the JSON list of a conversation's turns, or null."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    row_id: str
    instruction: str = ""
    input: str = ""
    output: str = ""
    messages: str | None = None
    split: str = ""
    source: str = "chat"
    line: int = 0
    extra: dict[str, Any] = Field(default_factory=dict)


class AddRows(Operation):
    """Rows at the end of the table. One whose ``row_id`` is there already is passed over."""

    op: ClassVar[str] = "add_rows"
    title: ClassVar[str] = "Add rows"
    rows: tuple[NewRow, ...] = Field(min_length=1)

    def run(self, state: State, context: Context) -> Outcome:
        held = set(state.rows["row_id"].to_pylist())
        fresh = {row.row_id: row for row in self.rows if row.row_id not in held}
        if not fresh:
            return self.unchanged(state)
        cells = [
            row.model_dump() | {"extra": json.dumps(row.extra, ensure_ascii=False) if row.extra else None}
            for row in fresh.values()
        ]
        extra = pa.Table.from_pylist(cells, schema=schema.ROWS)
        reasons = [f"added from {row.source}" for row in fresh.values()]
        places = np.arange(len(cells), dtype=np.int64)
        entries = ledger.added(extra, places, step_id=context.step_id, op=self.op, reasons=reasons)
        return Outcome(State(pa.concat_tables([state.rows, extra]), state.quarantine), entries)
