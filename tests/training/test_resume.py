"""A run that is taken up again owes what a stop or a kill cut short: looks at dev, reports, its time; and no step more."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from core.errors import ModelError
from core.models.identity import identity
from core.records import DatasetUse, Run
from core.store.files import MANIFEST
from core.store.runs import get_run, run_folder, save_run
from core.training.checkpoints import all_checkpoints, last_checkpoint, seconds_of, step_of
from tests.tiny import make_tiny_model
from tests.training.conftest import Keeper
from tests.training.test_runner import make_run, script_looks, train


class StopsAtLook(Keeper):
    """Asks for a stop while dev is looked at after ``step``."""

    def __init__(self, step: int) -> None:
        super().__init__()
        self._step, self._asked = step, False

    def progress(self, done: int, total: int, *, unit: str = "rows", message: str = "", left: float | None = None) -> None:
        super().progress(done, total, unit=unit, message=message, left=left)
        self._asked = self._asked or (done == self._step and message.startswith("looking at dev"))

    def should_stop(self) -> bool:
        return self._asked


def looks_of(*keepers: Keeper) -> dict[int, float]:
    return {step: found["dev_loss"] for keeper in keepers for step, found in keeper.steps.items() if "dev_loss" in found}


def queued(tiny: Path, people: str, **values: Any) -> Run:
    dev = DatasetUse(dataset=people, split="dev")
    return make_run(tiny, people, dev=dev, eval_max_new_tokens=4, **{"eval_every": 2, "max_steps": 6} | values)


def test_a_look_that_is_stopped_twice_is_made_up_and_no_step_comes_before(tiny: Path, people: str) -> None:
    whole = Keeper()
    train(queued(tiny, people), whole)
    run = queued(tiny, people)
    first, second, third = StopsAtLook(2), StopsAtLook(2), Keeper()
    assert train(run, first).steps == 2
    run = train(get_run(run.run_id), second)  # stopped again, while the look is made up
    assert (run.steps, run.complete, last_checkpoint(run_folder(run.run_id) / "checkpoints").name) == (2, False, "checkpoint-2")  # type: ignore[union-attr]
    run = train(run, third)
    assert run.complete
    assert looks_of(first, second) == {}
    assert looks_of(third) == looks_of(whole)
    assert third.losses | first.losses == whole.losses


def test_a_stop_while_the_model_is_loaded_is_obeyed_before_a_step(tiny: Path, people: str) -> None:
    whole, none, first, again, rest = Keeper(), Keeper(stop_after=0), Keeper(stop_after=3), Keeper(stop_after=0), Keeper()
    train(queued(tiny, people), whole)
    run = queued(tiny, people)
    stopped = train(run, none)
    assert (stopped.steps, stopped.complete, none.steps) == (0, False, {})
    assert train(run, first).steps == 3
    stopped = train(get_run(run.run_id), again)
    assert (stopped.steps, stopped.complete) == (3, False)
    assert train(stopped, rest).complete
    assert first.losses | rest.losses == whole.losses
    assert looks_of(first, rest) == looks_of(whole)


def test_a_stop_in_the_last_look_leaves_it_to_a_resume(tiny: Path, people: str) -> None:
    whole = Keeper()
    wanted = train(queued(tiny, people, eval_every=None), whole)
    run = queued(tiny, people, eval_every=None)
    stopped = train(run, StopsAtLook(6))
    assert (stopped.complete, stopped.steps) == (False, 6)
    again = Keeper()
    run = train(stopped, again)
    assert (run.complete, run.steps) == (True, 6)
    assert looks_of(again) == looks_of(whole)
    assert run.summary["dev_loss"] == wanted.summary["dev_loss"]
    name = "adapter/adapter_model.safetensors"
    assert (run_folder(run.run_id) / name).read_bytes() == (run_folder(wanted.run_id) / name).read_bytes()


def test_patience_that_ends_with_a_look_made_up_ends_the_training_there(
    tiny: Path, people: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    script_looks(monkeypatch, [0.5, 0.4, 0.3, 0.2])
    run = queued(tiny, people, eval_every=1, patience=2, max_steps=20)
    train(run, Keeper(stop_after=3))  # before its third look
    run = train(get_run(run.run_id))
    assert (run.complete, run.steps, run.summary["best_step"]) == (True, 3, 1)


def test_a_resume_reports_what_a_killed_worker_could_not_and_keeps_its_time(tiny: Path, people: str) -> None:
    whole = Keeper()
    run = queued(tiny, people, save_every=2)
    first = train(run, whole)
    checkpoints = run_folder(run.run_id) / "checkpoints"
    folder = next(folder for folder in all_checkpoints(checkpoints) if step_of(folder) == 4)
    assert 0 < seconds_of(folder) < first.seconds
    manifest = folder / MANIFEST
    manifest.write_text(json.dumps(json.loads(manifest.read_text("utf-8")) | {"seconds": 1000.0}), encoding="utf-8")
    (checkpoints / "checkpoint-6" / MANIFEST).unlink()  # killed while it was written; nothing was told since step 1
    again = Keeper()
    run = train(run, again)
    assert run.complete
    assert again.losses == whole.losses
    assert looks_of(again) == looks_of(whole)
    assert 1000 < run.seconds < 1000 + 60
    manifest.write_text("{}", encoding="utf-8")
    assert seconds_of(folder) == 0  # one of an older version


def test_a_run_is_not_gone_on_with_on_another_model_in_the_same_folder(tmp_path: Path, people: str) -> None:
    base = make_tiny_model(tmp_path / "base")
    run = make_run(base, people)
    train(run, Keeper(stop_after=3))
    make_tiny_model(base, seed=1)
    with pytest.raises(ModelError, match="other weights in the same layers"):
        train(get_run(run.run_id))
    make_tiny_model(base)
    kept = get_run(run.run_id)
    save_run(kept.model_copy(update={"base": {}}))  # as older runs are
    make_tiny_model(base, seed=1)
    older = train(get_run(run.run_id))
    assert older.complete
    assert older.base == {}


def test_a_run_without_a_checkpoint_begins_on_the_model_that_is_there(tmp_path: Path, people: str) -> None:
    base = make_tiny_model(tmp_path / "base")
    run = make_run(base, people)
    train(run, Keeper(stop_after=0))
    assert last_checkpoint(run_folder(run.run_id) / "checkpoints") is None
    make_tiny_model(base, seed=1)
    assert train(get_run(run.run_id)).base == identity(base)
