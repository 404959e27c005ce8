"""The curve finds the power law that made it, and says how sure it is."""

from __future__ import annotations

import numpy as np
import pytest

from core.errors import UserError
from core.evaluation import learning
from core.evaluation.metrics.rows import Statistics

NAMES = ("tp:e", "predicted:e", "gold:e")


@pytest.fixture
def saved(monkeypatch: pytest.MonkeyPatch) -> dict[str, Statistics]:
    """Evaluations that exist as statistics only."""
    there: dict[str, Statistics] = {}

    def read(evaluation_id: str) -> tuple[list[str], Statistics]:
        return [f"r{i}" for i in range(there[evaluation_id].rows)], there[evaluation_id]

    monkeypatch.setattr(learning.artefacts, "read_statistics", read)
    return there


def arm(score: float, rows: int, rng: np.random.Generator) -> Statistics:
    tp = rng.binomial(4, score, rows).astype(float)
    return Statistics(NAMES, np.stack([tp, np.full(rows, 4.0), np.full(rows, 4.0)], axis=1))


def test_power_law_is_found(saved: dict[str, Statistics]) -> None:
    rng = np.random.default_rng(0)
    sizes = [250, 500, 1000]
    for n in sizes:
        saved[f"e{n}"] = arm(1 - 4 * n**-0.5, 4000, rng)
    curve = learning.learning_curve([(n, f"e{n}") for n in sizes])
    truth = 1 - 4 * 2000**-0.5
    assert curve.expected_rows == 2000
    assert curve.exponent == pytest.approx(0.5, abs=0.05)
    assert curve.expected == pytest.approx(truth, abs=0.01)
    assert curve.expected_interval.low < truth < curve.expected_interval.high
    assert curve.gain_interval.low > 0
    assert curve.sentence.startswith("More data should help: 2,000 training rows")
    assert [p.rows for p in curve.points] == sizes


def test_flat_curve(saved: dict[str, Statistics]) -> None:
    rng = np.random.default_rng(1)
    for n in (100, 200, 400):
        saved[f"e{n}"] = arm(0.8, 3000, rng)
    curve = learning.learning_curve([(n, f"e{n}") for n in (400, 100, 200)])
    assert abs(curve.gain) < 0.02
    assert not curve.sentence.startswith("More data should help")


def test_faults(saved: dict[str, Statistics]) -> None:
    saved["a"] = arm(0.5, 10, np.random.default_rng(2))
    with pytest.raises(UserError, match="two sizes"):
        learning.learning_curve([(100, "a"), (100, "a")])
    with pytest.raises(UserError, match="no metric"):
        learning.learning_curve([(100, "a"), (200, "a")], "accuracy")
