"""Numbers as they are written."""

from __future__ import annotations

import pytest

from core.evaluation.words import number, p_value, seconds_long


@pytest.mark.parametrize(("seconds", "words"), [(0.4, "0 s"), (99, "99 s"), (600, "10 min"), (5999, "100 min"), (9000, "2.5 h")])
def test_long_times(seconds: float, words: str) -> None:
    assert seconds_long(seconds) == words


@pytest.mark.parametrize(
    ("value", "words"), [(0.7142, "0.714"), (-0.05, "-0.050"), (12.34, "12.3"), (-12.34, "-12.3"), (1204.4, "1,204")]
)
def test_scores(value: float, words: str) -> None:
    assert number(value) == words


@pytest.mark.parametrize(("p", "words"), [(0.0009, "p < 0.001"), (0.001, "p = 0.001"), (0.0341, "p = 0.034"), (1.0, "p = 1.000")])
def test_p_values(p: float, words: str) -> None:
    assert p_value(p) == words
