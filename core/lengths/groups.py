"""Measured lengths by group: split, source file, language of the input, element of the answer.

Knows nothing of how the lengths were counted.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from core.lengths.compare import languages
from core.lengths.places import Places
from core.lengths.statistics import summary
from core.store import datasets

By = Literal["split", "source", "language", "element"]


def by_group(
    dataset: str, version: int | None, table: pa.Table, by: By, max_length: int | None = None, found: Places | None = None
) -> dict[str, dict[str, Any]]:
    """``summary`` of each group of the version's rows, the largest group first. ``table`` is from ``measure``.

    By element a row counts in the group of each element that its answer holds; that needs ``found``, from ``places``.
    """
    return {
        name: summary(table.take(pa.array(rows)), max_length)
        for name, rows in sorted(
            members(dataset, version, table, by, found).items(), key=lambda group: (-len(group[1]), group[0])
        )
    }


@lru_cache(maxsize=2)
def _languages(dataset: str, version: int, _content: str) -> Any:
    """Languages of a version's inputs, kept: a million take seconds, and a slider asks again and again."""
    return languages(datasets.read_rows(dataset, version, columns=("input",))["input"].combine_chunks())


def members(
    dataset: str, version: int | None, table: pa.Table, by: By, found: Places | None = None
) -> dict[str, npt.NDArray[np.int64]]:
    """Places in ``table`` of the rows of each group, by its name; arguments as for ``by_group``."""
    if by == "element":
        if found is None:
            raise ValueError("groups by element need the places of the values")
        rows, names = found.values["row"].to_numpy(), found.values["element"].to_numpy(zero_copy_only=False)
        return {str(name): np.unique(rows[names == name]) for name in np.unique(names.astype(str))}
    if by == "language":
        of = datasets.get_version(dataset, version)
        labels = _languages(dataset, of.number, of.content_hash)
    elif by == "source":
        labels = datasets.read_rows(dataset, version, columns=("source",))["source"].to_numpy(zero_copy_only=False)
    else:
        labels = table["split"].to_numpy(zero_copy_only=False)
    labels = np.asarray(labels, dtype=str)
    return {str(name): np.flatnonzero(labels == name) for name in np.unique(labels)}
