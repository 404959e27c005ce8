"""Resamples of rows as matrix products: bootstrap, jackknife and random swaps of summed statistics.

A resample is a line of weights, so all sums of all resamples are one product (weights x statistics), made in chunks.
Knows nothing of metrics.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from core.evaluation.metrics.rows import Floats, Statistics, Sums

RESAMPLES = 10_000
SEED = 20_240_917
_CELLS = 2_000_000
"""Weights held at once (16 MB)."""


def bootstrap_sums(statistics: Statistics, resamples: int = RESAMPLES, seed: int = SEED) -> Sums:
    """Sums over ``resamples`` samples of the rows with replacement, shape (resamples, columns)."""
    rows = statistics.rows
    generator = np.random.default_rng(seed)
    values = np.empty((resamples, len(statistics.names)))
    done = 0
    for size in _chunks(resamples, rows):
        drawn = generator.integers(0, rows, size=(size, rows), dtype=np.int32)
        drawn += (np.arange(size, dtype=np.int32) * rows)[:, None]
        weights = np.bincount(drawn.ravel(), minlength=size * rows).reshape(size, rows).astype(np.float64)
        np.matmul(weights, statistics.values, out=values[done : done + size])
        done += size
    return Sums(statistics.names, values)


def joint_sums(arms: Sequence[Statistics], resamples: int = RESAMPLES, seed: int = SEED) -> list[Sums]:
    """Bootstrap sums of arms with the same rows and columns, each resample taking the same rows of all arms."""
    names, columns = arms[0].names, len(arms[0].names)
    together = Statistics(names * len(arms), np.hstack([arm.values for arm in arms]))
    values = bootstrap_sums(together, resamples, seed).values
    return [Sums(names, values[:, i * columns : (i + 1) * columns]) for i in range(len(arms))]


def swapped_sums(left: Statistics, right: Statistics, swaps: int = RESAMPLES, seed: int = SEED) -> tuple[Sums, Sums]:
    """Sums of both arms after the arms' answers changed places in a random half of the rows, ``swaps`` times.

    ``left`` and ``right`` have the same rows and columns.
    """
    rows = left.rows
    generator = np.random.default_rng(seed + 1)
    change = np.empty((swaps, len(left.names)))
    difference = right.values - left.values
    done = 0
    for size in _chunks(swaps, rows):
        bits = np.frombuffer(generator.bytes(-(-size * rows // 8)), np.uint8)
        swap = np.unpackbits(bits, count=size * rows).reshape(size, rows).astype(np.float64)
        np.matmul(swap, difference, out=change[done : done + size])
        done += size
    total_left, total_right = left.values.sum(axis=0), right.values.sum(axis=0)
    return Sums(left.names, total_left + change), Sums(right.names, total_right - change)


def jackknife_sums(statistics: Statistics) -> Sums:
    """Sums that leave one row out, shape (rows, columns)."""
    return Sums(statistics.names, statistics.values.sum(axis=0) - statistics.values)


def by_cluster(statistics: Statistics, clusters: Sequence[Any] | npt.NDArray[Any]) -> Statistics:
    """One line a cluster, the sum of its rows: what is resampled when rows of a cluster hang together."""
    _, index = np.unique(np.asarray(clusters), return_inverse=True)
    values: Floats = np.zeros((int(index.max(initial=-1)) + 1, len(statistics.names)))
    np.add.at(values, index, statistics.values)
    return Statistics(statistics.names, values)


def _chunks(total: int, rows: int) -> Iterator[int]:
    size = max(1, _CELLS // max(rows, 1))
    for start in range(0, total, size):
        yield min(size, total - start)
