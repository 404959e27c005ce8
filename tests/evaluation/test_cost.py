"""Prices of requests and training, the break-even, and its place in the verdict."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from core.evaluation.compare import compare
from core.evaluation.cost import ArmCost, arm_cost, break_even, cost_sentence
from core.evaluation.runner import run_evaluation
from core.records import DatasetUse, Evaluation, Run, SilentReporter, TrainSpec
from core.settings import Settings
from core.store.runs import save_evaluation, save_run
from tests.evaluation.toy import TEMPLATE, right_answer

PRICES = Settings(price_in=1.0, price_out=4.0, price_hour=3.0)


def test_an_arm_costs_its_tokens_and_its_training() -> None:
    scores = {"tokens_in_per_request": 250.0, "tokens_out_per_request": 50.0}
    assert arm_cost(scores, 1200, 2, PRICES) == ArmCost(pytest.approx(450e-6), pytest.approx(2.0), 1200)
    assert arm_cost(scores, 0, 1, Settings()) == ArmCost(None, 0.0)
    assert arm_cost({}, 60, 1, PRICES).request is None


@pytest.mark.parametrize(
    ("first", "other", "cheaper", "requests"),
    [
        (ArmCost(0.0004, 0.0), ArmCost(0.0001, 3.0, 60), "other", 10_000),
        (ArmCost(0.0001, 3.0, 60), ArmCost(0.0004, 0.0), "first", 10_000),
        (ArmCost(0.0001, 0.0), ArmCost(0.0004, 3.0, 60), "first", 0),
        (ArmCost(0.0002, 0.0), ArmCost(0.0002, 3.0, 60), "other", None),
        (ArmCost(0.0004, 0.0), ArmCost(0.0003, 0.0), "other", 0),
    ],
)
def test_break_even(first: ArmCost, other: ArmCost, cheaper: str, requests: int | None) -> None:
    found = break_even(first, other)
    assert found is not None
    assert (found.cheaper, found.requests) == (cheaper, requests)
    if requests:
        ahead = abs((first.training or 0) - (other.training or 0))
        saved = abs((first.request or 0) - (other.request or 0))
        assert (requests - 1) * saved < ahead <= requests * saved + 1e-9


def test_words() -> None:
    text = cost_sentence(ArmCost(0.0004, 0.0), ArmCost(0.0001, 3.0, 720), ("prompt", "LoRA"))
    assert text == (
        " Training LoRA took 12 min. 1,000 requests cost 0.4 with prompt and 0.1 with LoRA."
        " With its training, LoRA is cheaper than prompt from 10,000 requests on."
    )
    assert cost_sentence(ArmCost(None, 0.0), ArmCost(None, None, 40), ("a", "b")) == " Training b took 40 s."
    assert cost_sentence(ArmCost(None, 0.0), ArmCost(None, 0.0), ("a", "b")) == ""


def test_the_verdict_weighs_it(
    make_evaluation: Callable[..., Evaluation], engine: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = TrainSpec(data=(DatasetUse(dataset="toy"),))
    save_run(Run(run_id="run-1", name="lora", spec=spec, template=TEMPLATE, seconds=3600, complete=True))
    run_evaluation(make_evaluation("prompt"), SilentReporter(), engine(lambda text: "{}"))
    done = run_evaluation(make_evaluation("tuned"), SilentReporter(), engine(right_answer))
    arm = done.spec.arm.model_copy(update={"run": "run-1"})
    save_evaluation(done.model_copy(update={"spec": done.spec.model_copy(update={"arm": arm})}))
    found = compare(["prompt", "tuned"])
    assert "Training tuned took 60 min." in found.verdict
    assert found.to_json()["versus"][0]["cost"] is None
    for name, price in (("IN", "1"), ("OUT", "4"), ("HOUR", "2")):
        monkeypatch.setenv(f"TUNEWISE_PRICE_{name}", price)
    found = compare(["prompt", "tuned"])
    assert "never pays off" in found.verdict  # the same tokens
    cost = found.to_json()["versus"][0]["cost"]
    assert cost["other"]["training"] == 2.0
    assert cost["requests"] is None
