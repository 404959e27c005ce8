"""An evaluation through the real engine on a tiny model: answers don't depend on the batch, perplexity is the model's loss."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import pytest

from core.evaluation import artefacts
from core.evaluation.questions import ask, load_rows
from core.evaluation.runner import run_evaluation
from core.records import Evaluation, ModelRef, SilentReporter


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> ModelRef:
    from tests.tiny import make_tiny_model

    return ModelRef(source="path", name=str(make_tiny_model(tmp_path_factory.mktemp("model"))), dtype="float32")


def on(model: ModelRef, evaluation: Evaluation) -> Evaluation:
    arm = evaluation.spec.arm.model_copy(update={"model": model})
    return evaluation.model_copy(update={"spec": evaluation.spec.model_copy(update={"arm": arm})})


def test_perplexity_and_answers(model: ModelRef, make_evaluation: Callable[..., Evaluation]) -> None:
    import torch

    from core.models.engine import Engine
    from core.models.load import load_model

    loaded = load_model(model, device="cpu")
    evaluation = on(model, make_evaluation(limit=7))
    with Engine(loaded) as engine:
        done = run_evaluation(evaluation, SilentReporter(), engine)
        questions = ask(evaluation, load_rows(evaluation)).questions
        predictions = artefacts.read_predictions("e-1")
        for question, raw in zip(questions, predictions["raw"].to_pylist(), strict=True):
            (alone,) = engine.generate([question.prompt], evaluation.spec.arm.generation, stop=())
            assert alone.text == raw
        nll, tokens = 0.0, 0
        for question in questions:
            ids = torch.tensor([[*question.prompt, *question.gold]])
            labels = ids.clone()
            labels[0, : len(question.prompt)] = -100
            with torch.inference_mode():
                nll += float(loaded.model(input_ids=ids, labels=labels).loss) * len(question.gold)
            tokens += len(question.gold)
    assert done.scores["perplexity"] == pytest.approx(math.exp(nll / tokens), rel=1e-5)
    assert predictions["tokens_in"].to_pylist() == [len(q.prompt) for q in questions]
    assert all(0 < n <= 32 for n in predictions["tokens_out"].to_pylist())
    assert set(predictions["finish"].to_pylist()) <= {"stop", "length"}


def test_engine_of_its_own_and_full_tuning(
    model: ModelRef, make_evaluation: Callable[..., Evaluation], workspace: Path, dataset: str
) -> None:
    import shutil

    from core.errors import UserError
    from core.records import DatasetUse, Run, TrainSpec
    from core.store.files import MANIFEST
    from core.store.runs import run_folder, save_run
    from tests.evaluation.toy import TEMPLATE

    spec = TrainSpec(model=model, data=(DatasetUse(dataset=dataset),), method="full")
    save_run(Run(run_id="run-1", name="full", spec=spec, template=TEMPLATE))
    evaluation = on(model, make_evaluation(limit=2))
    arm = evaluation.spec.arm.model_copy(update={"run": "run-1"})
    evaluation = evaluation.model_copy(update={"spec": evaluation.spec.model_copy(update={"arm": arm})})
    with pytest.raises(UserError, match="no finished result"):
        run_evaluation(evaluation, SilentReporter())
    folder = run_folder("run-1") / "model"
    shutil.copytree(model.name, folder)
    (folder / MANIFEST).write_text("{}")
    done = run_evaluation(evaluation, SilentReporter())
    assert done.complete
    assert done.scores["perplexity"] > 1
