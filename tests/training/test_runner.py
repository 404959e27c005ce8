"""Trainings on a tiny model: every method learns, a stop and a resume change nothing, faults are told."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from core.errors import UserError
from core.jobs.submissions import prepare_training
from core.records import DatasetUse, ModelRef, Run, TrainSpec
from core.store.files import is_complete
from core.store.runs import get_run, run_folder, save_run
from core.training.checkpoints import all_checkpoints, last_checkpoint, step_of
from tests.training.conftest import Keeper, keep, rows_table


def make_run(model: Path, dataset: str, unchecked: Mapping[str, Any] | None = None, **values: Any) -> Run:
    """A queued run with quick defaults. ``unchecked``: settings that it gets after its spec was found to be sound."""
    settings: dict[str, Any] = {"max_steps": 6, "batch_size": 4, "save_every": 3, "learning_rate": 5e-3, "method": "lora"}
    reference = ModelRef(source="path", name=str(model), dtype=values.pop("dtype", "auto"))
    run = prepare_training(TrainSpec(model=reference, data=(DatasetUse(dataset=dataset),), **(settings | values)))
    return save_run(run.model_copy(update={"spec": run.spec.model_copy(update=unchecked or {})}))


def train(run: Run, keeper: Keeper | None = None) -> Run:
    from core.training.runner import run_training

    return run_training(run, keeper or Keeper())


@pytest.mark.parametrize("method", ["lora", "qlora", "full"])
def test_every_method_learns_and_leaves_a_whole_result(tiny: Path, people: str, method: str) -> None:
    keeper = Keeper()
    run = train(make_run(tiny, people, method=method, max_steps=25, save_every=20), keeper)
    assert run.complete
    assert get_run(run.run_id) == run
    assert (run.steps, run.trained_rows, run.dropped_rows) == (25, 40, 0)
    first, last = [sum(keeper.losses[step] for step in steps) / 3 for steps in ((1, 2, 3), (23, 24, 25))]
    assert last < 0.8 * first
    assert {"loss", "grad_norm", "learning_rate", "tokens_per_second"} <= keeper.steps[25].keys()
    folder = run_folder(run.run_id) / ("model" if method == "full" else "adapter")
    assert is_complete(folder)
    card = (folder / "README.md").read_text("utf-8")
    assert "people, version 1" in card
    assert "max_steps: 25" in card
    weights = folder / ("model.safetensors" if method == "full" else "adapter_model.safetensors")
    assert weights.is_file()
    if method != "full":
        from safetensors import safe_open

        with safe_open(weights, "pt") as opened:
            assert all("lora_" in name for name in opened.keys())  # noqa: SIM118


def test_the_adapter_is_loaded_by_the_engine_and_has_learnt(tiny: Path, people: str) -> None:
    from core.models.engine import Engine
    from core.models.load import load_model

    run = train(make_run(tiny, people, max_steps=25))
    engine = Engine(load_model(run.spec.model))
    engine.attach(run.run_id, run_folder(run.run_id) / "adapter")
    from core.prompts.examples import answer_ids, prompt_ids

    row = rows_table(1).to_pylist()[0]
    prompt = [prompt_ids(run.template, row, tokenizer=engine.tokenizer)]
    answer = [answer_ids(run.template, row, tokenizer=engine.tokenizer)]
    with engine:
        assert engine.score(prompt, answer, adapter=run.run_id)[0][0] < 0.8 * engine.score(prompt, answer)[0][0]


@pytest.mark.parametrize("method", ["lora", "qlora"])
def test_a_stopped_run_goes_on_to_the_same_losses(tiny: Path, people: str, method: str) -> None:
    values = {"max_steps": 14, "method": method, "lora_dropout": 0.2, "save_every": 100}  # 10 steps an epoch
    whole = Keeper()
    train(make_run(tiny, people, **values), whole)
    run = make_run(tiny, people, **values)
    first = Keeper(stop_after=4)
    stopped = train(run, first)
    assert not stopped.complete
    assert stopped.steps == 4
    assert last_checkpoint(run_folder(run.run_id) / "checkpoints") is not None
    second = Keeper(stop_after=12)
    assert train(stopped, second).steps == 12
    third = Keeper()
    assert train(get_run(run.run_id), third).complete
    pieces = {**first.losses, **second.losses, **third.losses}
    assert sorted(pieces) == sorted(whole.losses) == list(range(1, 15))
    for step, loss in whole.losses.items():
        assert pieces[step] == pytest.approx(loss, abs=1e-6), step


def test_a_half_written_checkpoint_is_not_resumed_from(tiny: Path, people: str) -> None:
    run = make_run(tiny, people, max_steps=6, save_every=2, keep_checkpoints=3)
    train(run, Keeper(stop_after=4))
    folder = run_folder(run.run_id) / "checkpoints"
    (folder / "checkpoint-4" / "manifest.json").unlink()
    (folder / "checkpoint-5").mkdir()
    keeper = Keeper()
    train(run, keeper)
    assert "going on from the checkpoint of step 2" in keeper.lines
    assert sorted(step for step, values in keeper.steps.items() if "tokens_per_second" in values) == [3, 4, 5, 6]


def test_each_row_is_seen_once_an_epoch_also_over_a_resume(tiny: Path, people: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from core.training import trainer

    seen: list[str] = []
    original = trainer.StepTrainer._passes

    def spy(self: Any, model: Any, examples: Any, learnt: float) -> Any:
        seen.extend(example.row_id for example in examples)
        return original(self, model, examples, learnt)

    monkeypatch.setattr(trainer.StepTrainer, "_passes", spy)
    run = make_run(tiny, people, max_steps=None, epochs=1, batch_size=7)
    train(run, Keeper(stop_after=3))
    assert train(run).steps == 6
    assert sorted(seen) == [f"r-{n:04d}" for n in range(48) if n % 6 != 5]


def test_dropped_and_shortened_rows_are_counted_and_named(tiny: Path, workspace: Path) -> None:
    name = keep("long", rows_table(24, long_every=4))
    keeper = Keeper()
    run = train(make_run(tiny, name, max_length=256, max_steps=1), keeper)
    assert (run.trained_rows, run.dropped_rows) == (14, 6)
    lines = (run_folder(run.run_id) / "dropped.jsonl").read_text("utf-8").splitlines()
    assert {json.loads(line)["row_id"] for line in lines} == {f"r-{n:04d}" for n in (0, 4, 8, 12, 16, 20)}
    assert any("r-0004" in line and "tokens" in line for line in keeper.lines)
    shortened = train(make_run(tiny, name, max_length=256, max_steps=1, overflow="shorten_input"))
    assert shortened.dropped_rows == 0
    assert shortened.summary["shortened_rows"] == 6


def test_rows_longer_than_the_model_reads_are_left_out_and_named_whatever_max_length_says(
    tiny: Path, workspace: Path, tmp_path: Path
) -> None:
    small = Path(shutil.copytree(tiny, tmp_path / "small"))
    config = json.loads((small / "config.json").read_text("utf-8")) | {"max_position_embeddings": 400}
    (small / "config.json").write_text(json.dumps(config), encoding="utf-8")
    keeper, dataset = Keeper(), keep("long", rows_table(24, long_every=5))
    dev = DatasetUse(dataset=dataset, split="dev")
    values: dict[str, Any] = {"max_steps": 1, "max_length": 4096, "dev": dev, "eval_max_new_tokens": 2}
    run = train(make_run(small, dataset, **values), keeper)  # the look would have failed on the long row
    assert (run.complete, run.dropped_rows) == (True, 4)
    assert any("more than 399" in line for line in keeper.lines)
    assert "dev: 3 rows are looked at, 1 longer than max_length are left out" in keeper.lines
    shortened = train(make_run(small, dataset, overflow="shorten_input", **values))
    assert (shortened.dropped_rows, shortened.summary["shortened_rows"]) == (0, 4)
    with pytest.raises(UserError, match="fits into the 399 tokens that the model reads"):
        make_run(small, keep("only", rows_table(12, long_every=1)), max_length=4096)


def test_dev_rows_that_are_too_long_are_counted_in_the_log(tiny: Path, workspace: Path) -> None:
    keeper, dataset = Keeper(), keep("long", rows_table(24, long_every=5))
    dev = DatasetUse(dataset=dataset, split="dev")
    train(make_run(tiny, dataset, max_steps=1, max_length=400, dev=dev, eval_max_new_tokens=2), keeper)
    assert "dev: 3 rows are looked at, 1 longer than max_length are left out" in keeper.lines


def test_no_row_left_is_the_users_fault(tiny: Path, people: str) -> None:
    with pytest.raises(UserError, match="No row is left"):
        train(make_run(tiny, people, {"max_length": 8}))


def test_out_of_memory_halves_the_pass_and_keeps_the_result(tiny: Path, people: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    from core.training import trainer

    values: dict[str, Any] = {"max_steps": 4, "lora_dropout": 0.0, "batch_size": 8, "dtype": "float32"}
    whole = Keeper()
    train(make_run(tiny, people, **values), whole)

    original = trainer.Head.loss_sum

    def small(head: Any, model: Any, inputs: Any, targets: Any) -> Any:
        if len(targets) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return original(head, model, inputs, targets)

    monkeypatch.setattr(trainer.Head, "loss_sum", small)
    keeper = Keeper()
    train(make_run(tiny, people, **values), keeper)
    assert sum("out of memory" in line for line in keeper.lines) == 2  # 8, 4, 2, once and for all
    assert keeper.losses == pytest.approx(whole.losses, rel=1e-5)


def test_out_of_memory_first_takes_the_room_of_unpacked_weights(tiny: Path, people: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    from core.training import trainer

    kept: list[Any] = []
    whole, keeper = Keeper(), Keeper()
    values: dict[str, Any] = {"max_steps": 3, "lora_dropout": 0.0, "batch_size": 8, "dtype": "float32"}
    train(make_run(tiny, people, **values), whole)
    monkeypatch.setattr(trainer.fuse_what_holds.__globals__["Fused"], "keep", lambda self, *_: kept.append(self) or 0)
    monkeypatch.setattr(trainer.fuse_what_holds.__globals__["Fused"], "let_go", lambda self: bool(kept) and bool(kept.pop()))
    original = trainer.Head.loss_sum

    def short_of_memory(head: Any, *arguments: Any) -> Any:
        if kept:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return original(head, *arguments)

    monkeypatch.setattr(trainer.Head, "loss_sum", short_of_memory)
    train(make_run(tiny, people, **values), keeper)
    said = [line for line in keeper.lines if "out of memory" in line]
    assert len(said) == 1
    assert "unpacked anew" in said[0]
    assert keeper.losses == pytest.approx(whole.losses, rel=1e-5)


def test_inputs_of_recomputed_layers_may_wait_in_the_host_s_memory(
    tiny: Path, people: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a GPU with little memory."""
    from core.training import runner
    from core.training.offload import LayerInputs

    values: dict[str, Any] = {"max_steps": 3, "batch_size": 8, "dtype": "float32", "gradient_checkpointing": True}
    here, there = Keeper(), Keeper()
    train(make_run(tiny, people, **values), here)
    made: list[LayerInputs] = []

    def away(loaded: Any, plan: Any) -> LayerInputs:
        width = loaded.model.config.hidden_size
        made.append(LayerInputs(loaded.device, width, 10**7, loaded.dtype, least=1))
        return made[0]

    monkeypatch.setattr(runner, "_away", away)
    train(make_run(tiny, people, **values), there)
    assert len(made[0]._away) >= 2
    assert there.losses == pytest.approx(here.losses, rel=1e-6)


def test_a_loss_that_is_not_a_number_stops_with_step_and_rows(tiny: Path, people: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from core.training import trainer

    original = trainer.Head.loss_sum
    calls: list[int] = []

    def broken(head: Any, model: Any, inputs: Any, targets: Any) -> Any:
        calls.append(1)
        return original(head, model, inputs, targets) * (float("nan") if len(calls) > 4 else 1.0)

    monkeypatch.setattr(trainer.Head, "loss_sum", broken)
    run = make_run(tiny, people, micro_batch_size=2, save_every=1)
    with pytest.raises(UserError, match=r"At step 3 the loss is not a number; the rows of the step: r-\d+"):
        train(run)
    last = last_checkpoint(run_folder(run.run_id) / "checkpoints")
    assert last is not None
    assert step_of(last) == 2


def script_looks(monkeypatch: pytest.MonkeyPatch, scores: list[float]) -> None:
    """Looks at dev that find these scores, one after another."""
    from core.training import callbacks

    left = iter(scores)

    def look(_loaded: Any, dev: Any, _tokens: int, _reporter: Any) -> tuple[dict[str, float], list[str]]:
        score = next(left)
        return {"loss": 1 - score, "micro_f1": score, "exact_match": score}, [f"answer {score}"] * len(dev.rows)

    monkeypatch.setattr(callbacks, "look", look)


def test_the_best_checkpoint_is_kept_and_taken(tiny: Path, people: str, monkeypatch: pytest.MonkeyPatch) -> None:
    script_looks(monkeypatch, [0.2, 0.7, 0.6, 0.7])
    keeper = Keeper()
    values = {"dev": DatasetUse(dataset=people, split="dev"), "eval_every": 2, "keep_checkpoints": 1, "save_every": 100}
    run = train(make_run(tiny, people, max_steps=8, **values), keeper)
    assert {step: found["dev_micro_f1"] for step, found in keeper.steps.items() if "dev_loss" in found} == {
        2: 0.2,
        4: 0.7,
        6: 0.6,
        8: 0.7,
    }
    assert (run.summary["best_step"], run.summary["dev_micro_f1"]) == (4, 0.7)
    folder = run_folder(run.run_id)
    assert {step_of(c) for c in all_checkpoints(folder / "checkpoints")} == {4, 8}
    taken = (folder / "adapter" / "adapter_model.safetensors").read_bytes()
    assert taken == (folder / "checkpoints" / "checkpoint-4" / "adapter_model.safetensors").read_bytes()
    samples = [json.loads(line) for line in (folder / "samples.jsonl").read_text("utf-8").splitlines()]
    assert [sample["prediction"] for sample in samples[::8]] == [f"answer {score}" for score in (0.2, 0.7, 0.6, 0.7)]


def test_the_best_checkpoint_may_be_chosen_by_loss_or_another_score(
    tiny: Path, people: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from core.training import callbacks

    def script(values: list[tuple[float, float]]) -> None:
        left = iter(values)

        def look(_loaded: Any, dev: Any, _tokens: int, _reporter: Any) -> tuple[dict[str, float], list[str]]:
            loss, recall = next(left)
            return {"loss": loss, "micro_f1": 0.1, "exact_match": 0.1, "recall": recall}, [""] * len(dev.rows)

        monkeypatch.setattr(callbacks, "look", look)

    values: dict[str, Any] = {"dev": DatasetUse(dataset=people, split="dev"), "eval_every": 1, "patience": 2, "max_steps": 9}
    looks = [(0.9, 0.1), (0.5, 0.3), (0.6, 0.4), (0.7, 0.2), (0.8, 0.1)]
    for metric, best, steps in (("loss", 2, 4), ("recall", 3, 5)):
        script(looks)
        run = train(make_run(tiny, people, best_metric=metric, **values))
        assert (run.summary["best_step"], run.steps, run.complete) == (best, steps, True)


def test_of_looks_with_the_same_score_the_lower_loss_is_the_better(
    tiny: Path, people: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from core.training import callbacks

    left = iter([(2.0, 0.0), (1.5, 0.0), (1.2, 0.0), (1.3, 0.0), (1.4, 0.0)])

    def look(_loaded: Any, dev: Any, _tokens: int, _reporter: Any) -> tuple[dict[str, float], list[str]]:
        loss, score = next(left)
        return {"loss": loss, "micro_f1": score}, [""] * len(dev.rows)

    monkeypatch.setattr(callbacks, "look", look)
    dev = DatasetUse(dataset=people, split="dev")
    run = train(make_run(tiny, people, dev=dev, eval_every=1, patience=2, max_steps=9))
    assert (run.summary["best_step"], run.steps) == (3, 5)
    assert run.summary["look_seconds"] > 0


def test_a_look_at_dev_says_that_it_is_one(tiny: Path, people: str, monkeypatch: pytest.MonkeyPatch) -> None:
    script_looks(monkeypatch, [0.2, 0.7])
    said: list[tuple[int, int, str]] = []

    class Told(Keeper):
        def progress(self, done: int, total: int, *, unit: str = "rows", message: str = "", left: float | None = None) -> None:
            said.append((done, total, message))

    train(make_run(tiny, people, dev=DatasetUse(dataset=people, split="dev"), eval_every=2, max_steps=4), Told())
    assert [(done, total) for done, total, message in said if message.startswith("looking at dev")] == [(2, 4), (4, 4)]


def test_the_time_left_holds_the_looks_at_dev_still_to_come(tiny: Path, people: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from core.training import callbacks, runner

    def look(loaded: Any, dev: Any, most: int, reporter: Any) -> tuple[dict[str, float], list[str]]:
        time.sleep(0.8)
        return {"loss": 1.0, "micro_f1": 0.5}, [""] * len(dev.rows)

    monkeypatch.setattr(callbacks, "look", look)
    monkeypatch.setattr(runner, "one_look", lambda *_: 5.0)
    keeper = Keeper()
    train(make_run(tiny, people, dev=DatasetUse(dataset=people, split="dev"), eval_every=2, max_steps=6), keeper)
    left = {(done, message.startswith("looking")): seconds for done, message, seconds in keeper.left}
    assert left[0, False] is None  # nothing is known before the first step
    assert 15 <= left[1, False] < 20  # three looks, as long as was expected
    assert 15 <= left[2, True] < 20
    assert 2 * 0.8 <= left[2, False] < 2 * 0.8 + 3  # two more, as long as the first one was
    assert 2 * 0.8 <= left[3, False] < 2 * 0.8 + 3
    assert 0.8 <= left[5, False] < 0.8 + 3
    assert 0.8 <= left[6, True] < 0.8 + 1


def test_dev_scores_reach_other_trackers_and_no_logged_loss_is_lost(
    tiny: Path, people: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import transformers.integrations.integration_utils as integrations
    from transformers import TrainerCallback

    from core.training import limits

    heard: list[dict[str, float]] = []

    class Tracker(TrainerCallback):
        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
            heard.append({"step": state.global_step, **logs})

    monkeypatch.setitem(integrations.INTEGRATION_TO_CALLBACK, "trackio", Tracker)
    monkeypatch.setattr(limits, "find_spec", lambda package: object())
    script_looks(monkeypatch, [0.2, 0.3])
    keeper = Keeper()
    dev = DatasetUse(dataset=people, split="dev")
    train(make_run(tiny, people, max_steps=4, dev=dev, eval_every=2, report_to=("trackio",)), keeper)
    assert [(entry["step"], entry["eval_micro_f1"]) for entry in heard if "eval_micro_f1" in entry] == [(2, 0.2), (4, 0.3)]
    assert [entry["step"] for entry in heard if "loss" in entry] == [1, 2, 3, 4]
    assert sorted(keeper.losses) == [1, 2, 3, 4]


def test_the_kept_spec_trains_the_same_run_again(tiny: Path, people: str) -> None:
    from core.training.spec import load_spec

    first, second = Keeper(), Keeper()
    run = train(make_run(tiny, people, max_steps=4, lora_dropout=0.3, learning_rate=None, name="one"), first)
    again = save_run(prepare_training(load_spec(run_folder(run.run_id) / "spec.yaml")))
    assert again.run_id != run.run_id
    train(again, second)
    assert second.losses == first.losses
    adapters = [run_folder(r.run_id) / "adapter" / "adapter_model.safetensors" for r in (run, again)]
    assert adapters[0].read_bytes() == adapters[1].read_bytes()


def test_noise_on_embeddings_changes_the_training_and_not_the_looks(tiny: Path, people: str) -> None:
    plain, noisy = Keeper(), Keeper()
    values: dict[str, Any] = {"max_steps": 2, "lora_dropout": 0.0, "dtype": "float32"}
    train(make_run(tiny, people, **values), plain)
    train(make_run(tiny, people, neftune_alpha=20.0, **values), noisy)
    assert abs(noisy.losses[1] - plain.losses[1]) > 1e-3
    dev = DatasetUse(dataset=people, split="dev")
    found = []
    for alpha in (None, 20.0):  # the same untrained weights: learning_rate is next to nothing
        keeper = Keeper()
        train(
            make_run(tiny, people, neftune_alpha=alpha, dev=dev, eval_max_new_tokens=4, **(values | {"learning_rate": 1e-12})),
            keeper,
        )
        found.append(keeper.steps[2]["dev_loss"])
    assert found[0] == pytest.approx(found[1], rel=1e-5)


def test_patience_ends_a_training_also_over_a_resume(tiny: Path, people: str, monkeypatch: pytest.MonkeyPatch) -> None:
    script_looks(monkeypatch, [0.5, 0.4, 0.3, 0.2, 0.1])
    values = {"dev": DatasetUse(dataset=people, split="dev"), "eval_every": 1, "patience": 3}
    run = make_run(tiny, people, max_steps=20, **values)
    train(run, Keeper(stop_after=3))
    run = train(run)
    assert run.complete
    assert run.summary["best_step"] == 1
    assert run.steps == 4


def test_a_look_at_dev_does_not_change_the_training(tiny: Path, people: str) -> None:
    values = {"max_steps": 5, "method": "qlora", "lora_dropout": 0.1}
    without, with_looks = Keeper(), Keeper()
    train(make_run(tiny, people, **values), without)
    dev = DatasetUse(dataset=people, split="dev")
    run = train(make_run(tiny, people, dev=dev, eval_every=2, eval_max_new_tokens=4, **values), with_looks)
    assert with_looks.losses == without.losses
    looks = {step: found for step, found in with_looks.steps.items() if "dev_loss" in found}
    assert sorted(looks) == [2, 4, 5]
    assert looks[5]["dev_loss"] < looks[2]["dev_loss"]
    samples = [json.loads(line) for line in (run_folder(run.run_id) / "samples.jsonl").read_text("utf-8").splitlines()]
    assert len(samples) == 3 * 8
    assert all(sample["prediction"] for sample in samples)


def test_a_run_that_was_killed_after_its_last_step_is_finished_by_a_resume(tiny: Path, people: str) -> None:
    first = train(make_run(tiny, people, max_steps=6, save_every=2))
    adapter = run_folder(first.run_id) / "adapter" / "adapter_model.safetensors"
    weights = adapter.read_bytes()
    killed = save_run(first.model_copy(update={"complete": False, "summary": {}, "steps": 0}))  # before its record was written
    keeper = Keeper()
    run = train(killed, keeper)
    assert run.complete
    assert run.steps == 6
    assert not any("tokens_per_second" in values for values in keeper.steps.values())
    assert run.summary["loss"] == pytest.approx(first.summary["loss"])
    assert adapter.read_bytes() == weights


def test_a_finished_run_is_not_trained_again(tiny: Path, people: str) -> None:
    run = train(make_run(tiny, people, max_steps=1))
    shutil.rmtree(run_folder(run.run_id) / "checkpoints")
    assert train(run) == run


def test_weights_say_how_often_rows_are_seen(tiny: Path, people: str) -> None:
    from core.models.tokenizer import load_tokenizer
    from core.training.data import training_data

    run = make_run(tiny, people)
    tokenizer = load_tokenizer(run.spec.model)

    def seen(weight: float) -> int:
        spec = run.spec.model_copy(update={"data": (DatasetUse(dataset=people, weight=weight),)})
        return len(training_data(spec, run.template, tokenizer).examples)

    assert [seen(w) for w in (1, 2, 0.5, 1.25, 0.001)] == [40, 80, 20, 50, 1]


def test_switches_of_lora_train_and_answer(tiny: Path, people: str) -> None:
    from core.models.engine import Engine
    from core.models.load import load_model
    from core.records import GenerationSettings

    keeper = Keeper()
    values = {"use_dora": True, "use_rslora": True, "neftune_alpha": 5.0, "target_modules": ("q_proj", "down_proj")}
    run = train(make_run(tiny, people, max_steps=15, **values), keeper)
    assert keeper.losses[15] < keeper.losses[1]
    config = json.loads((run_folder(run.run_id) / "adapter" / "adapter_config.json").read_text("utf-8"))
    assert (config["use_dora"], config["use_rslora"]) == (True, True)
    assert sorted(config["target_modules"]) == ["down_proj", "q_proj"]
    with Engine(load_model(run.spec.model)) as engine:
        engine.attach(run.run_id, run_folder(run.run_id) / "adapter")
        assert engine.generate([[5, 6, 7]], GenerationSettings(max_new_tokens=3), adapter=run.run_id)[0].tokens > 0


@pytest.mark.parametrize(
    ("values", "message"),
    [({"target_modules": ("x_proj",)}, "x_proj can't be tuned"), ({"optimizer": "adamw_8bit"}, "needs a GPU")],
)
def test_what_a_model_or_a_machine_cannot_do_is_told(tiny: Path, people: str, values: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        train(make_run(tiny, people, values))


def test_a_look_at_dev_leaves_the_gradients_of_4_bit_layers_as_they_were(tiny: Path, people: str) -> None:
    import torch

    from core.training.attention import choose_attention
    from core.training.dev import dev_rows, look
    from core.training.loss import Head, packed_batch
    from core.training.prepare import load_for_training

    run = make_run(tiny, people, method="qlora", lora_dropout=0.0, dev=DatasetUse(dataset=people, split="dev"))
    loaded = load_for_training(run.spec)
    choose_attention(loaded, 100, None)
    for name, parameter in loaded.model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.1)
    from core.prompts.examples import Example
    from core.training.data import examples_of

    examples = [e for e in examples_of(run.spec.data[0], run.spec, run.template, loaded.tokenizer) if isinstance(e, Example)]
    head = Head(loaded.model)

    def gradients() -> list[torch.Tensor]:
        loaded.model.zero_grad()
        head.loss_sum(loaded.model, *packed_batch(examples[:4], "cpu", borders=False)).backward()
        return [p.grad.clone() for p in loaded.model.parameters() if p.requires_grad]

    before = gradients()
    assert run.spec.dev is not None
    found = look(loaded, dev_rows(run.spec.dev, run.spec, run.template, loaded.tokenizer), 8, Keeper())
    assert found is not None
    after = gradients()
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))
    assert any(float(g.norm()) > 0 for g in before)


def test_page_and_worker_say_the_same_memory(tiny: Path, workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from core.training import runner
    from core.training.estimate import MemoryPlan, estimate_spec

    plans: list[MemoryPlan] = []

    def kept(*arguments: Any) -> MemoryPlan:
        plans.append(plan(*arguments))
        return plans[-1]

    plan = runner.plan_training
    monkeypatch.setattr(runner, "plan_training", kept)
    name = keep("uneven", rows_table(24, long_every=6))
    run = make_run(tiny, name, max_steps=1, max_length=1500, overflow="shorten_input", batch_size=4)
    said = estimate_spec(run.spec, "cpu")[0].memory
    train(run)
    [found] = plans
    assert (found.total, found.activations, found.pass_tokens) == (said.total, said.activations, said.pass_tokens)
    assert found.pass_tokens > 1000  # the pass that holds a long row, which makes the peak, and not the mean one


@pytest.mark.parametrize(
    ("method", "device", "dtype", "said"),
    [
        ("qlora", "cpu", "bfloat16", "QLoRA on the processor, weights in 4 bits, calculated in 16 bits (bfloat16)"),
        ("lora", "cuda:1", "float16", "LoRA on GPU 1, weights in 16 bits (float16)"),
        ("full", "cpu", "float32", "Full fine-tuning on the processor, weights in 32 bits (float32)"),
    ],
)
def test_the_log_says_method_device_and_format_in_words(method: Any, device: str, dtype: str, said: str) -> None:
    import torch

    from core.models.load import LoadedModel
    from core.training.runner import said_method

    spec = TrainSpec(data=(DatasetUse(dataset="d"),), method=method)
    loaded = LoadedModel(spec.model, Path(), None, None, torch.device(device), getattr(torch, dtype))  # type: ignore[arg-type]
    assert said_method(spec, loaded) == said


@pytest.mark.parametrize(
    ("device", "weights", "card", "scaled"),
    [
        ("cuda", "float32", "float16", True),  # full fine-tuning on a card without bf16
        ("cuda", "float16", "float16", True),
        ("cuda", "float16", "bfloat16", True),  # a base that was asked for in float16
        ("cuda", "float32", "bfloat16", False),
        ("cuda", "bfloat16", "bfloat16", False),
        ("cpu", "float16", "float16", False),
    ],
)
def test_gradients_are_scaled_wherever_float16_takes_part_on_a_gpu(
    monkeypatch: pytest.MonkeyPatch, device: str, weights: str, card: str, scaled: bool
) -> None:
    import torch

    from core.models.load import LoadedModel
    from core.training import prepare
    from core.training.runner import scales_gradients

    monkeypatch.setattr(prepare, "best_dtype", lambda _: getattr(torch, card))
    spec = TrainSpec(data=(DatasetUse(dataset="d"),), method="full")
    loaded = LoadedModel(spec.model, Path(), None, None, torch.device(device), getattr(torch, weights))  # type: ignore[arg-type]
    assert scales_gradients(loaded, spec) == scaled
