"""Judges, code tasks and texts as measurements: kept as they come, stopped, gone on with, queued with what they need."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from core.errors import InputFileError, ModelError, SpecError
from core.evaluation.measuring import run_measurement
from core.evaluation.runner import run_evaluation
from core.evaluation.sandbox import check_sandbox
from core.jobs import queue, worker
from core.jobs.measurements import prepare_measurement
from core.records import (
    CodeSpec,
    Evaluation,
    GenerationSettings,
    JudgeSpec,
    ModelRef,
    NamedEndpoint,
    SilentReporter,
    TextSpec,
)
from core.store.jobs import change_job, get_job
from core.store.measurements import get_measurement, list_measurements, save_measurement
from tests.evaluation.standin import StandIn
from tests.evaluation.test_evaluation_runner import StopAfter

TASKS = [
    {
        "task_id": f"t/{n}",
        "prompt": f"def add{n}(a, b):\n",
        "entry_point": f"add{n}",
        "test": f"def check(f):\n    assert f({n}, 2) == {n + 2}\n",
    }
    for n in range(6)
]


@pytest.fixture
def tasks(tmp_path: Path) -> str:
    path = tmp_path / "tasks.jsonl"
    path.write_text("".join(json.dumps(task) + "\n" for task in TASKS))
    return str(path)


@pytest.fixture
def judged(make_evaluation: Callable[..., Evaluation], engine: Callable[..., Any]) -> str:
    run_evaluation(make_evaluation("one"), SilentReporter(), engine())
    return "one"


def needs_sandbox() -> None:
    try:
        check_sandbox()
    except Exception as error:
        pytest.skip(str(error))


def test_code_is_stopped_and_gone_on_with(tiny: Path, tasks: str, engine: Callable[..., Any]) -> None:
    needs_sandbox()
    spec = CodeSpec(
        model=ModelRef(source="path", name=str(tiny)), problems=tasks, samples=2,
        generation=GenerationSettings(max_new_tokens=20, temperature=0.5), ks=(1, 2),
    )  # fmt: skip
    made = save_measurement(prepare_measurement(spec))
    assert made.name == f"tasks: {tiny.name}"
    first = engine(lambda prompt: "    return a + b" if "add3" not in prompt else "    return a - b")
    stopped = run_measurement(made, StopAfter(5), first)
    assert not stopped.complete
    assert len(first.prompts) == 5
    second = engine(first.answer)
    done = run_measurement(get_measurement(made.measurement_id), SilentReporter(), second)
    assert done.complete
    assert len(second.prompts) == 7
    assert done.result["samples"] == 12
    assert done.result["pass_at_k"]["1"] == pytest.approx(5 / 6)
    assert done.result["results"] == {"passed": 10, "AssertionError": 2}
    again = engine()
    assert run_measurement(done, SilentReporter(), again).result == done.result
    assert not again.prompts


def test_programs_that_ran_are_not_run_again(tasks: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    needs_sandbox()
    samples = tmp_path / "samples.jsonl"
    samples.write_text("".join(json.dumps({"task_id": t["task_id"], "completion": "    return a + b\n"}) + "\n" for t in TASKS))
    made = prepare_measurement(CodeSpec(problems=tasks, samples_file=str(samples), ks=(1,)))
    assert not run_measurement(made, StopAfter(2)).complete
    import core.evaluation.code as code

    real, ran = code.run_program, []
    monkeypatch.setattr(code, "run_program", lambda *a: (ran.append(1), real(*a))[1])
    done = run_measurement(made, SilentReporter())
    assert done.result["pass_at_k"] == {"1": 1.0}
    assert len(ran) <= 4


def test_texts(tmp_path: Path) -> None:
    from core.models.engine import Engine
    from core.models.load import load_model
    from tests.tiny import make_tiny_model

    model = ModelRef(source="path", name=str(make_tiny_model(tmp_path / "model")), dtype="float32")
    for name, text in (("a.txt", "张三于2021年3月5日加入公司。" * 40), ("b.txt", "Anna Berg joined Norvik Trading. " * 25)):
        (tmp_path / name).write_text(text, "utf-8")
    files = (str(tmp_path / "a.txt"), str(tmp_path / "b.txt"))
    made = prepare_measurement(TextSpec(files=files, model=model, window=24, stride=7))
    assert made.name == "perplexity of a.txt and 1 more: model (fp32)"
    with Engine(load_model(model, device="cpu")) as engine:
        whole = run_measurement(made, SilentReporter(), engine)
        other = prepare_measurement(TextSpec(files=files, model=model, window=24, stride=7))
        assert not run_measurement(other, StopAfter(3), engine).complete
        resumed = run_measurement(other, SilentReporter(), engine)
    assert resumed.result == whole.result
    assert whole.result["perplexity"] > 1


def test_a_judge_behind_an_endpoint_by_the_worker(
    judged: str, server: StandIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Queued, done by a worker in this process, read back; a second measurement asks nothing anew."""
    server.answer = lambda messages: '{"reason": "ok", "score": 4}'
    endpoint = NamedEndpoint(name="far", url=server.url, model="wise")
    spec = JudgeSpec(evaluations=(judged,), model=ModelRef(source="endpoint", name="far"), endpoint=endpoint, limit=7)
    monkeypatch.setattr(queue, "dispatch", lambda: [])
    job, made = queue.enqueue_measurement(spec)
    assert (job.kind, job.device) == ("measure", "network")
    change_job(job.job_id, state="starting", pid=None)
    monkeypatch.setattr(worker.signal, "signal", lambda *_: None)
    monkeypatch.setattr(worker, "dispatch", lambda: [])
    assert worker.main(job.job_id) == 0
    assert get_job(job.job_id).progress.done == 7
    done = get_measurement(made.measurement_id)
    assert done.result["mean"] == 4
    assert len(server.bodies) == 7
    again = run_measurement(prepare_measurement(spec), SilentReporter())
    assert again.result == done.result
    assert len(server.bodies) == 7
    assert [m.measurement_id for m in list_measurements("judge")][-1] == made.measurement_id


def test_what_is_missing_is_said_before(tmp_path: Path, judged: str) -> None:
    with pytest.raises(InputFileError, match="can't be read"):
        prepare_measurement(TextSpec(files=(str(tmp_path / "none.txt"),)))
    with pytest.raises(SpecError, match="rubric"):
        prepare_measurement(JudgeSpec(evaluations=(judged,), low=5, high=1))
    (tmp_path / "a.txt").write_text("a b")
    with pytest.raises(ModelError, match="behind an endpoint"):
        prepare_measurement(TextSpec(files=(str(tmp_path / "a.txt"),), model=ModelRef(source="endpoint", name="x")))
    needs_sandbox()
    with pytest.raises(SpecError, match="greedy"):
        prepare_measurement(CodeSpec(samples=3))
    with pytest.raises(InputFileError, match="no file"):
        prepare_measurement(CodeSpec(problems=str(tmp_path / "none.jsonl")))
