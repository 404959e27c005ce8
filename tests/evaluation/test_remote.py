"""Arms behind an endpoint: the protocol, faults that pass and faults that don't, stop and resume, cost, constraint."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from core.errors import ModelError, NotFoundError, SpecError
from core.evaluation import artefacts
from core.evaluation.remote import ask_all
from core.evaluation.runner import run_evaluation
from core.models.answers import Answered
from core.models.endpoints import EndpointEngine, RefusedError
from core.records import Arm, Evaluation, EvaluationSpec, GenerationSettings, ModelRef, NamedEndpoint, SilentReporter
from core.store.endpoints import save_endpoint
from core.store.runs import evaluation_folder
from tests.evaluation.standin import StandIn, fault
from tests.evaluation.test_evaluation_runner import StopAfter
from tests.evaluation.toy import TEMPLATE, right_answer

CHAT = TEMPLATE.model_copy(update={"kind": "chat", "system": "抽取。", "stop": ("\n\n",)})
ASK = [{"role": "user", "content": "hello 你好"}]


@pytest.fixture
def remote(server: StandIn, make_evaluation: Callable[..., Evaluation]) -> Callable[..., Evaluation]:
    """Evaluations of ``toy`` whose arm is the stand-in, which answers rightly."""
    server.answer = lambda messages: right_answer(messages[-1]["content"])

    def make(evaluation_id: str = "e-1", constrained: bool = False, workers: int = 8, **prices: float) -> Evaluation:
        evaluation = make_evaluation(evaluation_id, template=CHAT)
        arm = Arm(
            model=ModelRef(source="endpoint", name="big"),
            endpoint=NamedEndpoint(name="big", url=server.url, model="big-model", **prices),
            workers=workers,
            constrained=constrained,
            generation=GenerationSettings(max_new_tokens=32),
        )
        return evaluation.model_copy(update={"spec": evaluation.spec.model_copy(update={"arm": arm})})

    return make


def ask(server: StandIn, number: int = 1, workers: int = 8) -> dict[int, Answered | RefusedError]:
    got: dict[int, Answered | RefusedError] = {}
    engine = EndpointEngine(NamedEndpoint(name="there", url=server.url, model="m"))
    ask_all(engine, [ASK] * number, GenerationSettings(max_new_tokens=5), got.__setitem__, workers=workers)
    return got


@pytest.fixture(autouse=True)
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Pauses before another try take no time, and are written down."""
    taken: list[float] = []
    monkeypatch.setattr("core.models.download.pause", taken.append)
    return taken


def test_answers_scores_and_tokens(remote: Callable[..., Evaluation], server: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUNEWISE_ENDPOINT_KEY", "k-1")
    done = run_evaluation(remote(), SilentReporter())
    assert done.complete
    assert done.scores["micro"]["f1"] == 1
    assert "perplexity" not in done.scores
    assert set(server.keys) == {"Bearer k-1"}
    assert "k-1" not in done.model_dump_json()
    body = server.bodies[0]
    assert [m["role"] for m in body["messages"]] == ["system", "user"]
    assert (body["model"], body["max_tokens"], body["temperature"], body["stop"]) == ("big-model", 32, 0, ["\n\n"])
    table = artefacts.read_predictions("e-1")
    assert table["row_id"].to_pylist() == [f"r-{n:04d}" for n in range(24, 64)]
    assert table["tokens_out"].to_pylist() == [len(text) for text in table["raw"].to_pylist()]
    assert done.scores["tokens_in_per_request"] > 10
    assert done.signature["endpoint"] == f"{server.url}|model:big-model"


def test_workers_bound_what_is_under_way(server: StandIn) -> None:
    server.seconds = 0.05
    assert len(ask(server, 12, workers=3)) == 12
    assert server.most_at_once == 3


def test_passing_faults_are_tried_again(server: StandIn, waits: list[float]) -> None:
    server.faults = [fault(429, "slow down", Retry_After="7"), fault(503), fault(500)]
    assert ask(server)[0].text == "hello 你好"
    assert waits == [7.0, 2.0, 4.0]
    server.cuts = 2
    assert ask(server)[0].text == "hello 你好"
    server.faults = [fault(503)] * 9
    with pytest.raises(ModelError, match="503"):
        ask(server)
    assert len(server.faults) == 5
    server.faults, server.cuts = [], 3
    with pytest.raises(ModelError, match="broke off"):
        ask(server)


@pytest.mark.parametrize(("status", "hint"), [(401, "TUNEWISE_ENDPOINT_KEY"), (404, "model's name")])
def test_lasting_faults_end_it_at_once(server: StandIn, status: int, hint: str) -> None:
    server.refuse = lambda body: fault(status, "no such thing")
    with pytest.raises(ModelError) as raised:
        ask(server, 30, workers=1)
    assert hint in raised.value.hint
    assert len(server.bodies) <= 2


def test_a_refused_row_is_left_out_and_named(remote: Callable[..., Evaluation], server: StandIn) -> None:
    server.refuse = lambda body: fault(400, "too many tokens") if "张三30" in body["messages"][-1]["content"] else None
    done = run_evaluation(remote(workers=1), SilentReporter())
    assert done.rows == 39
    assert done.scores["left_out"] == {"r-0030": "The endpoint big answers 400: too many tokens"}
    server.refuse = lambda body: fault(400, "unknown field response_format")
    with pytest.raises(ModelError, match="unknown field"):
        run_evaluation(remote("e-2", constrained=True), SilentReporter())
    assert len(server.bodies) < 40 + 30


def test_stop_and_resume_ask_nothing_twice(remote: Callable[..., Evaluation], server: StandIn) -> None:
    """What is under way at a stop is hung up and asked again; what was answered is not."""
    assert not run_evaluation(remote(workers=2), StopAfter(10)).complete
    kept = artefacts.read_journal(evaluation_folder("e-1") / "predictions.jsonl")
    assert 10 <= len(kept) <= len(server.bodies) <= 12
    server.bodies.clear()
    assert run_evaluation(remote(workers=2), SilentReporter()).complete
    assert len(server.bodies) == 40 - len(kept)
    assert len({json.dumps(body["messages"]) for body in server.bodies}) == 40 - len(kept)


def test_a_fault_in_the_middle_keeps_what_was_answered(remote: Callable[..., Evaluation], server: StandIn) -> None:
    server.refuse = lambda body: fault(401) if len(server.bodies) == 15 else None
    with pytest.raises(ModelError, match="refuses the key"):
        run_evaluation(remote(workers=1), SilentReporter())
    assert run_evaluation(remote(workers=1), SilentReporter()).complete
    assert len(server.bodies) <= 41


def test_tokens_that_are_not_counted_stay_empty(remote: Callable[..., Evaluation], server: StandIn) -> None:
    server.usage = False
    done = run_evaluation(remote(), SilentReporter())
    assert "tokens_per_request" not in done.scores
    assert done.scores["seconds_per_request"] > 0
    assert artefacts.read_predictions("e-1")["tokens_in"].null_count == 40


def test_constraint_is_a_json_schema(remote: Callable[..., Evaluation], server: StandIn) -> None:
    done = run_evaluation(remote(constrained=True), SilentReporter())
    asked = server.bodies[0]["response_format"]
    assert asked["type"] == "json_schema"
    schema = asked["json_schema"]["schema"]
    assert list(schema["properties"]) == schema["required"] == ["人", "地"]
    assert schema["additionalProperties"] is False
    assert "endpoint" in done.signature["decoding"]


def test_cost_goes_by_the_endpoints_prices(
    remote: Callable[..., Evaluation], make_evaluation: Callable[..., Evaluation], engine: Callable[..., Any]
) -> None:
    from core.evaluation.compare import compare

    run_evaluation(make_evaluation("local"), SilentReporter(), engine())
    far = run_evaluation(remote("far", price_in=2.0, price_out=8.0), SilentReporter())
    cost = compare(["local", "far"]).versus[0].costs[1]
    expected = (2.0 * far.scores["tokens_in_per_request"] + 8.0 * far.scores["tokens_out_per_request"]) / 1e6
    assert cost.request == pytest.approx(expected)


def test_what_an_endpoint_cannot_do_is_said_before_it_is_queued(dataset: str) -> None:
    from core.jobs.submissions import prepare_evaluation

    model = ModelRef(source="endpoint", name="far")

    def prepare(**arm: Any) -> Evaluation:
        return prepare_evaluation(EvaluationSpec(dataset=dataset, arm=Arm(model=model, **arm)))

    with pytest.raises(NotFoundError, match="no endpoint 'far'"):
        prepare()
    endpoint = NamedEndpoint(name="far", url="http://127.0.0.1:1/v1", model="m")
    save_endpoint(endpoint)
    with pytest.raises(SpecError, match="raw"):
        prepare(template="instruct")
    with pytest.raises(SpecError, match="no address"):
        prepare(endpoint=endpoint.model_copy(update={"url": "ftp://x"}))
    made = prepare()
    assert made.name == "toy test: far, chat"
    save_endpoint(endpoint.model_copy(update={"model": "another"}))
    assert made.spec.arm.endpoint is not None
    assert made.spec.arm.endpoint.model == "m"  # as it was when it was queued
