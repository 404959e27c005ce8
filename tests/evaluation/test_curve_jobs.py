"""A learning curve is queued as trainings with an evaluation after each, once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from core.errors import SpecError
from core.evaluation.learning import curve_candidates, curve_trainings
from core.jobs import curve, dispatcher
from core.records import DatasetUse, Evaluation, ModelRef, Run, TrainSpec
from core.store.files import write_json
from core.store.jobs import change_job, get_job, list_jobs
from core.store.runs import get_evaluation, get_run, list_runs, run_folder, save_evaluation, save_run


@pytest.fixture
def launched(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Jobs that were started, without a worker."""
    monkeypatch.setenv("TUNEWISE_DEVICES", "cpu")
    started: list[str] = []
    monkeypatch.setattr(dispatcher, "_launch", lambda job, devices: started.append(job.job_id) or False)
    return started


def test_a_curve_is_queued_once(
    dataset: str, tiny: Path, make_evaluation: Callable[..., Evaluation], launched: list[str]
) -> None:
    model = ModelRef(source="path", name=str(tiny))
    spec = TrainSpec(
        name="all",
        model=model,
        template="chat@1",
        data=(DatasetUse(dataset=dataset, version=1),),
        method="lora",
        max_steps=8,
        learning_rate=1e-3,
    )
    from tests.evaluation.toy import TEMPLATE

    save_run(Run(run_id="run-1", name="all", spec=spec, template=TEMPLATE, trained_rows=24, complete=True))
    write_json(run_folder("run-1") / "adapter" / "manifest.json", {})
    evaluation = make_evaluation()
    with pytest.raises(SpecError, match="no training run"):
        save_evaluation(evaluation)
        curve.enqueue_curve("e-1")
    arm = evaluation.spec.arm.model_copy(update={"run": "run-1", "template": "chat"})
    evaluation = save_evaluation(evaluation.model_copy(update={"spec": evaluation.spec.model_copy(update={"arm": arm})}))
    with pytest.raises(SpecError, match="between 0 and 100"):
        curve.enqueue_curve("e-1", [1.5])
    pairs = curve.enqueue_curve("e-1")
    runs = [get_run(training.subject) for training, _ in pairs]
    assert [run.spec.data[0].limit for run in runs] == [6, 12]
    assert [run.spec.max_steps for run in runs] == [2, 4]
    for (training, asking), run in zip(pairs, runs, strict=True):
        assert get_job(asking.job_id).payload["after"] == training.job_id
        asked = get_evaluation(asking.subject)
        assert asked.spec.arm.run == run.run_id
        assert (asked.version, asked.spec.split, asked.spec.limit) == (1, "test", None)
    assert {job.job_id for job in curve.curve_jobs(evaluation)} <= {job.job_id for job in list_jobs()}
    assert len(curve.curve_jobs(evaluation)) >= 3  # one is being started
    assert curve.enqueue_curve("e-1") == []  # all is under way
    for run, (_, asking) in zip(runs, pairs, strict=True):
        save_run(run.model_copy(update={"trained_rows": run.spec.data[0].limit, "complete": True}))
        asked = get_evaluation(asking.subject)
        save_evaluation(asked.model_copy(update={"complete": True, "template": evaluation.template}))
    for job in curve.curve_jobs(evaluation):
        change_job(job.job_id, state="finished")
    assert curve.enqueue_curve("e-1") == []  # all is there
    assert len(list_runs()) == 3
    with pytest.raises(SpecError, match="one seed"):
        curve.enqueue_curve("e-1", seeds=0)
    more = [get_run(training.subject).spec for training, _ in curve.enqueue_curve("e-1", seeds=2)]
    assert [(spec.data[0].limit, spec.max_steps, spec.seed) for spec in more] == [(6, 2, 8), (12, 4, 8), (None, 8, 8)]
    assert [spec.name for spec in more] == ["all, 25% of the rows, seed 8", "all, 50% of the rows, seed 8", "all, seed 8"]
    assert curve.enqueue_curve("e-1", seeds=2) == []  # all is under way


def test_only_the_same_training_lies_on_a_curve(dataset: str, make_evaluation: Callable[..., Evaluation]) -> None:
    from tests.evaluation.toy import TEMPLATE

    base = TrainSpec(data=(DatasetUse(dataset=dataset, version=1),), method="lora", learning_rate=1e-3)
    specs = {
        "whole": base,
        "seed": base.model_copy(update={"seed": 8, "save_every": 5}),
        "half": base.model_copy(update={"data": (DatasetUse(dataset=dataset, version=1, limit=12),), "max_steps": 3}),
        "faster": base.model_copy(update={"learning_rate": 1e-2, "seed": 9}),
        "weighted": base.model_copy(update={"data": (DatasetUse(dataset=dataset, version=1, weight=2.0),), "seed": 10}),
    }
    runs, evaluations = [], []
    for name, spec in specs.items():
        rows = 12 if name == "half" else 24
        runs.append(Run(run_id=name, name=name, spec=spec, template=TEMPLATE, trained_rows=rows, complete=True))
        made = make_evaluation(f"e-{name}", complete=True)
        arm = made.spec.arm.model_copy(update={"run": name})
        evaluations.append(made.model_copy(update={"spec": made.spec.model_copy(update={"arm": arm})}))
    assert curve_trainings(evaluations[0], evaluations, runs) == {(24, 7): "e-whole", (24, 8): "e-seed", (12, 7): "e-half"}
    assert curve_candidates(evaluations[0], evaluations, runs) == [(12, "e-half"), (24, "e-seed"), (24, "e-whole")]
