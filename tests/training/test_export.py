"""Exports: adapters and merged weights load elsewhere, answer alike, and carry the run's template."""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from core.__main__ import main
from core.errors import ModelError, UserError
from core.evaluation.metrics.rows import Statistics
from core.models.tokenizer import load_tokenizer, tokenizer_in
from core.prompts.render import render
from core.prompts.templates import find_template, list_templates
from core.records import DatasetUse, ModelRef, Run, SilentReporter, TrainSpec
from core.store import runs
from core.store.files import is_complete
from core.store.runs import run_folder
from core.store.usage import delete_with_all
from core.training.artefacts import base_of
from core.training.export import NO_TEMPLATE, _writes_the_same, export_folder, export_run, read_export, served_template
from core.training.merge_parity import base_format, by_nature, differences, parity_lines, parity_words
from core.training.scores import scored_answers
from tests.prompts.toys import CHATML, byte_level
from tests.tiny import make_tiny_model
from tests.training.conftest import Keeper, rows_table
from tests.training.test_runner import make_run, train


@pytest.fixture
def run(tiny: Path, people: str) -> Run:
    return train(make_run(tiny, people, method="qlora", max_steps=12, template="instruct-en"), Keeper())


def test_an_adapter_is_written_with_the_runs_template(run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "out" / "adapter"
    assert main(["export", run.run_id, "--to", str(folder), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["kind"], found["chat_template"]) == ("adapter", "instruct-en@1")
    assert is_complete(folder)
    assert (folder / "adapter_model.safetensors").is_file()
    tokenizer = tokenizer_in(folder)
    row = rows_table(1).to_pylist()[0]
    messages = [{"role": "system", "content": row["instruction"]}, {"role": "user", "content": row["input"]}]
    made = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    assert made == render(run.template, row, tokenizer=tokenizer).prompt
    assert main(["export", run.run_id, "--to", str(folder)]) == 2
    assert "there already" in capsys.readouterr().err


def test_an_adapter_outlives_its_data(run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    delete_with_all("dataset", run.spec.data[0].dataset)
    folder = tmp_path / "out"
    assert main(["export", run.run_id, "--to", str(folder), "--json"]) == 0
    assert "were deleted" in json.loads(capsys.readouterr().out)["chat_template"]
    assert (folder / "adapter_model.safetensors").is_file()
    assert (folder / "tokenizer.json").is_file()
    assert "were deleted" in (folder / "README.md").read_text("utf-8")


def test_merged_weights_answer_like_the_adapter(run: Run, tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM

    found = export_run(run, tmp_path / "merged", SilentReporter(), merge=True, check=6)
    assert found["kind"] == "model"
    parity = found["parity"]
    assert parity["adapter"]["same_as_adapter"] == 1
    assert parity["adapter"]["rows"] == 6
    assert parity["merged"]["loss"] == pytest.approx(parity["adapter"]["loss"], rel=0.2)
    assert parity["merged_nf4"]["loss"] == pytest.approx(parity["adapter"]["loss"], rel=0.2)
    merged = AutoModelForCausalLM.from_pretrained(tmp_path / "merged")
    base = AutoModelForCausalLM.from_pretrained(run.spec.model.name)
    key = "model.layers.0.mlp.down_proj.weight"
    assert not merged.state_dict()[key].float().equal(base.state_dict()[key].to(merged.dtype).float())
    for values in parity.values():
        assert values["loss_difference"] == pytest.approx(values["loss"] - parity["adapter"]["loss"])
        assert values["micro_f1_difference"] == pytest.approx(values["micro_f1"] - parity["adapter"]["micro_f1"])
        for name in ("loss_difference", "micro_f1_difference"):
            assert values[f"{name}_low"] <= values[name] <= values[f"{name}_high"]
    assert parity["merged"]["loss_difference_low"] < parity["merged"]["loss_difference_high"]
    card = (tmp_path / "merged" / "README.md").read_text("utf-8")
    assert "the same 6 rows" in card
    assert all(line in card for line in found["parity_words"])
    assert by_nature("nf4") in card
    assert "library_name: transformers" in card
    assert "Whole bf16 weights with a qlora adapter merged in" in card
    assert "vllm serve . --chat-template" in card


@pytest.mark.parametrize("layer", ["lm_head", "embed_tokens"])
def test_an_adapter_on_one_of_two_tied_layers_is_merged_into_that_alone(
    tiny: Path, people: str, tmp_path: Path, layer: str
) -> None:
    spec = {"method": "lora", "max_steps": 20, "learning_rate": 0.02, "target_modules": (layer, "q_proj")}
    run = train(make_run(tiny, people, **spec), Keeper())
    parity = export_run(run, tmp_path / "merged", SilentReporter(), merge=True, check=6)["parity"]
    assert parity["merged"]["loss"] == pytest.approx(parity["adapter"]["loss"], rel=0.02)  # merged into both, it was four times


def counted(right: int, rows: int, nll: float) -> Statistics:
    """Answers to ``rows`` rows of which the first ``right`` are right."""
    gold = [{"input": "Anna", "output": json.dumps({"person": ["Anna"]})} for _ in range(rows)]
    said = [json.dumps({"person": ["Anna" if place < right else "Per"]}) for place in range(rows)]
    losses = Statistics(("gold_nll", "gold_tokens"), np.array([[nll * 8, 8.0]] * rows))
    return scored_answers(gold, said, "extraction", ("person",)).statistics.beside(losses)


def test_a_difference_after_merging_has_its_paired_interval() -> None:
    few = differences(counted(28, 31, 0.30), counted(25, 31, 0.31))
    assert few["micro_f1_difference"] == pytest.approx(-3 / 31)
    # three of 31 rows, resampled: mean -0.097, standard deviation sqrt(p(1-p)/31) = 0.053
    assert few["micro_f1_difference_low"] == pytest.approx(-0.097 - 1.96 * 0.053, abs=1 / 31)
    assert few["micro_f1_difference_high"] == pytest.approx(0.0, abs=0.01)
    assert few["loss_difference"] == pytest.approx(0.01)
    many = differences(counted(900, 1000, 0.3), counted(800, 1000, 0.3))
    assert many["micro_f1_difference_high"] < -0.07


def test_labels_that_stay_the_same_after_merging_are_no_certainty() -> None:
    gold = [{"input": "", "output": f"label {place % 2}"} for place in range(6)]
    losses = Statistics(("gold_nll", "gold_tokens"), np.full((6, 2), 8.0))
    labels = scored_answers(gold, [row["output"] for row in gold], "classification", ()).statistics.beside(losses)
    found = differences(labels, labels)
    assert found["micro_f1_difference"] == 0
    assert [found[f"micro_f1_difference_{end}"] for end in ("low", "high")] == pytest.approx([-0.390, 0.390], abs=0.001)
    assert found["loss_difference_low"] == found["loss_difference_high"] == 0


def test_elements_that_stay_the_same_after_merging_are_no_certainty() -> None:
    found = differences(counted(3, 6, 0.3), counted(3, 6, 0.3))
    assert found["micro_f1_difference"] == 0
    assert [found[f"micro_f1_difference_{end}"] for end in ("low", "high")] == pytest.approx([-0.390, 0.390], abs=0.001)


def test_a_parity_report_says_a_loss_only_where_it_is_clear() -> None:
    def report(low: float, value: float, high: float, same: float = 0.5) -> dict[str, dict[str, float]]:
        whole = {"micro_f1": 0.5, "exact_match": 0.5, "loss": 0.3, "rows": 31.0}
        zero = {f"{name}_difference{end}": 0.0 for name in ("micro_f1", "loss") for end in ("", "_low", "_high")}
        ends = {"micro_f1_difference": value, "micro_f1_difference_low": low, "micro_f1_difference_high": high}
        return {
            "adapter": {**whole, **zero, "same_as_adapter": 1.0},
            "merged": {**whole, **zero, **ends, "same_as_adapter": same},
        }

    [unclear] = parity_words(report(-0.31, -0.14, 0.02), "none")
    assert "no clear difference" in unclear
    assert "-0.140 [-0.310, +0.020]" in unclear
    [clear, nature] = parity_words(report(-0.31, -0.14, -0.02), "nf4")
    assert "clearly lose micro-F1 on the same 31 rows" in clear
    assert nature == by_nature("nf4")
    assert "4 bits" in nature
    [same] = parity_words(report(0, 0, 0, same=1.0), "none")
    assert "at most 11% of such rows can differ" in same  # Wilson, 0 of 31
    older = {name: {k: v for k, v in values.items() if "_low" not in k and "_high" not in k}
             for name, values in report(-0.3, -0.14, 0.1).items()}  # fmt: skip
    assert "was not kept" in parity_words(older, "none")[0]
    assert parity_lines(older)[1][2] == "-0.140"


@pytest.mark.parametrize(
    ("method", "quantisation", "bits"),
    [("qlora", "none", "4 bits"), ("lora", "nf4", "4 bits"), ("lora", "int8", "8 bits"), ("lora", "none", "")],
)
def test_a_merge_of_any_quantised_base_is_said_to_differ_by_nature(method: Any, quantisation: Any, bits: str) -> None:
    spec = TrainSpec(data=(DatasetUse(dataset="a"),), method=method, model=ModelRef(quantisation=quantisation))
    whole = {"micro_f1": 0.5, "rows": 8.0, "same_as_adapter": 1.0, "micro_f1_difference": 0.0}
    said = parity_words({"adapter": whole, "merged": whole}, base_format(spec))
    assert [bits in line for line in said if "in the nature of such a merge" in line] == [True] * bool(bits)


@pytest.fixture
def moved(tmp_path: Path, people: str) -> tuple[Run, Path]:
    """A finished run and the folder of its base, which a test may do away with."""
    base = make_tiny_model(tmp_path / "base")
    return train(make_run(base, people, template="instruct-en")), base


def test_an_adapter_is_exported_without_its_base_and_a_merge_says_what_it_needs(moved: tuple[Run, Path], tmp_path: Path) -> None:
    run, base = moved
    export_run(run, tmp_path / "before", SilentReporter())
    base.rename(tmp_path / "elsewhere")
    found = export_run(run, tmp_path / "adapter", SilentReporter())
    assert (found["chat_template"], "warning" in found) == ("instruct-en@1", False)
    files = {path.name: path.read_bytes() for path in (tmp_path / "adapter").iterdir() if path.name != "tunewise.json"}
    assert files == {path.name: path.read_bytes() for path in (tmp_path / "before").iterdir() if path.name != "tunewise.json"}
    with pytest.raises(ModelError, match="Merging needs the base model") as raised:
        export_run(run, tmp_path / "merged", SilentReporter(), merge=True)
    assert "put it, or a link to it, there again" in raised.value.hint
    assert "without merging" in raised.value.hint
    assert not (tmp_path / "merged").exists()
    (tmp_path / "base").symlink_to(tmp_path / "elsewhere")
    assert export_run(run, tmp_path / "merged", SilentReporter(), merge=True, check=0)["kind"] == "model"


def test_an_older_run_that_kept_no_tokenizer_exports_its_adapter_alone(moved: tuple[Run, Path], tmp_path: Path) -> None:
    run, base = moved
    adapter = run_folder(run.run_id) / "adapter"
    for path in (*adapter.glob("token*"), *adapter.glob("chat_template*")):
        path.unlink()
    shutil.rmtree(base)
    found = export_run(run, tmp_path / "adapter", SilentReporter())
    assert found["chat_template"].startswith(NO_TEMPLATE)
    assert (tmp_path / "adapter" / "adapter_model.safetensors").is_file()
    assert "--chat-template" not in (tmp_path / "adapter" / "README.md").read_text("utf-8")


def test_another_model_in_the_bases_place_is_warned_of_and_not_merged_with(moved: tuple[Run, Path], tmp_path: Path) -> None:
    run, base = moved
    make_tiny_model(base, seed=1)
    found = export_run(run, tmp_path / "adapter", SilentReporter())
    assert "other weights in the same layers" in found["warning"]
    assert found["warning"] in (tmp_path / "adapter" / "README.md").read_text("utf-8")
    with pytest.raises(ModelError, match="another model than the one in") as raised:
        export_run(run, tmp_path / "merged", SilentReporter(), merge=True)
    assert "without merging" in raised.value.hint


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"lora_r": 8}, "--enable-lora --lora-modules 'my run=.'"),
        ({"lora_r": 24}, "--enable-lora --max-lora-rank 32 --lora-modules 'my run=.'"),
        ({"use_dora": True}, "vLLM doesn't load adapters with DoRA"),
    ],
)
def test_an_adapters_card_says_how_it_is_served_with_its_base(
    run: Run, tmp_path: Path, changes: dict[str, Any], said: str
) -> None:
    made = run.model_copy(update={"name": "my run", "spec": run.spec.model_copy(update=changes)})
    export_run(made, tmp_path / "out", SilentReporter())
    card = (tmp_path / "out" / "README.md").read_text("utf-8")
    assert said in card
    assert "library_name: peft" in card
    base = json.loads((tmp_path / "out" / "adapter_config.json").read_text("utf-8"))["base_model_name_or_path"]
    assert f"base_model: {base}\n" in card
    assert (f"vllm serve {base} " in card) == ("use_dora" not in changes)
    by_name = made.spec.model.model_copy(update={"source": "hub", "name": "org/name"})
    assert base_of(made.model_copy(update={"spec": made.spec.model_copy(update={"model": by_name})}), Path(base)) == "org/name"


@pytest.mark.parametrize("merge", [False, True])
def test_plain_transformers_answers_from_the_folder_as_tunewise_does(
    tiny: Path, people: str, tmp_path: Path, merge: bool
) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from core.models.engine import Engine
    from core.models.load import load_model
    from core.records import GenerationSettings

    run = train(make_run(tiny, people, max_steps=12, dtype="bfloat16" if merge else "float32"), Keeper())
    export_run(run, tmp_path / "out", SilentReporter(), merge=merge, check=0)
    row = rows_table(1).to_pylist()[0]
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "out")
    assert (tmp_path / "out" / "chat_template.jinja").is_file()
    messages = [{"role": "system", "content": row["instruction"]}, {"role": "user", "content": row["input"]}]
    text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    assert text == render(run.template, row, tokenizer=tokenizer).prompt
    ids = tokenizer(text, add_special_tokens=False, return_tensors="pt").input_ids
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "out", dtype="bfloat16" if merge else "float32").eval()
    with torch.inference_mode():
        plain = model.generate(ids, max_new_tokens=8, do_sample=False)[0, ids.shape[1] :].tolist()
    reference = ModelRef(source="path", name=str(tmp_path / "out"), dtype="bfloat16") if merge else run.spec.model
    with Engine(load_model(reference)) as engine:
        name = None if merge else engine.attach(run.run_id, run_folder(run.run_id) / "adapter") or run.run_id
        answer = engine.generate([ids[0].tolist()], GenerationSettings(max_new_tokens=8), adapter=name)[0]
    assert tokenizer.decode(plain, skip_special_tokens=True).strip() == answer.text.strip()
    if not merge:
        config = json.loads((tmp_path / "out" / "adapter_config.json").read_text("utf-8"))
        assert Path(config["base_model_name_or_path"]) == tiny


def test_a_job_exports_into_the_runs_own_folder_and_says_what_it_found(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    from core.jobs import handlers, queue
    from core.store.jobs import list_jobs

    assert read_export(run, merge=True) is None
    job = queue.enqueue("export", {"merge": True, "check": 4}, subject=run.run_id)
    assert handlers.handler_of("export")(job, SilentReporter())
    found = read_export(run, merge=True)
    assert found is not None
    assert (found["kind"], found["chat_template"]) == ("model", "instruct-en@1")
    assert [line[0] for line in parity_lines(found["parity"])] == ["adapter", "merged", "merged_nf4"]
    assert parity_lines(found["parity"])[0][2] == ""
    with pytest.raises(UserError, match="there already"):
        handlers.handler_of("export")(job, SilentReporter())
    assert main(["runs", "--json"]) == 0  # the export's state is not the run's
    assert json.loads(capsys.readouterr().out)["runs"][0]["state"] == "finished"
    assert len(list_jobs()) == 1


def test_an_export_that_is_told_to_stop_leaves_nothing(run: Run) -> None:
    from core.jobs import handlers, queue

    class Stopping(SilentReporter):
        def should_stop(self) -> bool:
            return True

    job = queue.enqueue("export", {"merge": True, "check": 4}, subject=run.run_id)
    assert not handlers.handler_of("export")(job, Stopping())
    assert not export_folder(run, merge=True).exists()


def test_only_a_finished_run_is_exported(tiny: Path, people: str, tmp_path: Path) -> None:
    run = make_run(tiny, people)
    with pytest.raises(UserError, match="no finished result"):
        export_run(runs.get_run(run.run_id), tmp_path / "x", SilentReporter())
    assert not (tmp_path / "x").exists()


def test_served_templates_write_what_training_writes(tiny: Path) -> None:
    tokenizer = load_tokenizer(ModelRef(source="path", name=str(tiny)))
    rows = rows_table(4).to_pylist()
    rows.append({**rows[0], "instruction": ""})
    elements = ("person", "地点")
    same = {
        template.ref: _writes_the_same(served_template(template, tokenizer, elements), template, rows, tokenizer, elements)
        for template in list_templates()
    }
    assert all(same.values()), same


ENDLESS = "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}"


@pytest.mark.parametrize(
    "source",
    [
        "{% if date_string is not defined %}" + ENDLESS + "{% endif %}",
        "{% if date_string is not defined %}{{ 1 // 0 }}{% endif %}",
    ],
    ids=["without end", "with a fault"],
)
def test_a_chat_template_that_only_trips_servers_is_left_out_in_time(source: str, monkeypatch: pytest.MonkeyPatch) -> None:
    tokenizer = byte_level(source + CHATML)

    def unbounded(*_: object, **__: object) -> str:
        raise AssertionError("a foreign template is run without a budget")

    template = find_template("chat")
    rows = rows_table(2).to_pylist()
    assert render(template, rows[0], tokenizer=tokenizer).prompt  # fine in training, where the date is given
    monkeypatch.setattr(type(tokenizer), "apply_chat_template", unbounded)
    monkeypatch.setattr("core.prompts.budget.SECONDS", 0.3)
    began = time.thread_time()
    assert not _writes_the_same(served_template(template, tokenizer), template, rows, tokenizer, ())
    assert time.thread_time() - began < 3


def test_a_served_template_with_todays_date_is_left_out() -> None:
    tokenizer = byte_level("{{ strftime_now('%d %b %Y') }}" + CHATML)
    template, rows = find_template("chat"), rows_table(1).to_pylist()
    assert not _writes_the_same(served_template(template, tokenizer), template, rows, tokenizer, ())
