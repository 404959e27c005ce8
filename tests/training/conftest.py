"""A tiny model and a small dataset to train on, and a reporter that keeps what it is told."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pytest

from core.records import Dataset, Version
from core.store import schema
from core.store.datasets import save_version
from tests.tiny import make_tiny_model

NAMES = ("Anna Berg", "Per Lund", "Ida Moe", "张三", "李四", "王五")
PLACES = ("Oslo", "Bergen", "北京", "上海")


class Keeper:
    """Keeps metrics, log and progress; asks for a stop after ``stop_after`` steps have been reported."""

    def __init__(self, stop_after: int | None = None) -> None:
        self.steps: dict[int, dict[str, float]] = {}
        self.lines: list[str] = []
        self.done = 0
        self.left: list[tuple[int, str, float | None]] = []
        self._stop_after = stop_after

    def progress(self, done: int, total: int, *, unit: str = "rows", message: str = "", left: float | None = None) -> None:
        if unit == "steps":
            self.done = done
            self.left.append((done, message, left))

    def metrics(self, step: int, values: dict[str, float]) -> None:
        self.steps.setdefault(step, {}).update(values)

    def log(self, text: str) -> None:
        self.lines.append(text)

    def should_stop(self) -> bool:
        return self._stop_after is not None and self.done >= self._stop_after

    @property
    def losses(self) -> dict[int, float]:
        return {step: values["loss"] for step, values in self.steps.items() if "loss" in values}


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model folder."""
    return make_tiny_model(tmp_path_factory.mktemp("model") / "tiny")


def rows_table(count: int, long_every: int = 0) -> pa.Table:
    """Rows whose answers are copied from their inputs; every ``long_every``-th has a very long input."""
    rows = []
    for number in range(count):
        name, place = NAMES[number % len(NAMES)], PLACES[number % len(PLACES)]
        text = f"{name} in {place}" + (" and so on" * (number % 5))
        if long_every and number % long_every == 0:
            text += " 很长的文本" * 200
        rows.append(
            {
                "row_id": f"r-{number:04d}",
                "instruction": "Extract person and place.",
                "input": text,
                "output": json.dumps({"person": [name], "place": [place]}, ensure_ascii=False),
                "messages": None,
                "split": "dev" if number % 6 == 5 else "train",
                "source": "made",
                "line": number + 1,
                "extra": None,
            }
        )
    return pa.Table.from_pylist(rows, schema=schema.ROWS)


@pytest.fixture
def people(workspace: Path) -> str:
    """A dataset of 48 rows, 40 to train and 8 of dev."""
    return keep("people", rows_table(48))


def keep(name: str, table: pa.Table) -> str:
    """Save rows as version 1 of a dataset."""
    splits = table["split"].to_pylist()
    sizes = {split: splits.count(split) for split in set(splits)}
    version = Version(dataset=name, number=1, rows=table.num_rows, split_sizes=sizes)
    save_version(Dataset(name=name, elements=("person", "place")), version, table)
    return name
