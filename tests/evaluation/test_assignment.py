"""The assignment is optimal: checked against every permutation."""

from __future__ import annotations

from itertools import permutations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.evaluation.metrics.assignment import assign


def best(weights: list[list[float]]) -> float:
    rows, columns = len(weights), len(weights[0])
    if rows > columns:
        return best([list(c) for c in zip(*weights, strict=True)])
    return max(sum(max(0.0, weights[i][j]) for i, j in enumerate(chosen)) for chosen in permutations(range(columns), rows))


MATRICES = st.tuples(st.integers(1, 5), st.integers(1, 5)).flatmap(
    lambda shape: st.lists(
        st.lists(st.floats(-1, 1, allow_nan=False), min_size=shape[1], max_size=shape[1]), min_size=shape[0], max_size=shape[0]
    )
)


@settings(max_examples=200, deadline=None)
@given(MATRICES)
def test_optimal(weights: list[list[float]]) -> None:
    pairs = assign(weights)
    assert len({i for i, _ in pairs}) == len({j for _, j in pairs}) == len(pairs)
    assert all(weights[i][j] > 0 for i, j in pairs)
    assert sum(weights[i][j] for i, j in pairs) == pytest.approx(best(weights))


def test_greedy_would_be_worse() -> None:
    assert assign([[0.9, 0.8], [0.8, 0.1]]) == [(0, 1), (1, 0)]


@pytest.mark.parametrize("weights", [[], [[]], [[0.0]], [[-1.0, 0.0]]])
def test_nothing_to_pair(weights: list[list[float]]) -> None:
    assert assign(weights) == []


def test_large_matrix_agrees_with_scipy() -> None:
    import numpy as np
    from scipy.optimize import linear_sum_assignment

    weights = np.random.default_rng(1).random((40, 55))
    rows, columns = linear_sum_assignment(weights, maximize=True)
    assert sum(weights[i, j] for i, j in assign(weights.tolist())) == pytest.approx(weights[rows, columns].sum())
