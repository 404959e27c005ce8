"""An evaluation is scored whole, obeys a stop, goes on where it was, and repeats nothing that was kept."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

import pytest

from core.errors import NotFoundError, UserError
from core.evaluation import artefacts
from core.evaluation.runner import run_evaluation
from core.records import Evaluation, SilentReporter
from core.store.files import is_complete
from core.store.runs import evaluation_folder, get_evaluation
from tests.evaluation.toy import right_answer


class StopAfter(SilentReporter):
    """Asks for a stop once so many rows are done."""

    def __init__(self, rows: int) -> None:
        self.rows, self.done = rows, 0

    def progress(self, done: int, total: int, *, unit: str = "rows", message: str = "", left: float | None = None) -> None:
        self.done = done

    def should_stop(self) -> bool:
        return self.done >= self.rows


Make = Callable[..., Evaluation]


def test_scores_and_tables(make_evaluation: Make, engine: Callable[..., Any]) -> None:
    done = run_evaluation(make_evaluation(), SilentReporter(), engine())
    assert done.complete
    assert done.rows == 40
    assert done.scores["micro"]["f1"] == 1
    assert done.scores["perplexity"] == pytest.approx(2.718281828**0.5)
    assert done.scores["intervals"]["exact_match"][0] > 0.9
    assert get_evaluation("e-1") == done
    predictions = artefacts.read_predictions("e-1")
    assert predictions.schema.equals(artefacts.PREDICTIONS)
    assert predictions["row_id"].to_pylist() == [f"r-{n:04d}" for n in range(24, 64)]
    row_ids, statistics = artefacts.read_statistics("e-1")
    assert row_ids == predictions["row_id"].to_pylist()
    assert statistics.sums()["tp:人"] == 40
    assert set(artefacts.read_pairs("e-1")["kind"].to_pylist()) == {"correct"}


def test_stop_and_resume_repeat_nothing(make_evaluation: Make, engine: Callable[..., Any]) -> None:
    first = engine()
    stopped = run_evaluation(make_evaluation(), StopAfter(15), first)
    assert not stopped.complete
    assert not is_complete(evaluation_folder("e-1"))
    with pytest.raises(NotFoundError):
        artefacts.read_predictions("e-1")
    assert len(first.prompts) == 15
    second = engine()
    done = run_evaluation(stopped, SilentReporter(), second)
    assert done.complete
    assert len(second.prompts) == 25
    assert not set(first.prompts) & set(second.prompts)
    assert done.seconds > stopped.seconds


def test_crash_keeps_answers_and_a_torn_line_is_repaired(make_evaluation: Make, engine: Callable[..., Any]) -> None:
    with pytest.raises(RuntimeError):
        run_evaluation(make_evaluation(), SilentReporter(), engine(crash_after=10))
    path = evaluation_folder("e-1") / "predictions.jsonl"
    content = path.read_bytes()
    path.write_bytes(content[: len(content) - 7])  # as a power cut in the middle of a write would leave it
    again = engine()
    done = run_evaluation(make_evaluation(), SilentReporter(), again)
    assert done.complete
    assert len(again.prompts) == 31
    assert all(json.loads(line) for line in path.read_text("utf-8").splitlines())
    assert len(artefacts.read_journal(path)) == 40


def test_finished_evaluation_is_not_run_again(make_evaluation: Make, engine: Callable[..., Any]) -> None:
    done = run_evaluation(make_evaluation(), SilentReporter(), engine())
    again = engine()
    assert run_evaluation(done, SilentReporter(), again) == done
    assert again.prompts == []


def people(prompt: str) -> list[str]:
    """Who is named in the questions of a prompt, worked examples first."""
    return re.findall(r"张三\d+(?= 住在 )", prompt)


def test_fixed_examples_are_the_same_for_all_rows(make_evaluation: Make, engine: Callable[..., Any]) -> None:
    answering = engine()
    run_evaluation(make_evaluation(shots=2, limit=5), SilentReporter(), answering)
    named = [people(prompt) for prompt in answering.prompts]
    assert {len(names) for names in named} == {3}
    assert len({tuple(names[:2]) for names in named}) == 1


@pytest.mark.parametrize("how", ["fixed", "retrieved"])
def test_no_row_is_its_own_example(make_evaluation: Make, engine: Callable[..., Any], how: str) -> None:
    evaluation = make_evaluation(shots=3)
    arm = evaluation.spec.arm.model_copy(update={"shots_how": how})
    answering = engine()
    spec = evaluation.spec.model_copy(update={"split": "train", "arm": arm})
    run_evaluation(evaluation.model_copy(update={"spec": spec}), SilentReporter(), answering)
    named = [people(prompt) for prompt in answering.prompts]
    assert len(named) == 24
    assert all(len(set(names)) == 4 for names in named)


def test_too_few_worked_examples(make_evaluation: Make, engine: Callable[..., Any]) -> None:
    with pytest.raises(UserError, match="25 worked examples"):
        run_evaluation(make_evaluation(shots=25), SilentReporter(), engine())


def test_thinking_is_kept_raw_and_not_scored(make_evaluation: Make, engine: Callable[..., Any]) -> None:
    done = run_evaluation(make_evaluation(), SilentReporter(), engine(lambda p: f"<think>hm {{</think>\n{right_answer(p)}"))
    assert done.scores["exact_match"] == 1
    predictions = artefacts.read_predictions("e-1")
    assert predictions["raw"][0].as_py().startswith("<think>")
    assert predictions["prediction"][0].as_py().startswith("{")


def test_rows_longer_than_the_model_reads_are_named(make_evaluation: Make, engine: Callable[..., Any]) -> None:
    answering = engine()
    lengths = sorted(
        len(answering.tokenizer.encode(f"张三{n} 住在 Oslo{n % 7}\n", add_special_tokens=False)) for n in range(24, 64)
    )
    answering.context = lengths[-1]
    done = run_evaluation(make_evaluation(perplexity=False), SilentReporter(), answering)
    assert 0 < len(done.scores["left_out"]) == sum(n == lengths[-1] for n in lengths)
    assert done.rows == 40 - len(done.scores["left_out"])
    assert all("tokens" in reason for reason in done.scores["left_out"].values())
    answering.context = 3
    with pytest.raises(UserError, match="No row can be asked"):
        run_evaluation(make_evaluation("e-2"), SilentReporter(), answering)


def test_no_rows(make_evaluation: Make, engine: Callable[..., Any]) -> None:
    evaluation = make_evaluation()
    evaluation = evaluation.model_copy(update={"spec": evaluation.spec.model_copy(update={"split": "dev"})})
    with pytest.raises(UserError, match="no rows in split 'dev'"):
        run_evaluation(evaluation, SilentReporter(), engine())
