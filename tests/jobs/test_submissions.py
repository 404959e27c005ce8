"""What an evaluation is called: arms that differ in the number format of their model don't read alike."""

from __future__ import annotations

from pathlib import Path

import pytest

from core.jobs.submissions import prepare_evaluation, run_model
from core.records import Arm, EvaluationSpec, ModelRef
from core.store.runs import get_run, save_run
from tests.pages.filled import NAME, Filled, fill


@pytest.fixture
def filled(tmp_path: Path) -> Filled:
    return fill(tmp_path, evaluations=False)


@pytest.mark.parametrize(
    ("chosen", "told"),
    [
        ({}, ""),
        ({"quantisation": "nf4"}, " (nf4)"),
        ({"quantisation": "int8"}, " (int8)"),
        ({"dtype": "bfloat16"}, " (bf16)"),
        ({"dtype": "float16"}, " (fp16)"),
        ({"dtype": "float32", "quantisation": "nf4"}, " (nf4, fp32)"),
    ],
)
def test_a_label_tells_the_number_format_where_it_was_chosen(chosen: dict[str, str], told: str) -> None:
    model = ModelRef.model_validate({"source": "hub", "name": "org/模型-1B", **chosen})
    assert model.label == f"模型-1B{told}"


def test_a_prompt_on_a_quantised_model_is_called_otherwise(filled: Filled) -> None:
    def name(**arm: ModelRef) -> str:
        return prepare_evaluation(EvaluationSpec(dataset=NAME, split="test", arm=Arm(template="chat", **arm))).short_name

    assert name() == "SmolLM2-135M-Instruct, chat"
    assert name(model=ModelRef(quantisation="nf4")) == "SmolLM2-135M-Instruct (nf4), chat"


def test_a_run_asked_on_another_number_format_is_called_otherwise(filled: Filled) -> None:
    run = get_run(filled.run)
    own = run_model(run)

    def name(model: ModelRef) -> str:
        return prepare_evaluation(EvaluationSpec(dataset=NAME, split="test", arm=Arm(run=run.run_id, model=model))).short_name

    plain = prepare_evaluation(EvaluationSpec(dataset=NAME, split="test", arm=Arm(run=run.run_id))).short_name
    assert plain == name(own) == run.name
    assert name(own.model_copy(update={"quantisation": "nf4"})) == f"{run.name} (nf4)"
    assert name(own.model_copy(update={"dtype": "float32"})) == f"{run.name} (fp32)"
    four = run.model_copy(update={"run_id": "run-four", "spec": run.spec.model_copy(update={"method": "qlora"})})
    save_run(four)
    spec = EvaluationSpec(dataset=NAME, split="test", arm=Arm(run="run-four", model=run.spec.model))
    assert prepare_evaluation(spec).short_name == f"{run.name} (default number format)"
