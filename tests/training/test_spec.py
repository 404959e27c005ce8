"""Specs: short forms, overrides, and every fault told at once with its key."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from core.errors import SpecError
from core.jobs.submissions import prepare_training
from core.records import DatasetUse, ModelRef, Run, TrainSpec, Version
from core.store.datasets import get_dataset, save_version
from core.training.artefacts import model_card
from core.training.spec import check, dump_spec, freeze_versions, learning_rate, load_spec, make_spec, said_data, validate
from tests.training.conftest import keep, rows_table


def write(folder: Path, text: str) -> Path:
    path = folder / "spec.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_short_forms_and_overrides(tmp_path: Path) -> None:
    path = write(tmp_path, "data: people\ndev: people\nlearning_rate: 1e-3\n")
    overrides = ["epochs=3", "model=./m", "model.quantisation=nf4", "data.0.limit=5", "lora_dropout=0.1", "name=甲"]
    spec = load_spec(path, overrides)
    assert spec.data == (DatasetUse(dataset="people", limit=5),)
    assert spec.dev == DatasetUse(dataset="people", split="dev")
    assert (spec.learning_rate, spec.epochs, spec.lora_dropout, spec.name) == (0.001, 3.0, 0.1, "甲")
    assert spec.model == ModelRef(source="path", name=str(Path("m").absolute()), quantisation="nf4")


@pytest.mark.parametrize("data", ["people", "{dataset: people}", "[people]", "[{dataset: people}]"])
def test_an_override_reaches_into_every_form_of_data(tmp_path: Path, data: str) -> None:
    spec = load_spec(write(tmp_path, f"data: {data}\n"), ["data.0.limit=4", "data.0.split=extra"])
    assert spec.data == (DatasetUse(dataset="people", limit=4, split="extra"),)


def test_a_faulty_dataset_is_told_once_and_an_empty_list_as_such(tmp_path: Path, people: str) -> None:
    with pytest.raises(SpecError) as caught:
        load_spec(write(tmp_path, "data: [{dataset: people, wieght: 2}]\n"))
    assert caught.value.faults == ("unknown key 'data.0.wieght', did you mean 'weight'?",)
    with pytest.raises(SpecError, match="data: must name at least one dataset"):
        load_spec(write(tmp_path, "data: []\n"))


def test_a_dumped_spec_is_read_back_the_same(tmp_path: Path) -> None:
    spec = make_spec({"data": ["甲", {"dataset": "b", "weight": 0.5}], "target_modules": "q_proj, v_proj", "learning_rate": 1e-5})
    assert load_spec(write(tmp_path, dump_spec(spec))) == spec


def test_unknown_keys_are_told_with_the_nearest_and_all_faults_at_once(tmp_path: Path, people: str) -> None:
    path = write(tmp_path, "data: people\nlearning_rte: 1\nepochs: -1\nmodel: {nmae: x}\nbogus: 1\n")
    with pytest.raises(SpecError) as caught:
        load_spec(path)
    faults = "\n".join(caught.value.faults)
    assert len(caught.value.faults) == 4
    assert "unknown key 'learning_rte', did you mean 'learning_rate'?" in faults
    assert "unknown key 'model.nmae', did you mean 'name'?" in faults
    assert "epochs: must be more than 0 (it is -1)" in faults
    assert "unknown key 'bogus'; the keys are" in faults


def test_a_value_of_the_wrong_kind_is_told_what_it_must_be() -> None:
    wrong = {
        "learning_rate": (3, "1 or less"),
        "lora_dropout": (1, "less than 1"),
        "max_length": (2, "8 or more"),
        "method": ("dora", "'full', 'lora' or 'qlora'"),
        "batch_size": (1.5, "a whole number"),
        "gpus": ("x", "a whole number"),
        "warmup_ratio": (None, "a number"),
        "use_dora": ("ja", "true or false"),
        "packing": ([], "true or false"),
        "name": (3, "a text"),
        "report_to": (5, "a list"),
        "dev": (3, "written as keys with values"),
        "model": (4, "written as keys with values"),
    }
    with pytest.raises(SpecError) as caught:
        make_spec({"data": [], **{key: value for key, (value, _) in wrong.items()}})
    told = {key: f"{key}: must be {words} (it is {value!r})" for key, (value, words) in wrong.items()}
    assert sorted(caught.value.faults) == sorted([*told.values(), "data: must name at least one dataset (it is [])"])


def test_faults_of_form_come_with_those_of_content_that_do_not_hang_on_them(tiny: Path, people: str) -> None:
    data = [{"dataset": "gone"}, {"dataset": people, "split": "tset"}, {"dataset": people, "weight": -1}]
    with pytest.raises(SpecError) as caught:
        make_spec({"data": data, "template": "none", "batch_size": 0, "micro_batch_size": 9, "patience": 1, "eval_every": 2})
    starts = [fault.partition(" ")[0].rstrip(":") for fault in caught.value.faults]
    assert starts == ["data.2.weight", "batch_size", "data[0]", "data[1].split", "template", "eval_every", "patience"]
    with pytest.raises(SpecError) as caught:  # what can't be known without the faulty key isn't guessed at
        make_spec({"data": people, "dev": 3, "eval_every": 2, "method": "dora", "model": {"quantisation": "int8"}, "gpus": "x"})
    assert [fault.partition(":")[0] for fault in caught.value.faults] == ["dev", "method", "gpus"]


@pytest.mark.parametrize(
    ("values", "fault"),
    [
        ({"epochs": float("inf")}, "epochs: must be a finite number"),
        ({"weight_decay": float("inf")}, "weight_decay: must be a finite number"),
        ({"epochs": 1e300}, "epochs: 1e+300 are more than 10,000"),
        ({"data": [{"dataset": "people", "weight": 1e9}]}, "data.weight: 1e+09 times an epoch"),
        ({"seed": -1}, "seed: -1 is not between 0 and 4,294,967,295"),
        ({"seed": 2**32}, "seed: 4294967296 is not between"),
        ({"method": "full", "model": {"dtype": "float16"}}, "model.dtype: full fine-tuning can't learn weights in float16"),
        ({"method": "lora", "use_dora": True, "model": {"quantisation": "int8"}}, "use_dora: 8-bit weights"),
        ({"launch_backend": "ray"}, "launch_backend: there is no 'ray'; those here: local"),
    ],
)
def test_values_that_no_training_can_be_made_with_are_told_before_it_is_queued(
    people: str, workspace: Path, values: dict[str, Any], fault: str
) -> None:
    with pytest.raises(SpecError) as caught:
        prepare_training(make_spec({"data": people, **values}))
    [found] = caught.value.faults
    assert found.startswith(fault)
    assert not list(workspace.glob("runs/*"))


def test_names_in_one_text_are_a_list_and_all_linear_is_every_layer() -> None:
    spec = make_spec({"data": "d", "report_to": "tensorboard, wandb", "target_modules": "all-linear"})
    assert (spec.report_to, spec.target_modules) == (("tensorboard", "wandb"), None)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "holds no keys"),
        ("a: [", "no YAML"),
        ("- 1", "holds no keys"),
        ("method: lora", "data is missing"),
        ("\x00", "no YAML"),
        ("a: " + "[" * 5000, "nested too deeply"),
        ("data: d\nepochs: [1", r"expected ',' or '\]', .* \(line 2, column 11\)"),
    ],
)
def test_files_that_are_no_spec(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(SpecError, match=message):
        load_spec(write(tmp_path, text))


@pytest.mark.parametrize("override", ["epochs", "=3", "data.7.limit=1", "epochs.x=1", "epochs=[1", "name={"])
def test_overrides_that_lead_nowhere(tmp_path: Path, override: str) -> None:
    with pytest.raises(SpecError, match="--set"):
        load_spec(write(tmp_path, "data: people\nepochs: 2\n"), [override])


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r"none\.yaml"):
        load_spec(tmp_path / "none.yaml")


def test_content_is_checked_all_at_once(people: str) -> None:
    spec = TrainSpec(
        data=(DatasetUse(dataset=people, split="test"), DatasetUse(dataset="gone")),
        template="nothing",
        model=ModelRef(source="path", name="/nowhere"),
        micro_batch_size=9,
        eval_every=2,
    )
    faults = validate(spec)
    assert len(faults) == 6
    for start in ("data[0].split", "data[1]: There is no dataset 'gone'", "template", "model", "micro_batch_size", "eval_every"):
        assert any(fault.startswith(start) for fault in faults), (start, faults)
    with pytest.raises(SpecError, match="6 faults"):
        check(spec)
    assert validate(TrainSpec(data=(DatasetUse(dataset=people),))) == []


def test_what_a_run_chooses_by_must_be_measured_and_where_it_reports_must_be_installed(people: str) -> None:
    def faults(**values: object) -> list[str]:
        return validate(make_spec({"data": people, **values}))

    assert faults(dev=people, eval_every=5, patience=2, best_metric="recall", report_to=[]) == []
    assert [f.partition(":")[0] for f in faults(patience=2, eval_every=3)] == ["eval_every", "patience"]
    assert faults(dev=people, patience=2) == [
        "patience: dev is looked at once, at the end; set eval_every to look at it while training"
    ]
    [fault] = faults(dev=people, best_metric="accuracy")
    assert "has no accuracy; it has loss, micro_f1" in fault
    unknown, missing = faults(report_to=["tensorbord", "neptune"])
    assert "'tensorbord' is not known; known: tensorboard" in unknown
    assert "neptune needs the package 'neptune'" in missing


def test_layers_lengths_gpus_and_dev_are_told_with_all_other_faults(
    tiny: Path, people: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = {"data": people, "model": str(tiny), "method": "lora", "micro_batch_size": 9}
    values |= {"target_modules": ["q_prj", "v_proj"], "max_length": 16, "gpus": 2, "dev": {"dataset": people, "split": "train"}}
    faults = validate(make_spec(values), gpus=0)
    assert [fault.partition(":")[0] for fault in faults] == [
        "micro_batch_size", "gpus", "target_modules", "max_length", "max_length", "dev",
    ]  # fmt: skip
    _, gpus, layers, length, _, dev = faults
    assert "leave gpus out, or give 1" in gpus
    assert "no layer 'q_prj', did you mean 'q_proj'?" in layers
    assert "leave target_modules out" in layers
    assert "'v_proj'" not in layers
    assert f"python -m core split {people}" in dev
    shortest = int(re.search(r"the shortest needs (\d+)", length).group(1))  # type: ignore[union-attr]
    assert "`overflow: shorten_input`" in length

    def lengths(**changed: object) -> list[str]:
        return validate(make_spec({"data": people, "model": str(tiny), **changed}))

    assert lengths(max_length=shortest) == []
    [short] = lengths(max_length=shortest - 1)
    assert f"the shortest needs {shortest}" in short
    assert lengths(max_length=shortest - 1, overflow="shorten_input") == []
    assert len(lengths(max_length=16, overflow="shorten_input")) == 1  # prompt and answer alone are longer
    assert validate(make_spec({"data": people, "gpus": 2}), gpus=2) == []
    monkeypatch.setenv("TUNEWISE_DEVICES", "cuda:0,cuda:1")
    with pytest.raises(SpecError, match="gpus: 3 are asked for, and 2 can be used here"):
        prepare_training(make_spec({"data": people, "gpus": 3, "batch_size": 9}))
    monkeypatch.setenv("TUNEWISE_DEVICES", "cpu")
    with pytest.raises(SpecError, match="gpus: 3 are asked for, and 0 can be used here"):
        prepare_training(make_spec({"data": people, "gpus": 3, "batch_size": 9}))


def test_dev_rows_too_long_to_be_looked_at_are_told_by_name(tiny: Path, workspace: Path) -> None:
    short, long = keep("short", rows_table(12)), keep("long", rows_table(12, long_every=1))
    spec = {"data": short, "dev": long, "model": str(tiny), "max_length": 400}
    [fault] = validate(make_spec(spec))
    assert fault.startswith("max_length: not one row of 'long' v1, split 'dev', fits into 400 tokens")
    assert validate(make_spec(spec | {"dev": short})) == []


def test_layers_by_path_and_of_models_that_are_not_here_are_left_alone(tiny: Path, people: str, tmp_path: Path) -> None:
    def faults(model: str, *layers: str) -> list[str]:
        return validate(make_spec({"data": people, "model": model, "target_modules": list(layers)}))

    assert faults(str(tiny), "self_attn.q_proj", "layers.0.mlp.down_proj", "lm_head") == []
    [fault] = faults(str(tiny), "input_layernorm")  # no matrix
    assert "no layer 'input_layernorm'" in fault
    assert faults("hub:some/thing", "no_such_layer") == []


@pytest.mark.parametrize("optimizer", ["adamw_8bit", "paged_adamw_8bit", "adamw", "auto"])
def test_an_optimiser_in_8_bits_is_refused_before_it_is_queued_where_there_is_no_gpu(
    people: str, monkeypatch: pytest.MonkeyPatch, optimizer: str
) -> None:
    from core.models.memory import Device
    from core.training import spec

    cpu, gpu = Device("cpu", "2 cores", 1, 1), Device("cuda:0", "a card", 1, 1)
    wanted = make_spec({"data": people, "optimizer": optimizer})
    monkeypatch.setattr(spec, "devices", lambda: [cpu])
    assert [fault.partition(":")[0] for fault in validate(wanted)] == ["optimizer"] * ("8bit" in optimizer)
    monkeypatch.setattr(spec, "devices", lambda: [gpu, cpu])
    assert validate(wanted) == []


@pytest.mark.parametrize(
    ("width", "rates"),
    [(576, (1e-4, 1e-3, 1e-3)), (1024, (1e-4, 1e-3, 1e-3)), (3584, (2e-5, 2e-4, 2e-4)), (0, (2e-5, 2e-4, 2e-4))],
)
def test_learning_rates_by_method_and_width(tmp_path: Path, width: int, rates: tuple[float, ...]) -> None:
    config = {"hidden_size": width, "num_attention_heads": 8, "num_hidden_layers": 2, "vocab_size": 100} if width else {}
    (tmp_path / "config.json").write_text(json.dumps(config), encoding="utf-8")

    def rate(**values: object) -> float:
        return learning_rate(make_spec({"data": "d", "model": str(tmp_path), **values}))

    assert (rate(method="full"), rate(method="lora"), rate()) == rates
    assert rate(method="full", learning_rate=0.5) == 0.5


def test_the_learning_rate_of_the_default_model_needs_no_files_and_that_of_an_absent_one_is_the_usual() -> None:
    assert learning_rate(make_spec({"data": "d"})) == 1e-3
    assert learning_rate(make_spec({"data": "d", "model": "hub:some/thing"})) == 2e-4


def test_a_queued_spec_has_its_learning_rate_written_down(people: str) -> None:
    spec, versions = freeze_versions(make_spec({"data": people}))
    assert (spec.learning_rate, spec.data[0].version, versions) == (1e-3, 1, {people: (1,)})


def test_a_dataset_that_is_used_twice_keeps_both_its_versions(people: str) -> None:
    save_version(
        get_dataset(people), Version(dataset=people, number=2, rows=48, split_sizes={"train": 40, "dev": 8}), rows_table(48)
    )
    data = (
        DatasetUse(dataset=people, version=1, limit=1200),
        DatasetUse(dataset=people, weight=2),
        DatasetUse(dataset=people, version=1, split="dev"),
    )
    run = prepare_training(TrainSpec(data=data, method="lora", dev=None))
    assert run.data_versions == {people: (1, 2)}
    assert [(use.version, use.split) for use in run.spec.data] == [(1, "train"), (2, "train"), (1, "dev")]
    assert said_data(run.spec) == "people v1 train (the first 1,200), people v2 train, people v1 dev"
    assert said_data(run.spec.model_copy(update={"data": run.spec.data[1:2]})) == "people v2"
    card = model_card(run, Path("base"), {})
    assert "- people, version 1, split train, weight 1, the first 1200 rows\n- people, version 2, split train, weight 2\n" in card
    older = json.loads(run.model_dump_json()) | {"data_versions": {people: 2}}
    assert Run.model_validate(older).data_versions == {people: (2,)}
    assert Run.model_validate_json(run.model_dump_json()) == run
