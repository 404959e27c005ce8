"""Splitting into train, dev and test so that nothing that is asked twice stands on both sides.

Rows that belong together (same question, near duplicates, same value of a group column) are a unit and go to
one split. Units are dealt out stratum by stratum, rarest element first, each to the split that is furthest
behind its share, so shares hold overall and within each element. Knows nothing of versions.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field, model_validator

from core.data.codes import group_codes, renumber
from core.data.columns import column_values
from core.data.keys import question_codes
from core.data.leaks import LeakReport, leak_report
from core.data.near import near_rows
from core.data.operations.base import Context, Operation, Outcome, State
from core.data.rules import parse_column
from core.records import SPLITS, Task, Version

Codes = npt.NDArray[np.int64]


class SplitRows(Operation):
    """Train, dev and test by shares, seeded; what is asked twice never on both sides."""

    op: ClassVar[str] = "split"
    title: ClassVar[str] = "Split into train, dev and test"
    dev: float = Field(default=0.1, ge=0, lt=1)
    test: float = Field(default=0.1, ge=0, lt=1)
    seed: int = 7
    stratify: bool = Field(default=True, description="shares hold within each element (or class)")
    near: bool = Field(default=True, description="near duplicates stay together")
    threshold: float = Field(default=0.8, ge=0.5, le=1, description="Jaccard similarity of a near duplicate")
    group: str = Field(default="", description="column (also one of the unmapped ones) whose equal values stay together")
    keep: bool = Field(default=False, description="rows that are in a split stay there")

    @model_validator(mode="after")
    def _shares(self) -> Self:
        if self.dev + self.test >= 1:
            raise ValueError("dev and test together leave nothing for train")
        return self

    def run(self, state: State, context: Context) -> Outcome:
        rows = state.rows
        units = units_of(rows, near=self.threshold if self.near else None, group=self.group)
        strata = strata_of(rows, context.dataset.task) if self.stratify else np.zeros(rows.num_rows, dtype=np.int64)
        fixed = rows["split"].to_pylist() if self.keep else None
        named = deal(units, strata, {"train": 1 - self.dev - self.test, "dev": self.dev, "test": self.test}, self.seed, fixed)
        shares = f"{1 - self.dev - self.test:.0%} / {self.dev:.0%} / {self.test:.0%}"
        return self.change(state, context, {"split": pa.array(named, pa.large_string())}, f"split {shares}, seed {self.seed}")


def units_of(rows: pa.Table, *, near: float | None = None, group: str = "") -> Codes:
    """A number for each row; rows with the same number must not be split apart."""
    units = question_codes(rows)
    links: list[Codes] = []
    if group:
        values = column_values(rows, group)
        codes = group_codes(values)
        alone = pc.is_null(values).to_numpy()
        codes[alone] = codes.max(initial=0) + 1 + np.arange(int(alone.sum()))
        links.append(renumber(codes))
    if near is not None:
        links.append(renumber(near_rows(rows, near).cluster))
    for codes in links:
        units = _joined(units, codes)
    return units


def _joined(left: Codes, right: Codes) -> Codes:
    """The finest grouping that both groupings are part of."""
    while True:
        smallest = np.full(int(right.max(initial=-1)) + 1, np.iinfo(np.int64).max)
        np.minimum.at(smallest, right, left)
        merged = smallest[right]
        back = np.full(int(left.max(initial=-1)) + 1, np.iinfo(np.int64).max)
        np.minimum.at(back, left, merged)
        merged = back[left]
        if np.array_equal(merged, left):
            return renumber(merged)
        left = merged


def strata_of(rows: pa.Table, task: Task) -> Codes:
    """A number for each row: its rarest element (extraction), its class (classification), else the same for all. Rarest first."""
    if task == "classification":
        labels: Sequence[str] = rows["output"].to_pylist()
    elif task == "extraction":
        answers = parse_column(rows["output"])
        counts = Counter(name for answer in answers for name in answer.elements)
        labels = [min(answer.elements, key=lambda name: (counts[name], name), default="") for answer in answers]
    else:
        return np.zeros(rows.num_rows, dtype=np.int64)
    sizes = Counter(labels)
    order = {label: rank for rank, label in enumerate(sorted(sizes, key=lambda label: (sizes[label], label)))}
    return np.array([order[label] for label in labels], dtype=np.int64)


def deal(units: Codes, strata: Codes, shares: dict[str, float], seed: int, fixed: Sequence[str] | None = None) -> list[str]:
    """The split of each row. Each unit goes whole to the split that is furthest behind its share, in rows.

    ``fixed``: splits that rows have already; a unit that has one takes it (of several: test, then dev).
    """
    count = int(units.max(initial=-1)) + 1
    sizes = np.bincount(units, minlength=count)
    stratum = np.full(count, np.iinfo(np.int64).max)
    np.minimum.at(stratum, units, strata)
    given: dict[int, str] = {}
    if fixed is not None:
        for unit, split in zip(units.tolist(), fixed, strict=True):
            if split in SPLITS:
                given[unit] = max(given.get(unit, split), split, key=SPLITS.index)
    shuffled = np.random.default_rng(seed).permutation(count)
    order = shuffled[np.argsort(stratum[shuffled], kind="stable")]
    names = [name for name, share in shares.items() if share > 0]
    goal = [shares[name] for name in names]
    behind = [0.0] * len(names)
    chosen: list[str] = [""] * count
    for unit in order.tolist():
        size = int(sizes[unit])
        behind = [debt + share * size for debt, share in zip(behind, goal, strict=True)]
        if unit in given:
            chosen[unit] = given[unit]
            if given[unit] not in names:
                continue
            best = names.index(given[unit])
        else:
            best = max(range(len(names)), key=behind.__getitem__)
            chosen[unit] = names[best]
        behind[best] -= size
    return [chosen[unit] for unit in units.tolist()]


@dataclass(frozen=True, slots=True)
class SplitPreview:
    """What a split would make: rows of each split, and what leaks before and after it."""

    sizes: dict[str, int]
    before: LeakReport
    after: LeakReport


def preview_split(name: str, version: int | None = None, **parameters: Any) -> SplitPreview:
    """What ``split`` would make of a version (the latest by default). Writes nothing; SpecError for wrong parameters."""
    from core.data.operations.registry import operation_of
    from core.records import Step
    from core.store.content import split_sizes
    from core.store.datasets import get_dataset, read_rows

    operation = operation_of(Step(op="split", params=parameters))
    rows = read_rows(name, version)
    after = operation.run(State(rows), Context(get_dataset(name), "preview")).state.rows
    return SplitPreview(split_sizes(after), leak_report(rows), leak_report(after))


def split(name: str, dev: float = 0.1, test: float = 0.1, seed: int = 7, **parameters: Any) -> Version:
    """Split the latest version of a dataset: a new version. Further parameters are those of ``SplitRows``."""
    from core.data.recipes import apply
    from core.records import Step

    step = Step(op="split", params={"dev": dev, "test": test, "seed": seed, **parameters})
    return apply(name, [step], note="split")
