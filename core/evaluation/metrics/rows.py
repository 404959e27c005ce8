"""Statistics of rows, and their sums: what every score is computed from.

A ``Statistics`` is a matrix (rows x named columns) of numbers that may be added up over rows; ``Sums`` holds sums
over any number of row sets at once (one resample each, say), so that a metric written with numpy arithmetic
scores all of them in one call. Names are ``kind`` or ``kind:label``, e.g. ``tp:organisation``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

Floats = npt.NDArray[np.float64]


def ratio(numerator: Floats, denominator: Floats) -> Floats:
    """``numerator / denominator``, and 0 where the denominator is 0 (the field's convention for empty counts)."""
    return np.divide(numerator, denominator, out=np.zeros(np.broadcast(numerator, denominator).shape), where=denominator != 0)


@dataclass(frozen=True)
class Sums:
    """Sums of statistics; ``values`` has shape (..., columns), one leading cell a row set."""

    names: tuple[str, ...]
    values: Floats

    @cached_property
    def _index(self) -> dict[str, int]:
        return {name: i for i, name in enumerate(self.names)}

    def __contains__(self, name: str) -> bool:
        return name in self._index

    def __getitem__(self, name: str) -> Floats:
        """Sums of one column, shape (...)."""
        column: Floats = self.values[..., self._index[name]]
        return column

    def labels(self, kind: str) -> tuple[str, ...]:
        """Labels of the columns ``kind:label``, in their order."""
        return labels_of(self.names, kind)

    def group(self, kind: str) -> Floats:
        """Sums of all columns ``kind:label``, shape (..., labels)."""
        columns = [i for i, name in enumerate(self.names) if name.startswith(f"{kind}:")]
        chosen: Floats = self.values[..., columns]
        return chosen


Metric = Callable[[Sums], Floats]
"""A score as a function of summed statistics; shape (...) like the sums' leading shape."""


@dataclass(frozen=True)
class Statistics:
    """One line of numbers a row; ``values`` has shape (rows, columns)."""

    names: tuple[str, ...]
    values: Floats

    @property
    def rows(self) -> int:
        """How many rows there are."""
        return int(self.values.shape[0])

    def sums(self) -> Sums:
        """Sums over all rows, shape (columns,)."""
        return Sums(self.names, self.values.sum(axis=0))

    def take(self, rows: npt.NDArray[Any]) -> Statistics:
        """Some of the rows, by index or mask."""
        return Statistics(self.names, self.values[rows])

    def select(self, names: Sequence[str]) -> Statistics:
        """These columns, in this order; one that isn't there is zero."""
        index = {name: i for i, name in enumerate(self.names)}
        values = np.zeros((self.rows, len(names)))
        for j, name in enumerate(names):
            if name in index:
                values[:, j] = self.values[:, index[name]]
        return Statistics(tuple(names), values)

    def beside(self, other: Statistics) -> Statistics:
        """The columns of both, for the same rows."""
        return Statistics(self.names + other.names, np.hstack([self.values, other.values]))

    def to_table(self, row_ids: Sequence[str]) -> pa.Table:
        """As a table with a ``row_id`` column first."""
        columns = [pa.array(row_ids, pa.large_string()), *(pa.array(column) for column in self.values.T)]
        return pa.table(columns, names=["row_id", *self.names])

    @classmethod
    def from_table(cls, table: pa.Table) -> Statistics:
        """The inverse of ``to_table``; ``row_id`` is left to the caller."""
        names = tuple(name for name in table.column_names if name != "row_id")
        values = np.empty((table.num_rows, len(names)))
        for j, name in enumerate(names):
            values[:, j] = table[name].to_numpy()
        return cls(names, values)

    @classmethod
    def from_rows(cls, rows: Sequence[Mapping[str, float]], names: Iterable[str]) -> Statistics:
        """From one mapping a row; a missing name is zero. KeyError on a name that isn't among ``names``."""
        ordered = tuple(names)
        index = {name: i for i, name in enumerate(ordered)}
        values = np.zeros((len(rows), len(ordered)))
        for i, row in enumerate(rows):
            for name, value in row.items():
                values[i, index[name]] = value
        return cls(ordered, values)


def labels_of(names: Iterable[str], kind: str) -> tuple[str, ...]:
    """Labels of the names ``kind:label``, in their order."""
    return tuple(name[len(kind) + 1 :] for name in names if name.startswith(f"{kind}:"))


def align(parts: Sequence[Statistics]) -> list[Statistics]:
    """The same columns for all: the union, in order of first appearance, zero where one had none."""
    names = tuple(dict.fromkeys(name for part in parts for name in part.names))
    return [part if part.names == names else part.select(names) for part in parts]
