"""Intervals and tests against independent oracles, and their promises kept in simulation."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import scipy.optimize
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from core.evaluation import statistics as inference
from core.evaluation.metrics import extraction
from core.evaluation.metrics.rows import Floats, Metric, Statistics, align, ratio
from core.evaluation.resampling import bootstrap_sums, by_cluster, jackknife_sums, swapped_sums

NAMES = ("rows", "exact_match", "tp:e", "predicted:e", "gold:e")
METRICS: dict[str, Metric] = {"f1": extraction.micro("f1"), "exact": extraction.share("exact_match")}


def population(rng: np.random.Generator, rows: int, left: float, right: float) -> tuple[Statistics, Statistics]:
    """Two arms of these skills on the same rows, some rows harder than others for both."""
    hardness = rng.normal(0, 1, rows)
    gold = 1 + rng.poisson(2, rows)

    def arm(skill: float) -> Statistics:
        chance = 1 / (1 + np.exp(-(skill - hardness + rng.normal(0, 0.7, rows))))
        readable = rng.random(rows) < 0.95
        tp = rng.binomial(gold, chance) * readable
        predicted = (tp + rng.poisson(0.6 * (1 - chance) * gold)) * readable
        exact = (tp == gold) & (predicted == gold)
        return Statistics(NAMES, np.stack([np.ones(rows), exact, tp, predicted, gold], axis=1).astype(float))

    return arm(left), arm(right)


def test_sums_of_resamples_are_those_of_a_plain_loop() -> None:
    left, _ = population(np.random.default_rng(0), 50, 0, 0)
    sums = bootstrap_sums(left, 200, seed=3)
    assert sums.values.shape == (200, len(NAMES))
    assert (sums["rows"] == 50).all()
    draws = np.random.default_rng(3).integers(0, 50, size=(200, 50), dtype=np.int32)
    expected = np.array([left.values[rows].sum(axis=0) for rows in draws])
    assert sums.values == pytest.approx(expected)


def test_same_seed_same_interval_and_chunks_do_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    left, right = population(np.random.default_rng(0), 80, 0, 1)
    first = inference.paired(left, right, METRICS, resamples=500)
    monkeypatch.setattr("core.evaluation.resampling._CELLS", 80 * 8 * 7)
    assert inference.paired(left, right, METRICS, resamples=500) == first


def test_swaps_keep_the_total() -> None:
    left, right = population(np.random.default_rng(0), 30, 0, 1)
    one, other = swapped_sums(left, right, 100)
    assert one.values + other.values == pytest.approx(np.tile(left.values.sum(axis=0) + right.values.sum(axis=0), (100, 1)))
    assert len(np.unique(one["tp:e"])) > 5


def test_randomisation_p_approaches_the_exhaustive_one() -> None:
    left, right = population(np.random.default_rng(4), 10, 0, 1)
    value = float(METRICS["f1"](right.sums()) - METRICS["f1"](left.sums()))
    more = as_much = 0
    for swap in itertools.product([False, True], repeat=10):
        rows = np.array(swap)[:, None]
        a = Statistics(NAMES, np.where(rows, right.values, left.values)).sums()
        b = Statistics(NAMES, np.where(rows, left.values, right.values)).sums()
        size = abs(METRICS["f1"](b) - METRICS["f1"](a))
        more += size > abs(value) + 1e-12
        as_much += abs(size - abs(value)) <= 1e-12
    p = inference.paired(left, right, METRICS, resamples=20_000)["f1"].p
    assert p == pytest.approx((more + as_much / 2) / 2**10, abs=0.01)


def test_bca_agrees_with_scipy() -> None:
    left, _ = population(np.random.default_rng(1), 60, 0.3, 0)

    def f1(rows: Floats, axis: int = -1) -> Floats:
        tp, predicted, gold = (left.values[rows.astype(int), i].sum(axis=axis) for i in (2, 3, 4))
        return ratio(2 * tp, predicted + gold)

    expected = scipy.stats.bootstrap(
        (np.arange(60),), f1, n_resamples=20_000, method="BCa", rng=np.random.default_rng(0)
    ).confidence_interval
    found = inference.intervals(left, {"f1": METRICS["f1"]}, method="bca", resamples=20_000)["f1"]
    assert found.low == pytest.approx(expected.low, abs=0.005)
    assert found.high == pytest.approx(expected.high, abs=0.005)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.booleans()), max_size=60))
def test_mcnemar_is_the_binomial_test(rows: list[tuple[bool, bool]]) -> None:
    gained, lost = sum(b and not a for a, b in rows), sum(a and not b for a, b in rows)
    expected = scipy.stats.binomtest(gained, gained + lost).pvalue if gained + lost else 1.0
    assert inference.mcnemar([a for a, _ in rows], [b for _, b in rows]) == pytest.approx(expected, abs=1e-9)


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 500).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_agrees_with_scipy(counts: tuple[int, int]) -> None:
    expected = scipy.stats.binomtest(*counts).proportion_ci(method="wilson")
    assert inference.wilson(*counts) == pytest.approx((expected.low, expected.high), abs=1e-9)


@pytest.mark.parametrize(
    ("lost", "gained", "rows", "expected"),
    [
        (7, 1, 21, (-0.517, -0.026)),  # Bentur 2009 in Fagerland, Lydersen & Laake 2014
        (0, 0, 6, (-0.390, 0.390)),  # no row differs: z² / (n + z²)
        (0, 0, 200, (-0.019, 0.019)),
        (0, 6, 6, (0.219, 1.0)),
        (0, 0, 0, (-1.0, 1.0)),
    ],
)
def test_a_change_of_a_rate(lost: int, gained: int, rows: int, expected: tuple[float, float]) -> None:
    assert inference.rate_difference(lost, gained, rows) == pytest.approx(expected, abs=0.0006)


@settings(max_examples=60, deadline=None)
@given(st.tuples(st.integers(0, 30), st.integers(0, 30), st.integers(1, 60)))
def test_ends_of_a_change_of_a_rate_are_where_the_score_test_turns(counts: tuple[int, int, int]) -> None:
    """The constrained likelihood is climbed by scipy, not solved for."""
    lost, gained, same = counts
    rows = lost + gained + same

    def z(delta: float) -> float:
        def unlikely(q: float) -> float:
            shares = np.array([q, q + delta, 1 - 2 * q - delta])
            return -float(np.array(counts) @ np.log(np.maximum(shares, 1e-300)))

        ends = max(0.0, -delta), (1 - delta) / 2
        q = scipy.optimize.minimize_scalar(unlikely, bounds=ends, method="bounded", options={"xatol": 1e-12}).x
        return float((gained - lost - rows * delta) / math.sqrt(rows * (2 * q + delta * (1 - delta))))

    low, high = inference.rate_difference(lost, gained, rows)
    assert low < (gained - lost) / rows < high
    assert z(low) == pytest.approx(1.96, abs=0.002)
    assert z(high) == pytest.approx(-1.96, abs=0.002)
    turned = inference.rate_difference(gained, lost, rows)
    assert (-turned.high, -turned.low) == pytest.approx((low, high), abs=1e-12)
    assert (low > 0 or high < 0) == ((gained - lost) ** 2 > 1.959964**2 * (gained + lost))  # McNemar's asymptotic test


def test_intervals_of_a_change_of_a_rate_cover_the_truth() -> None:
    """Rows drawn anew for arms that differ seldom or often: the bootstrap sees no doubt where no row happens to differ."""
    rng = np.random.default_rng(12)
    covered = []
    for rows in (6, 20, 60, 200):
        for lost, gained in ((0.01, 0.01), (0.02, 0.1), (0.1, 0.1), (0.05, 0.4)):
            draws = rng.multinomial(rows, [lost, gained, 1 - lost - gained], size=2000).tolist()
            ends = [inference.rate_difference(b, c, rows) for b, c, _ in draws]
            covered.append(sum(low <= gained - lost <= high for low, high in ends) / 2000)
    assert min(covered) >= 0.92
    assert 0.945 <= sum(covered) / len(covered) <= 0.985


@pytest.mark.parametrize(
    ("p", "adjusted"),
    [
        ([0.01, 0.04, 0.03], [0.03, 0.06, 0.06]),
        ([0.5, 0.6], [1.0, 1.0]),
        ([0.02], [0.02]),
        ([], []),
    ],
)
def test_holm(p: list[float], adjusted: list[float]) -> None:
    assert inference.holm(p) == pytest.approx(adjusted)


@pytest.mark.parametrize("looks", [1, 2, 5])
def test_fewer_rows_than_the_least_are_never_clear_and_as_many_can_be(looks: int) -> None:
    least = inference.least_rows(looks)
    clearest = {}
    for rows in (least - 1, least):  # each row better by as much, against all swaps of them
        swaps = np.array(list(itertools.product((1.0, -1.0), repeat=rows))).mean(axis=1)
        clearest[rows] = inference.holm([inference.randomisation_p(np.tile(swaps, 500), 1.0)] * looks)[0]
    assert clearest[least] < 0.05 <= clearest[least - 1]


def test_clusters_widen_the_interval() -> None:
    left, right = population(np.random.default_rng(2), 40, 0, 1)
    copies = [Statistics(NAMES, np.repeat(arm.values, 5, axis=0)) for arm in (left, right)]
    groups = np.repeat(np.arange(40), 5)
    alone = inference.paired(left, right, METRICS)["f1"]
    naive = inference.paired(*copies, METRICS)["f1"]
    clustered = inference.paired(*copies, METRICS, clusters=list(groups))["f1"]
    assert clustered == pytest.approx(alone)
    assert naive.high - naive.low < 0.6 * (clustered.high - clustered.low)
    assert by_cluster(copies[0], groups).values == pytest.approx(5 * left.values)


def test_rows_needed_is_right_in_simulation() -> None:
    rng = np.random.default_rng(8)
    left, right = population(rng, 20_000, 0, 0.35)
    pilot = np.arange(300)
    truth = float(METRICS["f1"](right.sums()) - METRICS["f1"](left.sums()))
    found = inference.paired(left.take(pilot), right.take(pilot), {"f1": METRICS["f1"]}, resamples=2000)["f1"]
    needed = inference.rows_needed(truth, (found.high - found.low) / 3.92, 300)
    assert needed is not None
    seen = 0
    for seed in range(150):
        rows = rng.integers(0, 20_000, needed)
        seen += inference.paired(left.take(rows), right.take(rows), {"f1": METRICS["f1"]}, resamples=400, seed=seed)["f1"].low > 0
    assert 0.68 < seen / 150 < 0.92
    assert inference.rows_needed(0.0, 0.1, 100) is None


def test_nothing_to_resample() -> None:
    empty = Statistics(NAMES, np.zeros((0, len(NAMES))))
    assert inference.intervals(empty, METRICS) == {}
    assert inference.paired(empty, empty, METRICS) == {}
    nothing = inference.interval_of(np.array([math.nan]), 0.0)
    assert math.isnan(nothing.low)
    with pytest.raises(ValueError, match="2 and 1 rows"):
        inference.paired(Statistics(("rows",), np.ones((2, 1))), Statistics(("rows",), np.ones((1, 1))), {})


def test_aligned_columns_and_round_trip() -> None:
    a, b = Statistics(("x", "y"), np.ones((2, 2))), Statistics(("y", "z"), np.full((2, 2), 3.0))
    left, right = align([a, b])
    assert left.names == right.names == ("x", "y", "z")
    assert right.values.tolist() == [[0, 3, 3]] * 2
    again = Statistics.from_table(a.to_table(["r1", "r2"]))
    assert again.names == a.names
    assert (again.values == a.values).all()
    assert jackknife_sums(a).values.tolist() == [[1, 1], [1, 1]]


@pytest.mark.slow
@pytest.mark.parametrize("method", ["percentile", "bca"])
def test_intervals_cover_the_truth(method: inference.Method) -> None:
    rng = np.random.default_rng(5)
    left, right = population(rng, 40_000, 0.2, 0.8)
    truth = float(METRICS["f1"](right.sums()) - METRICS["f1"](left.sums()))
    covered = 0
    for seed in range(1000):
        rows = rng.integers(0, 40_000, 120)
        found = inference.paired(
            left.take(rows), right.take(rows), {"f1": METRICS["f1"]}, method=method, resamples=1000, seed=seed
        )["f1"]
        covered += found.low <= truth <= found.high
    assert 0.93 <= covered / 1000 <= 0.97


@pytest.mark.slow
@pytest.mark.parametrize("rows", [60, 200, 1000])
def test_false_alarms_are_as_many_as_promised(rows: int) -> None:
    """Arms of one skill, drawn anew each time, so that nothing but chance tells them apart."""
    rng = np.random.default_rng(900 + rows)
    alarms = dict.fromkeys(METRICS, 0)
    for seed in range(4000):
        left, right = population(rng, rows, 0.5, 0.5)
        a, b = swapped_sums(left, right, 1000, seed)
        for name, metric in METRICS.items():
            value = float(metric(right.sums()) - metric(left.sums()))
            alarms[name] += inference.randomisation_p(metric(b) - metric(a), value) < 0.05
    assert all(0.04 <= count / 4000 <= 0.06 for count in alarms.values()), alarms


def test_holm_agrees_with_statsmodels() -> None:
    from statsmodels.stats.multitest import multipletests

    rng = np.random.default_rng(3)
    for size in (2, 5, 20):
        p = rng.random(size) ** 3
        assert inference.holm(p.tolist()) == pytest.approx(multipletests(p, method="holm")[1], abs=1e-12)


def test_mcnemar_and_wilson_agree_with_statsmodels() -> None:
    from statsmodels.stats.contingency_tables import mcnemar
    from statsmodels.stats.proportion import proportion_confint

    rng = np.random.default_rng(4)
    for rows in (10, 60, 2000):
        a, b = rng.random(rows) < 0.6, rng.random(rows) < 0.65
        table = [[int((a & b).sum()), int((a & ~b).sum())], [int((~a & b).sum()), int((~a & ~b).sum())]]
        assert inference.mcnemar(a, b) == pytest.approx(float(mcnemar(table, exact=True).pvalue), abs=1e-9)
        expected = proportion_confint(int(a.sum()), rows, method="wilson")
        assert inference.wilson(int(a.sum()), rows) == pytest.approx(expected, abs=1e-9)


def test_rows_needed_agrees_with_statsmodels() -> None:
    """A difference of one standard deviation's tenth, paired: the power of a z test on differences."""
    from statsmodels.stats.power import NormalIndPower

    needed = inference.rows_needed(0.1, 1 / math.sqrt(50), 50)
    expected = NormalIndPower(ddof=0).solve_power(0.1, alpha=0.05, power=0.8, ratio=0)
    assert needed == pytest.approx(expected, rel=0.01)


def test_clustered_interval_agrees_with_the_sandwich() -> None:
    """A mean over clusters: the bootstrap's standard error is that of a regression with clustered errors."""
    import statsmodels.api as sm

    rng = np.random.default_rng(6)
    groups = np.repeat(np.arange(150), 4)
    values = rng.normal(0, 1, 150)[groups] + rng.normal(0, 0.5, 600)
    rows = Statistics(("rows", "x"), np.stack([np.ones(600), values], axis=1))
    found = inference.intervals(rows, {"mean": lambda s: s["x"] / s["rows"]}, clusters=groups.tolist())["mean"]
    fit = sm.OLS(values, np.ones(600)).fit(cov_type="cluster", cov_kwds={"groups": groups, "use_correction": False})
    assert (found.high - found.low) / 3.92 == pytest.approx(float(fit.bse[0]), rel=0.05)


def test_arms_without_a_difference_get_a_p_of_one() -> None:
    assert inference.randomisation_p(np.zeros(1000), 0.0) == 1.0
    assert inference.randomisation_p(np.linspace(-1, 1, 1000), 0.0) == 1.0
