"""The curve finds the power law that made it, and says how sure it is."""

from __future__ import annotations

import numpy as np
import pytest

from core.errors import UserError
from core.evaluation import learning
from core.evaluation.metrics import generation
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


@pytest.mark.parametrize("score", [0.0, 1.0])
def test_test_rows_that_are_all_alike_leave_it_open(saved: dict[str, Statistics], score: float) -> None:
    rng = np.random.default_rng(2)
    for n in (100, 200, 400):
        saved[f"few{n}"], saved[f"many{n}"] = arm(score, 12, rng), arm(score, 20_000, rng)
    few = learning.learning_curve([(n, f"few{n}") for n in (100, 200, 400)])
    for point in few.points:
        assert point.score == score
        assert point.low <= score <= point.high
        assert point.high - point.low > 0.1
    assert few.gain == pytest.approx(0, abs=1e-3)
    assert few.gain_interval.high - few.gain_interval.low > 0.05
    if score == 0:
        assert few.sentence.startswith("Whether more data would help is open")
    many = learning.learning_curve([(n, f"many{n}") for n in (100, 200, 400)])
    assert many.gain_interval.high - many.gain_interval.low < 0.005
    assert many.sentence.startswith("More data would bring little")


def trained(spread: float, size: int, rows: int, rng: np.random.Generator) -> Statistics:
    """A training whose error lies around that of the power law as another seed would have it."""
    error = 2 * size**-0.3 * np.exp(rng.normal(0, spread))
    return arm(1 - min(1.0, error), rows, rng)


def test_seeds_of_a_size_are_one_point_and_widen_the_intervals(saved: dict[str, Statistics]) -> None:
    rng = np.random.default_rng(3)
    runs = []
    for size in (100, 200, 400):
        for seed in range(3):
            saved[f"e{size}-{seed}"] = trained(0.2, size, 800, rng)
            runs.append((size, f"e{size}-{seed}"))
    several = learning.learning_curve(runs)
    alone = learning.learning_curve([pair for pair in runs if pair[1].endswith("-0")])
    for point, size in zip(several.points, (100, 200, 400), strict=True):
        own = [float(saved[f"e{size}-{seed}"].sums()["tp:e"] / (4 * 800)) for seed in range(3)]
        assert point.runs == pytest.approx(own)
        assert point.score == pytest.approx(np.mean(own))
        assert point.low < point.score < point.high
    assert several.between_seeds == pytest.approx(0.2 * 2 * 400**-0.3, rel=0.6)
    width, without = (c.gain_interval.high - c.gain_interval.low for c in (several, alone))
    assert width > 1.5 * without
    assert "between training seeds is in these intervals" in several.sentence
    assert "from 3 trainings a size" in several.sentence
    assert alone.between_seeds is None
    assert alone.sentence.endswith(
        "Each size was trained with one seed: what another seed would change is not in these intervals."
    )


def test_where_only_one_size_has_seeds_its_spread_counts_for_all(saved: dict[str, Statistics]) -> None:
    rng = np.random.default_rng(4)
    for name, size in (("a", 100), ("b", 200), ("c", 200)):
        saved[name] = trained(0.3, size, 2000, rng)
    curve = learning.learning_curve([(100, "a"), (200, "b"), (200, "c")])
    assert "from 1 to 2 trainings a size" in curve.sentence
    only_rows = learning.learning_curve([(100, "a"), (200, "b")])
    assert curve.points[0].high - curve.points[0].low > 2 * (only_rows.points[0].high - only_rows.points[0].low)


@pytest.mark.slow
def test_intervals_with_seeds_cover_the_curve_and_those_without_do_not(
    saved: dict[str, Statistics], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(learning, "RESAMPLES", 1000)
    rng = np.random.default_rng(5)
    sizes, hits, alone_hits, spread = (100, 200, 400), 0, 0, 0.15
    truth = [1 - 2 * size**-0.3 for size in sizes]  # of the middle training
    for _ in range(200):
        for size in sizes:
            for seed in range(3):
                saved[f"{size}-{seed}"] = trained(spread, size, 300, rng)
        several = learning.learning_curve([(size, f"{size}-{seed}") for size in sizes for seed in range(3)])
        alone = learning.learning_curve([(size, f"{size}-0") for size in sizes])
        hits += several.points[2].low <= truth[2] <= several.points[2].high
        alone_hits += alone.points[2].low <= truth[2] <= alone.points[2].high
    assert hits >= 0.91 * 200
    assert alone_hits < 0.85 * 200


def test_scores_out_of_a_hundred_near_a_hundred(saved: dict[str, Statistics]) -> None:
    rng = np.random.default_rng(6)
    for size in (100, 200, 400):
        right = rng.random(1000) < 1 - 2 * size**-0.3
        said = ["the whole answer" if hit else "zzzz" for hit in right]
        saved[f"e{size}"] = generation.chrf_statistics(said, ["the whole answer"] * 1000)
    curve = learning.learning_curve([(size, f"e{size}") for size in (100, 200, 400)], "chrf")
    scores = [float(generation.chrf(saved[f"e{size}"].sums())) for size in (100, 200, 400)]
    assert [point.score for point in curve.points] == pytest.approx(scores)
    assert scores[-1] + 2 < curve.expected < 95
    assert curve.expected_interval.low < curve.expected < curve.expected_interval.high
    assert curve.gain == pytest.approx(curve.expected - scores[-1])
    assert curve.sentence.startswith(
        f"More data should help: 800 training rows would be expected to reach chrF {curve.expected:.1f}"
    )


def test_faults(saved: dict[str, Statistics]) -> None:
    saved["a"] = arm(0.5, 10, np.random.default_rng(2))
    with pytest.raises(UserError, match="two sizes"):
        learning.learning_curve([(100, "a"), (100, "a")])
    with pytest.raises(UserError, match="no metric"):
        learning.learning_curve([(100, "a"), (200, "a")], "accuracy")
    saved["b"] = Statistics(("nll", "nll_tokens"), np.ones((10, 2)))
    with pytest.raises(UserError, match="no best value"):
        learning.learning_curve([(100, "b"), (200, "b")], "perplexity")
