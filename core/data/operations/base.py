"""What every operation shares: its parameters as a pydantic model, and how it reports what it did.

An operation turns one state (rows and quarantine) into the next and says, entry by entry, what it dropped,
changed or added. It is a pure function of state, parameters and context, so a recipe can be replayed.
Knows nothing of versions, files or pages.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar, Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pydantic import BaseModel, ConfigDict

from core.data import ledger
from core.data.texts import replace_cells
from core.records import Dataset
from core.store import schema

Mask = npt.NDArray[np.bool_]
Positions = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class State:
    """Rows (``schema.ROWS``) and what was put aside so far (``schema.QUARANTINE``)."""

    rows: pa.Table
    quarantine: pa.Table = field(default_factory=schema.QUARANTINE.empty_table)


@dataclass(frozen=True, slots=True)
class Context:
    """What an operation may know beside the rows.

    ``elements`` are those that were given for the dataset (empty: inferred from the rows).
    ``read_step`` gives the rows and quarantine that an import step brought.
    """

    dataset: Dataset
    step_id: str = ""
    elements: tuple[str, ...] = ()
    read_step: Callable[[str], tuple[pa.Table, pa.Table]] | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """The next state, and an entry (``ledger.CHANGES``) for each row dropped, changed or added."""

    state: State
    changes: pa.Table


class Operation(BaseModel):
    """Base of all operations: typed parameters, an unknown one is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    op: ClassVar[str]
    title: ClassVar[str]

    def run(self, state: State, context: Context) -> Outcome:
        """The next state and what changed."""
        raise NotImplementedError

    def resolved(self, state: State, context: Context) -> Self:
        """The same operation with what it would infer from these rows written down, so that a replay can't differ."""
        return self

    def elements_after(self, elements: tuple[str, ...]) -> tuple[str, ...]:
        """The dataset's given elements once this step is done."""
        return elements

    # -------------------------------------------------------- ways to report

    def unchanged(self, state: State) -> Outcome:
        """Nothing to do."""
        return Outcome(state, ledger.CHANGES.empty_table())

    def drop(self, state: State, context: Context, mask: Mask, reasons: str | Sequence[str], *, aside: bool = False) -> Outcome:
        """Take out the rows of ``mask``; ``aside`` keeps them in quarantine. Reasons: one, or one for each dropped row."""
        places = np.flatnonzero(mask)
        if not len(places):
            return self.unchanged(state)
        entries = ledger.dropped(state.rows, places, step_id=context.step_id, op=self.op, reasons=reasons)
        kept = State(state.rows.filter(pa.array(~mask)), state.quarantine)
        if aside:
            kept = replace(kept, quarantine=pa.concat_tables([state.quarantine, _set_aside(state.rows, places, entries)]))
        return Outcome(kept, entries)

    def drop_each(self, state: State, context: Context, reasons: Mapping[int, str], *, aside: bool = False) -> Outcome:
        """Take out rows by position, each for its own reason; ``aside`` as for ``drop``."""
        mask = np.zeros(state.rows.num_rows, dtype=np.bool_)
        mask[list(reasons)] = True
        return self.drop(state, context, mask, [reasons[place] for place in sorted(reasons)], aside=aside)

    def change(
        self, state: State, context: Context, columns: Mapping[str, pa.Array | pa.ChunkedArray], reasons: str | Sequence[str]
    ) -> Outcome:
        """Replace whole columns. Reasons: one, or one for each row that really differs, in order."""
        new = state.rows
        for name, values in columns.items():
            new = new.set_column(new.schema.get_field_index(name), schema.ROWS.field(name), values.cast(pa.large_string()))
        entries = ledger.changed(state.rows, new, step_id=context.step_id, op=self.op, reasons=reasons, columns=list(columns))
        return Outcome(State(new, state.quarantine), entries) if entries.num_rows else self.unchanged(state)

    def put(
        self,
        state: State,
        context: Context,
        column: str,
        values: Mapping[int, str] | Mapping[int, str | None],
        reasons: Mapping[int, str] | str,
    ) -> Outcome:
        """Replace single cells of a column: ``values`` by row position. Cells that stay equal make no entry."""
        old = state.rows[column].take(pa.array(sorted(values), pa.int64())).to_pylist()
        places = [place for place, cell in zip(sorted(values), old, strict=True) if cell != values[place]]
        if not places:
            return self.unchanged(state)
        mask = np.zeros(state.rows.num_rows, dtype=np.bool_)
        mask[places] = True
        cells = replace_cells(state.rows[column], mask, [values[place] for place in places])
        told = reasons if isinstance(reasons, str) else [reasons[place] for place in places]
        return self.change(state, context, {column: cells}, told)


def then(first: Outcome, second: Outcome) -> Outcome:
    """Two outcomes of one operation, the second reached from the first's state."""
    return Outcome(second.state, pa.concat_tables([first.changes, second.changes]))


def _set_aside(rows: pa.Table, places: Positions, entries: pa.Table) -> pa.Table:
    taken = rows.take(pa.array(places))
    return pa.Table.from_arrays(
        [taken["row_id"], taken["source"], taken["line"], entries["reason"], entries["before"]], schema=schema.QUARANTINE
    )
