"""What was measured beside the answers is compared on the same rows, in the same tokens, on the same machine, or not at all."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from scipy.stats import binom

from core.evaluation import artefacts
from core.evaluation.compare import compare
from core.evaluation.comparison import Comparison
from core.evaluation.footing import Footing
from core.evaluation.latency import TOGETHER, Latency, comparable, latency, latency_sentence, timing_signature, written
from core.evaluation.report import render_report
from core.evaluation.rescore import rescore
from core.evaluation.runner import finish, run_evaluation
from core.evaluation.scoring import score_frame
from core.evaluation.statistics import Interval, quantile_interval
from core.models.machine import where
from core.records import Arm, Evaluation, ModelRef, NamedEndpoint, SilentReporter
from tests.evaluation.toy import FakeEngine

Make = Callable[..., Evaluation]


def changed(evaluation: Evaluation, name: str, **columns: Callable[[int, Any], Any]) -> Evaluation:
    """The same answers once more with other measured values: of each column, by row and old value."""
    lines = artefacts.read_predictions(evaluation.evaluation_id).to_pylist()
    for n, line in enumerate(lines):
        line |= {key: change(n, line[key]) for key, change in columns.items()}
    table = artefacts.read_predictions(evaluation.evaluation_id).schema.empty_table().from_pylist(lines, artefacts.PREDICTIONS)
    made = {key: evaluation.signature[key] for key in ("machine", "seconds")}
    return finish(evaluation.model_copy(update={"evaluation_id": name, "name": name}), table, made=made)


@pytest.fixture
def base(make_evaluation: Make, engine: Callable[..., FakeEngine]) -> Evaluation:
    return run_evaluation(make_evaluation("base"), SilentReporter(), engine())


def both(base: Evaluation, **columns: Callable[[int, Any], Any]) -> Comparison:
    changed(base, "other", **columns)
    return compare(["base", "other"])


def test_perplexity_is_compared_on_the_rows_that_both_have_it_of(base: Evaluation) -> None:
    found = both(
        base,
        nll=lambda n, nll: None if n < 15 else nll * 2,
        nll_tokens=lambda n, tokens: None if n < 15 else tokens,
    )
    assert found.footing["perplexity"] == Footing(25)
    lines = artefacts.read_predictions("base").to_pylist()[15:]
    tokens = sum(line["nll_tokens"] for line in lines)
    by_hand = [math.exp(factor * sum(line["nll"] for line in lines) / tokens) for factor in (1, 2)]
    assert [arm.scores["perplexity"] for arm in found.arms] == pytest.approx(by_hand)
    assert found.difference["perplexity"]["value"] == pytest.approx(by_hand[1] - by_hand[0])
    assert found.notes == ("Perplexity is compared on 25 of 40 rows: those for which every arm's is known.",)
    assert found.notes[0] in render_report(found).replace("&#39;", "'")


def test_perplexity_of_other_tokens_is_not_compared_but_shown(base: Evaluation) -> None:
    found = both(base, nll_tokens=lambda n, tokens: tokens + (n == 7))
    assert "other tokens" in found.footing["perplexity"].reason
    assert "perplexity" not in found.difference
    assert all(arm.scores["perplexity"] > 1 and "perplexity" in arm.intervals for arm in found.arms)
    assert "no difference is given" in found.notes[0]


def test_rows_without_any_common_likelihood(base: Evaluation) -> None:
    changed(base, "early", nll=lambda n, nll: nll if n < 20 else None, nll_tokens=lambda n, t: t if n < 20 else None)
    changed(base, "late", nll=lambda n, nll: nll if n >= 20 else None, nll_tokens=lambda n, t: t if n >= 20 else None)
    found = compare(["early", "late"])
    assert found.footing["perplexity"] == Footing(0, "no row has it of every arm")
    assert "perplexity" not in found.difference


def test_counts_that_one_arm_lacks_are_no_zeros(base: Evaluation) -> None:
    found = both(base, tokens_in=lambda n, _: None, tokens_out=lambda n, _: None, nll=lambda n, _: None)
    assert "tokens_per_request" not in found.difference
    assert "tokens_per_request" in found.arms[0].scores
    assert "tokens_per_request" not in found.arms[1].scores
    assert found.footing["tokens_per_request"].reason == "not every arm has it"
    assert "A request takes" not in found.verdict
    assert "micro_f1" in found.difference


def test_a_mean_over_some_rows_is_not_given() -> None:
    frame = {"input": ["a"] * 2, "output": ["{}"] * 2, "prediction": ["{}"] * 2, "tokens_in": [10, None], "tokens_out": [1, 1]}
    scores = score_frame(frame, with_intervals=False).scores
    assert "tokens_per_request" not in scores


def test_latency_stands_beside_the_verdict(base: Evaluation) -> None:
    found = both(base, seconds=lambda n, _: (n + 1) / 10)
    slow = found.arms[1].latency
    assert slow is not None
    assert (slow.p50, slow.p95) == (pytest.approx(2.05), pytest.approx(3.805))
    assert slow.machine == where("cpu")
    assert found.difference["seconds_per_request"]["value"] == pytest.approx(1.95)
    assert found.arms[1].scores["tokens_per_second"] == pytest.approx(40 * 5 / 82)
    assert found.verdict.startswith("No row tells other from base")  # the same answers, however long they took
    assert "Half of the rows took other up to 2.05 s and 95 % up to 3.80 s, base 0.10 s and 0.10 s" in found.verdict
    told = found.to_json()["arms"][1]["latency"]
    assert (told["p50"], told["machine"], told["how"]) == (slow.p50, slow.machine, f"of a row, {TOGETHER}")
    assert "seconds a row, median" in render_report(found)


def test_seconds_of_another_machine_are_not_held_together(base: Evaluation) -> None:
    other = changed(base, "other", seconds=lambda n, _: 5.0)
    signature = {**other.signature, "machine": "a GPU elsewhere"}
    from core.store.runs import save_evaluation

    save_evaluation(other.model_copy(update={"signature": signature}))
    found = compare(["base", "other"])
    assert "seconds_per_request" not in found.difference
    assert "not held together" in found.verdict
    assert "tokens_per_second" not in found.difference
    assert found.arms[1].scores["seconds_per_request"] == 5
    assert found.arms[1].latency is not None


def test_a_rescored_evaluation_keeps_where_it_was_timed(base: Evaluation) -> None:
    again = rescore("base", 1, name="again")
    assert again.signature["machine"] == base.signature["machine"]
    assert compare(["base", "again"]).difference["seconds_per_request"]["value"] == 0


def test_where_it_is_not_known_nothing_is_said(base: Evaluation) -> None:
    assert timing_signature(Arm(), [{"machine": "a"}, {}]) == {}
    mixed = timing_signature(Arm(), [{"machine": "b"}, {"machine": "a"}])
    assert mixed["machine"] == "a; b"
    one = latency(base, [0.5, 0.7])
    assert one is not None
    assert latency(base, [0.5, None]) is None
    assert latency(base.model_copy(update={"signature": {}}), [0.5]) is None
    assert comparable(one, one)
    assert not comparable(one._replace(machine="a; b"), one._replace(machine="a; b"))
    assert not comparable(one, None)
    assert latency_sentence(None, one, ("a", "b")) == ""
    arm = Arm(
        model=ModelRef(source="endpoint", name="x"), endpoint=NamedEndpoint(name="x", url="http://far/v1", model="m"), workers=4
    )
    assert timing_signature(arm, [{"machine": "a"}])["seconds"] == "of a request, 4 at once"


def test_words_of_latency() -> None:
    fast = Latency(0.041, Interval(0, 1), 0.2, Interval(0, 1), "m", f"of a row, {TOGETHER}")
    slow = fast._replace(p50=12.4, p95=1234.0)
    assert latency_sentence(slow, fast, ("prompt", "LoRA")) == (
        " Half of the rows took LoRA up to 41 ms and 95 % up to 0.20 s, prompt 12 s and 1,234 s, on the same machine, "
        "rows answered together."
    )
    assert written(9.994) == "9.99 s"


@pytest.mark.parametrize(("rows", "share"), [(1, 0.5), (7, 0.95), (40, 0.5), (500, 0.95), (20_000, 0.5)])
def test_quantile_intervals_are_the_ranks_of_the_binomial(rows: int, share: float) -> None:
    values = np.random.default_rng(1).permutation(np.arange(rows, dtype=float))
    low = max(0, int(binom.ppf(0.025, rows, share)) - (binom.cdf(binom.ppf(0.025, rows, share), rows, share) > 0.025))
    high = min(rows - 1, int(binom.ppf(0.975, rows, share)))
    assert quantile_interval(values, share) == (low, high)


def test_quantile_intervals_cover() -> None:
    rng = np.random.default_rng(2)
    for share in (0.5, 0.95):
        truth = -math.log(1 - share)
        hits = [low <= truth <= high for low, high in (quantile_interval(rng.exponential(size=200), share) for _ in range(1000))]
        assert 0.94 <= sum(hits) / 1000 <= 0.985
