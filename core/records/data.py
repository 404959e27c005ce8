"""Records of datasets, their versions, and the steps that made them."""

from __future__ import annotations

import secrets
from typing import Any

from pydantic import Field

from core.records.base import Record, Stored, Task


class Dataset(Stored):
    """A named dataset; its rows live in versions."""

    name: str
    task: Task = "extraction"
    elements: tuple[str, ...] = ()
    elements_inferred: bool = False


class Step(Record):
    """One step of a recipe: a typed operation (``core.data.operations``) with its parameters."""

    step_id: str = Field(default_factory=lambda: secrets.token_hex(4))
    op: str
    params: dict[str, Any] = Field(default_factory=dict)


class Version(Stored):
    """An immutable state of a dataset: what the recipe so far made of the imports."""

    dataset: str
    number: int
    parent: int | None = None
    recipe: tuple[Step, ...] = ()
    rows: int = 0
    quarantined: int = 0
    content_hash: str = ""
    split_sizes: dict[str, int] = Field(default_factory=dict)
    note: str = ""
