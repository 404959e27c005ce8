"""Two processes on a CPU (gloo) train a run to the same losses as one, obey a stop, and tell the user's faults."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from core.errors import UserError
from core.store.files import is_complete
from core.store.runs import get_run, run_folder
from core.training import distributed
from tests.training.conftest import Keeper, keep, rows_table
from tests.training.test_runner import make_run, train


@pytest.fixture(autouse=True)
def one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")


def test_two_processes_train_like_one_also_over_a_stop(tiny: Path, people: str) -> None:
    values: dict[str, Any] = {"max_steps": 12, "lora_dropout": 0.0, "dtype": "float32", "batch_size": 4}
    whole = Keeper()
    train(make_run(tiny, people, **values), whole)
    run = make_run(tiny, people, {"gpus": 2}, **values)
    first = Keeper(stop_after=3)
    stopped = train(run, first)
    assert not stopped.complete
    assert 3 <= stopped.steps < 12
    second = Keeper()
    alone = get_run(run.run_id)  # one process goes on where two left off
    done = train(alone.model_copy(update={"spec": alone.spec.model_copy(update={"gpus": 1})}), second)
    assert done.complete
    assert is_complete(run_folder(run.run_id) / "adapter")
    assert {**first.losses, **second.losses} == pytest.approx(whole.losses, rel=1e-4)


@pytest.mark.parametrize("rows", [13, 16])  # to train on: 11, and 14 of which the second process gets none in the last step
def test_two_processes_see_each_row_once_an_epoch_also_after_a_stop_in_the_second(tiny: Path, workspace: Path, rows: int) -> None:
    keep("few", rows_table(rows))
    values: dict[str, Any] = {"max_steps": None, "epochs": 3.0, "dtype": "float32", "batch_size": 4, "save_every": 1}
    whole, first, second = Keeper(), Keeper(stop_after=4), Keeper()
    train(make_run(tiny, "few", **values), whole)
    run = make_run(tiny, "few", {"gpus": 2}, **values)
    assert 4 <= train(run, first).steps < len(whole.losses)
    assert train(get_run(run.run_id), second).complete
    assert {**first.losses, **second.losses} == pytest.approx(whole.losses, rel=1e-4)


def test_rows_of_all_processes_are_named_where_the_loss_is_not_a_number(tiny: Path, people: str, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    broken = Path(shutil.copytree(tiny, tmp_path / "broken"))
    weights = load_file(broken / "model.safetensors")
    weights["model.norm.weight"].fill_(float("nan"))
    save_file(weights, broken / "model.safetensors", {"format": "pt"})
    with pytest.raises(UserError, match="At step 1 the loss is not a number; the rows of the step: ") as caught:
        train(make_run(broken, people, {"gpus": 2}, dtype="float32", batch_size=4))
    assert len(set(re.findall(r"r-\d{4}", caught.value.message))) == 4


def test_a_fault_of_the_user_in_a_process_reaches_the_worker(
    tiny: Path, people: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = make_run(tiny, people, {"gpus": 2, "max_length": 8})
    monkeypatch.setenv("TUNEWISE_LAUNCHED_BY", str(os.getpid()))
    monkeypatch.setenv("RANK", "0")
    assert distributed.main(run.run_id) == 1
    keeper = Keeper()
    faults = [distributed._hear(line, keeper) for line in ("a library's line", *capsys.readouterr().out.splitlines())]
    assert faults[-1] is not None
    assert "No row is left" in faults[-1]["message"]
    assert "a library's line" in keeper.lines
    monkeypatch.setenv("RANK", "1")
    assert distributed.main(run.run_id) == 1
    [line] = capsys.readouterr().out.splitlines()  # it may be the only one that has it; all else is said by the first
    assert distributed._hear(line, keeper) == faults[-1]
    distributed.say_beside("out of memory at step 3")
    distributed._hear(capsys.readouterr().out.rstrip(), keeper)
    assert keeper.lines[-1] == "process 1: out of memory at step 3"


def test_a_killed_worker_that_nobody_asked_after_counts_as_gone() -> None:
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"]) as worker:
        assert distributed._lives(worker.pid)
        worker.kill()
        os.waitid(os.P_PID, worker.pid, os.WEXITED | os.WNOWAIT)  # dead, and still in the table
        assert not distributed._lives(worker.pid)
    assert not distributed._lives(worker.pid)
