"""The judge: what it reads out of replies, both orders, flips, resume, agreement with people, the endpoint protocol."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from core.errors import InputFileError
from core.evaluation.agreement import cohens_kappa
from core.evaluation.judge import Rubric, judge_pairs, judge_singles, read_choice, read_score
from core.evaluation.judges import EndpointJudge, EngineJudge
from core.evaluation.judging import judge_evaluations, read_labels
from core.evaluation.runner import run_evaluation
from core.evaluation.statistics import wilson
from core.records import Evaluation, NamedEndpoint, SilentReporter
from tests.evaluation.standin import StandIn
from tests.evaluation.toy import right_answer


class Scripted:
    """A judge that replies by a function of the question."""

    name = "scripted"

    def __init__(self, reply: Callable[[str], str], most: int = 10**9) -> None:
        self.reply, self.most, self.asked = reply, most, []

    def ask(self, questions: Sequence[str], on_answer: Callable[[int, str], None]) -> None:
        for place, text in list(enumerate(questions))[::-1]:
            if len(self.asked) >= self.most:
                raise RuntimeError("power cut")
            self.asked.append(text)
            on_answer(place, self.reply(text))


def row(n: int, **texts: str) -> dict[str, Any]:
    return {"row_id": f"r{n}", "instruction": "", "input": f"q{n}", "output": "gold", **texts}


def longer(text: str) -> str:
    """Prefers the longer answer, whatever the place."""
    a, b = (text.split(f"<answer_{x}>\n")[1].split(f"\n</answer_{x}>")[0] for x in "AB")
    return json.dumps({"better": "A" if len(a) > len(b) else "B" if len(b) > len(a) else "tie"})


@pytest.mark.parametrize(
    ("reply", "score"),
    [
        ('{"reason": "ok", "score": 4}', 4.0),
        ('Sure:\n```json\n{"score": "3.5"}\n```', 3.5),
        ("<think>maybe 2</think>Score: 5", 5.0),
        ("评分：2", 2.0),
        ("4", 4.0),
        ('{"score": "4/5"}', 4.0),
        ('{"score": "3 out of 5"}', 3.0),
        ('{"score": "2分"}', 2.0),
        ('{"score": "4-5"}', None),
        ("between 2 and 4", None),
        ('{"score": 9}', None),
        ("good", None),
        ("", None),
    ],
)
def test_scores_are_read(reply: str, score: float | None) -> None:
    assert read_score(reply, Rubric()) == score


@pytest.mark.parametrize(
    ("reply", "choice"),
    [
        ('{"better": "A"}', "A"),
        ('{"reason": "B is bad", "better": "tie"}', "tie"),
        ("Better: B", "B"),
        ("The winner is A.", None),
        ("a", "A"),
        ("平局", "tie"),
        ("both are fine", None),
    ],
)
def test_choices_are_read(reply: str, choice: str | None) -> None:
    assert read_choice(reply) == choice


def test_singles_have_a_mean_with_an_interval_and_count_what_cannot_be_read() -> None:
    rows = [row(n, prediction=f"p{n}") for n in range(30)]
    judge = Scripted(lambda text: "no idea" if "<answer>\np7\n" in text else json.dumps({"score": 5 if "p1" in text else 1}))
    found = judge_singles(rows, judge, Rubric())
    assert found.unreadable == 1
    assert found.scores["r7"] is None
    scores = [v for v in found.scores.values() if v is not None]
    assert found.mean == pytest.approx(np.mean(scores))
    assert found.interval is not None
    assert found.interval.low < found.mean < found.interval.high


def test_scores_that_are_all_alike_leave_doubt() -> None:
    found = judge_singles([row(n, prediction="p") for n in range(6)], Scripted(lambda text: '{"score": 5}'), Rubric())
    assert (found.mean, found.interval) == (5, pytest.approx((1 + 4 * wilson(6, 6).low, 5)))


def test_pairs_are_asked_in_both_orders() -> None:
    rows = [row(0, left="a", right="bb"), row(1, left="ccc", right="d"), row(2, left="e", right="f"), row(3, left="g", right="g")]
    judge = Scripted(longer)
    found = judge_pairs(rows, judge, Rubric())
    assert found.choices == {"r0": "right", "r1": "left", "r2": "tie", "r3": "tie"}
    assert (found.left, found.right, found.ties, found.flips, found.unreadable) == (1, 1, 2, 0, 0)
    assert found.first == 0.5
    assert len(judge.asked) == 6  # equal answers aren't asked


def test_a_judge_that_goes_by_the_place_decides_nothing() -> None:
    rows = [row(n, left=f"a{n}", right=f"b{n}") for n in range(5)]
    found = judge_pairs(rows, Scripted(lambda text: '{"better": "A"}'), Rubric())
    assert (found.left, found.right, found.ties, found.flips, found.first) == (0, 0, 0, 5, 1.0)
    assert found.rate is None
    half = judge_pairs(rows, Scripted(lambda text: "tie" if "<answer_A>\na" in text else '{"better": "A"}'), Rubric())
    assert (half.ties, half.flips) == (5, 0)  # chosen in one order, tie in the other


def test_kappa_is_that_of_scikit_learn() -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    rng = np.random.default_rng(0)
    for _ in range(20):
        a = rng.integers(1, 6, 60)
        b = np.where(rng.random(60) < 0.6, a, rng.integers(1, 6, 60))
        for weights in (None, "quadratic"):
            found = cohens_kappa(a.tolist(), b.tolist(), quadratic=weights is not None)
            assert found.kappa == pytest.approx(metrics.cohen_kappa_score(a, b, weights=weights), abs=1e-9)
            assert found.interval is not None
            assert found.interval.low < found.kappa < found.interval.high
    assert cohens_kappa(["x"] * 3, ["x"] * 3).kappa is None
    assert cohens_kappa([], []).rows == 0
    with pytest.raises(ValueError, match="against"):
        cohens_kappa([1], [])


@pytest.fixture
def two(make_evaluation: Callable[..., Evaluation], engine: Callable[..., Any]) -> tuple[str, str]:
    run_evaluation(make_evaluation("bad"), SilentReporter(), engine(lambda text: "{}"))
    run_evaluation(make_evaluation("good"), SilentReporter(), engine(right_answer))
    return "bad", "good"


def test_evaluations_are_judged_and_taken_up_again_after_a_crash(two: tuple[str, str]) -> None:
    with pytest.raises(RuntimeError, match="power cut"):
        judge_evaluations(two, Scripted(longer, most=30), Rubric())
    rest = Scripted(longer)
    labels = {f"r-{n:04d}": "right" if n % 4 else "left" for n in range(24, 64)}
    found = judge_evaluations(two, rest, Rubric(), labels=labels)
    assert len(rest.asked) == 80 - 30
    assert (found["rows"], found["right"], found["left"], found["flips"]) == (40, 40, 0, 0)
    assert found["rate"] == 1
    assert found["p"] < 1e-6
    assert found["agreement"]["equal"] == 0.75
    assert judge_evaluations(two, Scripted(longer, most=0), Rubric())["right"] == 40  # all are kept
    single = judge_evaluations(two[1:], Scripted(lambda text: "4"), Rubric(), limit=5, labels={"r-0024": 4.0, "r-0025": 2.0})
    assert (single["mean"], single["rows"], single["agreement"]["rows"]) == (4.0, 5, 2)


def test_an_engine_can_be_the_judge(tiny: Path, engine: Callable[..., Any], two: tuple[str, str]) -> None:
    from core.records import ModelRef

    fake = engine(lambda text: '{"score": 3}')
    fake.ref = ModelRef(source="path", name=str(tiny))
    found = judge_evaluations(["good"], EngineJudge(fake), Rubric(), limit=3)
    assert found["mean"] == 3
    assert all("材料" in prompt or "material" in prompt for prompt in fake.prompts)


def test_labels_are_checked(tmp_path: Path) -> None:
    path = tmp_path / "labels.jsonl"
    path.write_text('{"row_id": "a", "label": "left"}\n{"row_id": "b", "label": "tie"}\n')
    assert read_labels(path, pairs=True) == {"a": "left", "b": "tie"}
    with pytest.raises(InputFileError, match="line 1"):
        read_labels(path, pairs=False)


def test_a_judge_behind_an_endpoint(server: StandIn) -> None:
    server.answer = lambda messages: messages[0]["content"].upper()
    got: dict[int, str] = {}
    EndpointJudge(NamedEndpoint(name="m", url=server.url, model="m")).ask(["a", "b", "c"], got.__setitem__)
    assert got == {0: "A", 1: "B", 2: "C"}
    assert (server.bodies[0]["model"], server.bodies[0]["temperature"]) == ("m", 0)
