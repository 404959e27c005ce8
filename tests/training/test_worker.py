"""Trainings as jobs in real worker processes, through the command line."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path

import pytest

from core.__main__ import main
from core.jobs import queue
from core.jobs.submissions import prepare_training
from core.records import DatasetUse, ModelRef, TrainSpec
from core.store.files import is_complete
from core.store.jobs import get_job, log_tail, read_metrics
from core.store.runs import get_run, list_runs, run_folder, save_run
from tests.training.conftest import Keeper
from tests.training.test_runner import train


@pytest.fixture(autouse=True)
def quick_jobs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUNEWISE_HEARTBEAT_SECONDS", "0.2")
    monkeypatch.setenv("TUNEWISE_DEVICES", "cpu")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


def test_train_waits_and_prints_one_line_of_json(
    tiny: Path, people: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "spec.yaml"
    path.write_text(f"data: {people}\nmodel: {tiny}\nmethod: lora\nbatch_size: 4\n", encoding="utf-8")
    assert main(["train", str(path), "--set", "max_steps=3", "--wait", "--json"]) == 0
    output = capsys.readouterr()
    values = json.loads(output.out)
    assert output.out.count("\n") == 1
    assert (values["state"], values["steps"], values["trained_rows"]) == ("finished", 3, 40)
    assert "3 of 3 steps" in output.err
    run = get_run(values["run"])
    assert run.complete
    assert is_complete(run_folder(run.run_id) / "adapter")
    assert [row["step"] for row in read_metrics(values["job"])] == [1, 2, 3]
    assert "max_steps: 3" in (run_folder(run.run_id) / "spec.yaml").read_text("utf-8")
    assert main(["runs", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["runs"][0]["state"] == "finished"
    path.write_text("data: people\nepoch: 2\n", encoding="utf-8")
    assert main(["train", str(path)]) == 2
    assert "did you mean 'epochs'" in capsys.readouterr().err
    assert len(list_runs()) == 1


def test_kill_9_loses_only_the_steps_since_the_checkpoint_and_resume_gives_the_same_result(tiny: Path, people: str) -> None:
    import torch

    spec = TrainSpec(
        model=ModelRef(source="path", name=str(tiny)),
        data=(DatasetUse(dataset=people),),
        method="lora",
        batch_size=4,
        max_steps=30,
        save_every=5,
        lora_dropout=0.1,
        learning_rate=2e-3,
    )
    whole = Keeper()
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as the worker has
    whole_run = train(save_run(prepare_training(spec)), whole)
    torch.set_num_threads(threads)
    job, run = queue.enqueue_training(spec)
    end = time.monotonic() + 60
    while get_job(job.job_id).progress.done < 12 and time.monotonic() < end:
        time.sleep(0.02)
    pid = get_job(job.job_id).pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    assert queue.wait(job.job_id).state == "lost"
    assert not get_run(run.run_id).complete
    assert main(["resume", job.job_id, "--wait"]) == 0
    assert "going on from the checkpoint of step" in log_tail(job.job_id, 400)
    found = {row["step"]: row["loss"] for row in read_metrics(job.job_id)}
    assert found == pytest.approx(whole.losses, abs=1e-6)
    adapters = [run_folder(r.run_id) / "adapter" / "adapter_model.safetensors" for r in (whole_run, run)]
    assert adapters[0].read_bytes() == adapters[1].read_bytes()
