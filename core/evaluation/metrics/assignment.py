"""Optimal one-to-one assignment of small sets, for pairing gold and predicted values.

The Hungarian method with potentials, O(n²m) (Kuhn 1955; Jonker & Volgenant 1987, shortest augmenting paths).
Knows nothing of what is paired.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import inf


def assign(weights: Sequence[Sequence[float]]) -> list[tuple[int, int]]:
    """Pairs (row, column) whose weights add up to the most; pairs of weight 0 or less are left out.

    ``weights`` has shape (rows, columns), all finite. Each row and column occurs at most once.
    """
    if not weights or not weights[0]:
        return []
    if len(weights) > len(weights[0]):
        return sorted((i, j) for j, i in assign([list(column) for column in zip(*weights, strict=True)]))
    owner = _augment([[-max(w, 0.0) for w in row] for row in weights])
    return sorted((i, j) for j, i in enumerate(owner) if i >= 0 and weights[i][j] > 0)


def _augment(costs: list[list[float]]) -> list[int]:
    """The row that owns each column (-1: none) at the least total cost; rows must not outnumber columns."""
    rows, columns = len(costs), len(costs[0])
    row_potential = [0.0] * rows
    column_potential = [0.0] * (columns + 1)
    owner = [-1] * (columns + 1)  # the last column is where each search starts
    for row in range(rows):
        owner[columns] = row
        at, distance, previous, seen = columns, [inf] * columns, [columns] * columns, [False] * (columns + 1)
        while owner[at] >= 0:
            seen[at] = True
            here, step, nearest = owner[at], inf, -1
            for j in range(columns):
                if seen[j]:
                    continue
                reduced = costs[here][j] - row_potential[here] - column_potential[j]
                if reduced < distance[j]:
                    distance[j], previous[j] = reduced, at
                if distance[j] < step:
                    step, nearest = distance[j], j
            for j in range(columns + 1):
                if seen[j]:
                    row_potential[owner[j]] += step
                    column_potential[j] -= step
                elif j < columns:
                    distance[j] -= step
            at = nearest
        while at != columns:
            owner[at] = owner[previous[at]]
            at = previous[at]
    return owner[:columns]
