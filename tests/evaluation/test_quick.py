"""A quick A/B holds like against like: the same rows and the same settings of generation."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from core.evaluation.compare import compare
from core.evaluation.questions import Question
from core.evaluation.quick import quick_plan
from core.evaluation.runner import finish, predictions_table
from core.records import Evaluation, GenerationSettings, ModelRef
from core.store.datasets import read_rows
from tests.evaluation.toy import TEMPLATE

Make = Callable[..., Evaluation]
SHORT, LONG = GenerationSettings(max_new_tokens=16), GenerationSettings(max_new_tokens=128)


def answered(evaluation: Evaluation, settings: GenerationSettings, run: str | None, cut: int = 0) -> Evaluation:
    """The evaluation with every answer right, ``cut`` of them cut off."""
    rows = read_rows("toy", 1, split="test").to_pylist()
    arm = evaluation.spec.arm.model_copy(update={"generation": settings, "run": run})
    made = evaluation.model_copy(update={"spec": evaluation.spec.model_copy(update={"arm": arm})})
    answers: dict[str, dict[str, Any]] = {
        row["row_id"]: {
            "raw": row["output"],
            "seconds": 0.1,
            "finish": "length" if n < cut else "stop",
            "tokens_in": 5,
            "tokens_out": 9,
        }
        for n, row in enumerate(rows)
    }
    return finish(made, predictions_table([Question(row, [], []) for row in rows], answers, {}))


def test_an_evaluation_of_the_run_is_taken_only_with_the_same_settings(make_evaluation: Make) -> None:
    there = [answered(make_evaluation("short"), SHORT, "run-1"), answered(make_evaluation("other"), LONG, "run-2")]
    place: dict[str, Any] = {"dataset": "toy", "version": 1, "split": "test"}
    plan = quick_plan(TEMPLATE, "run-1", ModelRef(), there, generation=LONG, **place)
    assert plan.other is None
    assert plan.other_spec is not None
    assert plan.other_spec.arm.generation == plan.prompt.arm.generation == LONG
    assert plan.other_spec.limit == plan.prompt.limit == 20
    assert quick_plan(TEMPLATE, "run-1", ModelRef(), there, generation=SHORT, **place).other == "short"
    assert quick_plan(TEMPLATE, "run-2", ModelRef(), there, generation=LONG, **place).other == "other"


def test_arms_that_were_cut_off_at_other_lengths_are_told(make_evaluation: Make) -> None:
    answered(make_evaluation("short"), SHORT, None, cut=3)
    answered(make_evaluation("long"), LONG, None)
    (note,) = [text for text in compare(["short", "long"]).notes if "length" in text]
    assert note.endswith("Of 40 answers were cut off: 3 with short, at 16 tokens; 0 with long, at 128 tokens.")
    answered(make_evaluation("alike"), SHORT, None)
    assert not [text for text in compare(["short", "alike"]).notes if "length" in text]
    assert not [text for text in compare(["alike", "long"]).notes if "length" in text]  # nothing was cut off
