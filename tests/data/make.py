"""Small datasets for tests of cleaning: rows as dicts, saved as an import would."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from core.data.operations.base import Context, State
from core.records import Dataset, Step, Task, Version
from core.store import schema
from core.store.content import content_hash, split_sizes
from core.store.datasets import save_step, save_version

BASE = {"instruction": "Extract", "input": "", "output": "{}", "messages": None, "split": "", "source": "f.jsonl", "extra": None}


def rows_of(*rows: dict[str, Any], prefix: str = "aaaaaa") -> pa.Table:
    """A table of rows; what a dict leaves out is filled in."""
    return pa.Table.from_pylist(
        [BASE | {"row_id": f"{prefix}-{n:07d}", "line": n} | row for n, row in enumerate(rows, start=1)], schema=schema.ROWS
    )


def state_of(*rows: dict[str, Any]) -> State:
    """A state of these rows with nothing in quarantine."""
    return State(rows_of(*rows))


def context(task: Task = "extraction", elements: tuple[str, ...] = ()) -> Context:
    """A context of a dataset."""
    return Context(Dataset(name="d", task=task, elements=elements), "step0000", elements)


def save_rows(
    name: str,
    rows: pa.Table,
    *,
    task: Task = "extraction",
    elements: Sequence[str] = (),
    quarantine: pa.Table | None = None,
) -> Version:
    """A dataset with one version, of one import step."""
    aside = schema.QUARANTINE.empty_table() if quarantine is None else quarantine
    step = Step(op="import", params={"file": "f.jsonl", "elements": list(elements)})
    save_step(name, step.step_id, rows, aside)
    version = Version(
        dataset=name,
        number=1,
        recipe=(step,),
        rows=rows.num_rows,
        quarantined=aside.num_rows,
        content_hash=content_hash(rows),
        split_sizes=split_sizes(rows),
    )
    return save_version(Dataset(name=name, task=task, elements=tuple(elements)), version, rows, None, aside)
