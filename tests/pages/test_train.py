"""Train: settings reach the spec, faults are told together, a run is followed in every state and begun again with a change."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from streamlit.testing.v1 import AppTest

from core.data.importing import import_file
from core.jobs import queue
from core.records import DatasetUse, ModelRef, Progress, TrainSpec, now
from core.store.files import MANIFEST, write_json, write_text
from core.store.jobs import add_job, add_metrics, change_job, get_job, list_jobs, log_path
from core.store.runs import get_run, list_runs, run_folder, save_run
from core.training.export import export_folder
from core.training.merge_parity import comparable_rows, seconds_to_compare
from core.training.spec import make_spec
from pages.ui import formats, rundetails, states, tables, trainfaults, trainform
from tests.pages.filled import Filled, fill
from tests.pages.test_train_chat_compare import PAGES, ROOT, words


@pytest.fixture
def filled(tmp_path: Path) -> Filled:
    return fill(tmp_path, evaluations=False)


@pytest.fixture
def chat_holds_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that nothing that is queued starts a worker."""
    monkeypatch.setenv("TUNEWISE_DEVICES", "cpu")
    assert queue.claim_device("cpu", "chat-1")


def open_train(run: str = "", **session: Any) -> AppTest:
    page = AppTest.from_file(str(ROOT / PAGES["train"]), default_timeout=180)
    if run:
        page.query_params["run"] = run
    for key, value in session.items():
        page.session_state[key] = value
    page.run()
    assert not page.exception
    return page


def spec_of(page: AppTest) -> dict[str, Any]:
    """The spec that the form stands for: the last YAML on the page."""
    found: dict[str, Any] = yaml.safe_load([code.value for code in page.code if code.value.startswith("name:")][-1])
    return found


def with_dev(folder: Path) -> None:
    """A dataset with rows of dev, and another to mix with."""
    for name, splits in (("talks", ("train", "train", "dev")), ("more", ("train",))):
        rows = [{"input": f"{name} {n}", "output": '{"person": ["Ida"]}', "split": splits[n % len(splits)]} for n in range(30)]
        path = folder / f"{name}.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        import_file(path, name, task="extraction", elements=("person",))


def test_the_time_holds_loading_and_looks_and_says_how_well_it_is_known(tmp_path: Path) -> None:
    with_dev(tmp_path)
    told = [caption.value for caption in open_train(dataset="talks").caption if "of loading" in caption.value]
    assert len(told) == 1
    assert "looks at dev with answers as long as they may be" in told[0]
    assert told[0].count("counted, not measured here yet") == 2


def test_before_the_first_run_the_answer_is_what_it_would_cost(tmp_path: Path, chat_holds_the_device: None) -> None:
    with_dev(tmp_path)
    page = open_train(dataset="talks")
    assert re.match(r"Nothing is trained yet: 20 rows of talks would take about .+ and .+ GB of memory", page.header[0].value)
    page.number_input(key="train_length").set_value(16)
    page.run()
    assert page.header[0].value == "Nothing is trained yet: 2 settings below must be changed before it can start"
    page.number_input(key="train_length").set_value(512)
    page.run()
    page.button(key="train_start").click().run()
    assert not page.exception
    assert [toast.value for toast in page.toast] == ["talks-qlora is in the queue; the top of the page shows how it goes."]
    assert any("scrollTo(0, 0)" in html.value for html in page.html)
    assert "waits for its turn" in page.header[0].value
    page.run()
    assert not any("scrollTo(0, 0)" in html.value for html in page.html)


def test_every_setting_reaches_the_spec(tmp_path: Path) -> None:
    with_dev(tmp_path)
    page = open_train(dataset="talks")
    assert spec_of(page)["eval_every"] == 1  # 20 rows, 3 steps, 4 looks
    page.selectbox(key="train_looks").set_value(2)
    page.number_input(key="train_batch_size").set_value(2)
    page.number_input(key="train_max_steps").set_value(50)
    page.number_input(key="train_lora_r").set_value(64)
    page.toggle(key="train_use_dora").set_value(True)
    page.toggle(key="train_use_rslora").set_value(True)
    page.number_input(key="train_neftune_alpha").set_value(5.0)
    page.text_input(key="train_target_modules").set_value("q_proj， v_proj")
    page.selectbox(key="train_best_metric").set_value("recall")
    page.number_input(key="train_patience").set_value(3)
    page.selectbox(key="train_packing").set_value(False)
    page.radio(key="train_loss_on").set_value("all")
    page.multiselect(key="train_mix").set_value(["more"])
    page.run()
    page.number_input(key="train_weight_more").set_value(0.5)
    page.run()
    assert not page.exception
    spec = spec_of(page)
    wanted = {
        "batch_size": 2, "max_steps": 50, "lora_r": 64, "use_dora": True, "use_rslora": True, "neftune_alpha": 5.0,
        "target_modules": ["q_proj", "v_proj"], "best_metric": "recall", "patience": 3, "packing": False, "loss_on": "all",
        "eval_every": 25, "method": "qlora", "report_to": [],
    }  # fmt: skip
    assert {key: spec[key] for key in wanted} == wanted
    assert [(use["dataset"], use["weight"]) for use in spec["data"]] == [("talks", 1.0), ("more", 0.5)]
    assert spec["dev"]["split"] == "dev"
    assert make_spec(spec).lora_r == 64
    assert page.button(key="train_start").label.startswith("Train 50 steps")


def test_all_faults_are_told_together_and_nothing_can_be_started(tmp_path: Path) -> None:
    with_dev(tmp_path)
    page = open_train(dataset="talks")
    page.selectbox(key="train_looks").set_value(1)
    page.number_input(key="train_patience").set_value(2)
    page.number_input(key="train_micro_batch_size").set_value(99)
    page.text_input(key="train_report_to").set_value("tensorbord")
    page.run()
    assert not page.exception
    told = "\n".join(error.value for error in page.error)
    assert all(f"- **{label}**: " in told for label in ("Stop early", "Rows at once", "Report to"))
    assert page.button(key="train_start").disabled


@pytest.mark.usefixtures("chat_holds_the_device")
def test_a_run_is_begun_again_with_a_change_and_chat_is_asked_to_let_go(filled: Filled) -> None:
    old = get_run(filled.run)
    page = open_train()
    page.button(key="train_again").click().run()
    key = f"_{filled.run}"
    assert page.radio(key=f"train_method{key}").value == "lora"
    assert "released before the training starts" in words(page)
    page.number_input(key=f"train_lora_r{key}").set_value(8)
    page.run()
    page.button(key="train_start").click().run()
    assert not page.exception
    new = list_runs()[0]
    changed = {k for k, v in new.spec.model_dump().items() if v != old.spec.model_dump()[k]}
    assert changed <= {"lora_r", "name", "learning_rate", "template", "eval_every"}
    assert new.spec.lora_r == 8
    job = get_job(new.job_id)
    assert job.state == "queued"
    assert "waits for its turn: number 1" in page.header[0].value
    assert "The model that Chat holds is released first" in words(page)
    assert queue.is_wanted("cpu", "chat-1")
    page.button(key="stop_run").click().run()
    assert get_job(new.job_id).state == "stopped"


@pytest.mark.parametrize(
    ("state", "sentence"),
    [
        ("stopped", "lora-r16 was stopped at step 12 of 20"),
        ("failed", "lora-r16 failed at step 12 of 20"),
        ("lost", "lora-r16 was lost (its process is gone) at step 12 of 20"),
    ],
)
def test_a_run_that_did_not_finish_says_where_it_stands_and_from_where_it_goes_on(
    filled: Filled, state: str, sentence: str
) -> None:
    change_job(
        filled.job, state=state, ended_at=now(), error="At step 13 the loss is not a number" if state == "failed" else "",
        progress=Progress(done=12, total=20, unit="steps"),
    )  # fmt: skip
    write_json(run_folder(filled.run) / "checkpoints" / "checkpoint-10" / MANIFEST, {"step": 10})
    page = open_train(filled.run)
    assert page.header[0].value.startswith(sentence)
    shown = words(page)
    assert "goes on from its checkpoint of step 10" in shown
    assert page.button(key=f"resume_{filled.job}").label == "Take it up again"
    if state == "failed":
        assert "loss is not a number" in page.error[0].value


def test_answers_on_dev_are_shown_as_they_change(filled: Filled) -> None:
    gold = '{"person": ["Ida"], "date": ["May"]}'
    answers = {10: "The person is", 20: '{"person": ["Ida"]}', 30: '{"person": ["Ida"], "date": ["June"]}'}
    lines = [
        json.dumps({"step": step, "row_id": "r-1", "input": "Ida, May", "output": gold, "prediction": answer})
        for step, answer in answers.items()
    ]
    write_text(run_folder(filled.run) / "samples.jsonl", "\n".join(lines) + "\n")
    page = open_train(filled.run)
    [table] = [frame.value for frame in page.dataframe if "right" in frame.value]
    assert table["right"].tolist() == ["no JSON", "1 of 2", "1 of 2, 1 wrong"]
    assert table["step"].tolist() == [10, 20, 30]


@pytest.mark.usefixtures("chat_holds_the_device")
def test_a_run_that_is_taken_up_again_says_from_which_step_and_nothing_of_before(filled: Filled) -> None:
    change_job(
        filled.job, state="lost", ended_at=now(), progress=Progress(done=12, total=20, unit="steps", rate=1.0, eta_seconds=8.0)
    )
    write_json(run_folder(filled.run) / "checkpoints" / "checkpoint-10" / MANIFEST, {"step": 10})
    assert queue.resume(filled.job).state == "queued"
    assert get_job(filled.job).progress == Progress()
    change_job(filled.job, state="running", pid=os.getpid(), heartbeat=now())
    page = open_train(filled.run)
    assert page.header[0].value == "lora-r16 is resuming from step 10"
    cards = {metric.label: metric.value for metric in page.metric}
    assert cards["Step"] == "from 10"
    assert cards["Time left"] == formats.DASH
    change_job(filled.job, state="lost", ended_at=now())  # before it went on
    page = open_train(filled.run)
    assert "was lost (its process is gone) before it went on" in page.header[0].value


def place_of(block: Any, label: str) -> list[int] | None:
    """Where among the page's blocks a card stands: the place in each block on the way to it."""
    for place, child in getattr(block, "children", {}).items():
        if getattr(child, "type", "") == "metric" and child.label == label:
            return [place]
        if (inner := place_of(child, label)) is not None:
            return [place, *inner]
    return None


def test_at_its_end_each_part_of_a_run_is_drawn_where_it_stood(filled: Filled) -> None:
    """What is drawn elsewhere is seen twice until the page is whole."""
    change_job(filled.job, state="running", pid=os.getpid(), heartbeat=now(), progress=Progress(done=12, total=20, unit="steps"))
    live = place_of(open_train(filled.run).main, "Step")
    change_job(filled.job, state="stopped", ended_at=now())
    assert live is not None
    assert place_of(open_train(filled.run).main, "Step") == live


def test_the_historys_states_stand_whole(filled: Filled) -> None:
    change_job(filled.job, state="stopping", pid=os.getpid(), heartbeat=now())
    page = open_train(filled.run)
    [history] = [frame for frame in page.dataframe if "state" in frame.value and "method" in frame.value]
    [state] = history.value["state"]
    assert state == "Stopping at the next step"
    assert json.loads(history.proto.columns)["state"]["width"] >= tables.width_of([state], least=0, most=1000)


def test_a_failed_runs_log_is_shown_once(filled: Filled) -> None:
    write_text(log_path(filled.job), "10:00:00 the only line")
    change_job(filled.job, state="failed", ended_at=now(), error="At step 13 the loss is not a number")
    page = open_train(filled.run)
    assert [code.value for code in page.code].count("10:00:00 the only line") == 1


def test_no_choice_stands_twice() -> None:
    from pages.ui import trainsettings

    for setting in (
        *trainsettings.STEPS,
        *trainsettings.ADAPTER,
        *trainsettings.DEV,
        *trainsettings.KEEP,
        *trainsettings.MACHINE,
    ):
        words = [choice.partition(" (")[0] for choice in setting.choices.values()]
        assert len(words) == len(set(words)), setting.name


def test_an_export_is_shown_with_how_it_answers(filled: Filled) -> None:
    run = get_run(filled.run)
    parity = {
        name: {
            "rows": 32.0, "micro_f1": f1, "micro_f1_difference": f1 - 0.6, "exact_match": 0.5, "loss": 0.3,
            "micro_f1_difference_low": f1 - 0.63, "micro_f1_difference_high": f1 - 0.57,
            "loss_difference": 0.0, "loss_difference_low": -0.01, "loss_difference_high": 0.01, "same_as_adapter": 0.9,
        }
        for name, f1 in (("adapter", 0.6), ("merged", 0.6), ("merged_nf4", 0.52))
    }  # fmt: skip
    folder = export_folder(run, merge=True)
    write_json(folder / "tunewise.json", {"chat_template": "chat@1", "parity": parity})
    write_json(folder / MANIFEST, {})
    page = open_train(filled.run)
    shown = words(page)
    assert "in bf16 show no clear difference in micro-F1 on the same 32 rows" in shown
    assert "in 4 bits clearly lose micro-F1 on the same 32 rows" in shown
    assert "-0.080 [-0.110, -0.050]" in shown.replace("\\", "")
    assert str(folder) in [code.value for code in page.code]
    nothing = {name: values | {"micro_f1": 0.0, "micro_f1_difference": 0.0} for name, values in parity.items()}
    write_json(folder / "tunewise.json", {"chat_template": "chat@1", "parity": nothing})
    page.run()
    assert "nobody found a value" in words(page)
    assert page.button(key="export_False").label == "Write the folder"
    assert [job.kind for job in list_jobs()] == ["train"]
    on_8_bits = run.spec.model.model_copy(update={"quantisation": "int8"})
    save_run(run.model_copy(update={"spec": run.spec.model_copy(update={"method": "lora", "model": on_8_bits})}))
    folder = export_folder(run, merge=False)
    write_json(folder / "tunewise.json", {"chat_template": "chat@1", "warning": "Another model lies in /its_base."})
    write_json(folder / MANIFEST, {})
    page.run()
    assert "trained on a base in 8 bits (int8)" in words(page).replace("\\", "")
    assert [states.plain("Another model lies in /its_base.")] == [warning.value for warning in page.warning]


def test_a_merge_compares_as_many_rows_as_were_chosen(filled: Filled, chat_holds_the_device: None) -> None:
    page = open_train(filled.run)
    rows = page.number_input(key="export_rows")
    assert (rows.min, rows.max, rows.value) == (0, 40, 32)  # of 40 train rows: this run had no dev rows
    assert page.button(key="export_True").label == "Merge and compare on 32 rows"
    rows.set_value(0).run()
    assert page.button(key="export_True").label == "Merge"
    page.number_input(key="export_rows").set_value(5).run()
    assert page.button(key="export_True").label == "Merge and compare on 5 rows"
    page.button(key="export_True").click().run()
    assert not page.exception
    [job] = [job for job in list_jobs() if job.kind == "export"]
    assert (job.payload["merge"], job.payload["check"]) == (True, 5)


def test_what_a_comparison_of_merged_weights_takes_is_told_by_the_looks_at_dev(filled: Filled) -> None:
    run = get_run(filled.run)
    assert (comparable_rows(run), seconds_to_compare(run, 32)) == (40, None)
    dev = DatasetUse(dataset=filled.dataset, split="test", limit=10)
    looked = run.model_copy(update={"spec": run.spec.model_copy(update={"dev": dev, "eval_rows": 64}), "summary": {}})
    assert (comparable_rows(looked), seconds_to_compare(looked, 8)) == (10, None)
    timed = looked.model_copy(update={"summary": {"look_seconds": 20.0}})
    assert seconds_to_compare(timed, 8) == pytest.approx(3 * 8 * 20 / 10)
    save_run(timed)
    page = open_train(filled.run)
    assert page.number_input(key="export_rows").max == 10
    assert page.button(key="export_True").label == "Merge and compare on 10 rows"
    assert "Answering takes about 1 min" in words(page)


def test_what_was_chosen_for_the_machine_is_shown(filled: Filled) -> None:
    lines = (
        "10:00:00 LoRA on the processor, weights in 16 bits (bfloat16): 4,884,480 of 139,400,064 numbers are learnt",
        "10:00:01 attention: eager, rows padded",
    )
    write_text(log_path(filled.job), "\n".join(lines))
    captions = open_train(filled.run).caption
    shown = [caption.value for caption in captions]
    [attention] = [caption for caption in captions if caption.value.startswith("Attention")]
    assert "quickest for short rows on a processor" in attention.value
    assert "filled up to the longest" in attention.value
    assert "Attention: eager, rows padded" in attention.help
    assert not any("eager" in text for text in shown)
    assert any(line.startswith("LoRA on the processor") and "4,884,480 of 139,400,064" in line for line in shown)


def test_every_attention_that_a_training_chooses_has_plain_words() -> None:
    """The names are those that ``core.training.attention`` gives; a line that is unknown stays as it is."""
    source = (ROOT / "core" / "training" / "attention.py").read_text(encoding="utf-8")
    names = {"eager", "sdpa", re.findall(r'^NAME = "(\w+)"', source, re.MULTILINE)[0]}
    assert set(rundetails.ATTENTION) == names
    for name in names:
        for rows in ("padded", "end to end"):
            words_, term = rundetails.in_words(f"Attention: {name}, rows {rows}")
            assert name not in words_
            assert term is not None
            assert name in term
    assert rundetails.in_words("Attention: other, rows padded") == ("Attention: other, rows padded", None)


def test_the_command_names_the_workspace_and_reads_back_the_same_spec(filled: Filled, workspace: Path) -> None:
    page = open_train(filled.run)
    [command] = [code.value for code in page.code if "core train" in code.value]
    assert command == f"TUNEWISE_WORKSPACE={workspace} python -m core train {run_folder(filled.run)}/spec.yaml --wait"


def test_a_very_long_run_sends_few_points_and_no_long_table(filled: Filled) -> None:
    steps = 20_000
    add_metrics(filled.job, [(step, {"loss": 1.0 + (step == 7_777), "cpu_percent": 50.0}) for step in range(21, steps + 1)])
    change_job(filled.job, progress=Progress(done=steps, total=steps, unit="steps"), ended_at=now())
    page = open_train(filled.run)
    sizes, spike = [], False
    for chart in page.get("plotly_chart"):
        for trace in json.loads(chart.proto.spec)["data"]:
            sizes.append(len(trace["x"]))
            spike = spike or 7_777 in trace["x"]
    assert max(sizes) <= 1502
    assert spike
    assert max((len(frame.value) for frame in page.dataframe), default=0) < 1000
    assert "20,000 steps" in page.header[0].value


def test_a_run_begun_again_looks_at_dev_after_the_same_steps_until_something_it_hangs_on_is_changed(
    filled: Filled, tmp_path: Path
) -> None:
    with_dev(tmp_path)
    run = get_run(filled.run)
    dev = DatasetUse(dataset="talks", version=1, split="dev")
    kept = run.spec.model_copy(update={"dev": dev, "eval_every": 7, "max_steps": 20})
    save_run(run.model_copy(update={"spec": kept}))
    page = open_train(train_base=filled.run)
    assert spec_of(page)["eval_every"] == 7
    page.number_input(key=f"train_lora_r_{filled.run}").set_value(4).run()
    assert (spec_of(page)["eval_every"], spec_of(page)["lora_r"]) == (7, 4)
    page.number_input(key=f"train_max_steps_{filled.run}").set_value(40).run()
    looks = page.selectbox(key=f"train_looks_{filled.run}").value
    assert spec_of(page)["eval_every"] == 40 // looks
    page.number_input(key=f"train_max_steps_{filled.run}").set_value(20).run()
    page.selectbox(key=f"train_looks_{filled.run}").set_value(1).run()
    assert spec_of(page)["eval_every"] is None


@pytest.mark.parametrize(
    "values",
    [
        {
            "epochs": 120.0, "learning_rate": 0.5, "max_length": 200_000, "batch_size": 5000, "max_steps": 2_000_000,
            "warmup_ratio": 1.0, "weight_decay": 3.0, "max_grad_norm": 1000.0, "lora_r": 600, "lora_alpha": 2000,
            "lora_dropout": 0.9, "neftune_alpha": 80.0, "seed": 2**32 - 1, "keep_checkpoints": 2000, "log_every": 200_000,
            "micro_batch_size": 2000, "save_every": 200_000,
        },
        {"epochs": 0.05, "learning_rate": 1e-9, "max_length": 8, "max_grad_norm": 0.001, "neftune_alpha": 0.05},
        {"model": ModelRef(quantisation="int8")},
    ],
)  # fmt: skip
def test_a_run_of_the_shell_with_values_that_no_form_offers_can_be_begun_again(filled: Filled, values: dict[str, Any]) -> None:
    run = get_run(filled.run)
    spec = run.spec.model_copy(update={"method": "lora", "learning_rate": 1e-4, **values})
    save_run(run.model_copy(update={"spec": spec}))
    assert spec_of(open_train(train_base=filled.run)) | {"name": ""} == spec.model_dump(mode="json") | {"name": ""}


def test_a_run_that_ended_twice_shows_all_its_steps(filled: Filled) -> None:
    change_job(filled.job, state="stopped", ended_at=now(), progress=Progress(done=20, total=25, unit="steps"))
    assert "at step 20 of 25" in open_train(filled.run).header[0].value
    add_metrics(filled.job, [(step, {"loss": 0.5}) for step in range(21, 26)])
    change_job(filled.job, state="finished", ended_at=now(), progress=Progress(done=25, total=25, unit="steps"))
    page = open_train(filled.run)
    assert {metric.label: metric.value for metric in page.metric}["Step"] == "25 of 25"


def test_finished_runs_correct_an_estimate_that_was_shown_before(tmp_path: Path) -> None:
    filled = fill(tmp_path, evaluations=False)
    before = words(open_train(filled.run))
    assert "finished run of this model and method" not in before
    run = get_run(filled.run)
    spec = run.spec.model_copy(update={"method": "qlora", "model": run.spec.model.model_copy(update={"quantisation": "nf4"})})
    job = add_job("train", {}, title="other", subject="run-other")
    change_job(job.job_id, state="finished", ended_at=now(), device="cpu")
    save_run(
        run.model_copy(update={"run_id": "run-other", "job_id": job.job_id, "spec": spec, "summary": {"tokens_per_second": 50.0}})
    )
    assert "Time as in a finished run of this model and method here." in words(open_train(filled.run))


def test_a_run_whose_newer_data_is_there_can_be_begun_on_it(filled: Filled, tmp_path: Path) -> None:
    path = tmp_path / "again.jsonl"
    path.write_text('{"input": "x", "output": "{}", "split": "train"}\n', encoding="utf-8")
    import_file(path, filled.dataset, split="train")
    page = open_train(train_base=filled.run)
    assert spec_of(page)["data"][0]["version"] == filled.version
    page.toggle(key=f"train_newest_{filled.run}").set_value(True).run()
    assert spec_of(page)["data"][0]["version"] == filled.version + 1


def test_uses_of_one_dataset_move_to_its_newest_version_each_and_the_same_rows_count_once() -> None:
    uses = [
        DatasetUse(dataset="d", version=1, weight=0.5),
        DatasetUse(dataset="d", version=2, limit=8),
        DatasetUse(dataset="e", version=4),
        DatasetUse(dataset="d", version=3, weight=2),
    ]
    moved = trainform.on_newest(uses, {"d": 3, "e": 4})
    assert [(u.dataset, u.version, u.limit, u.weight) for u in moved] == [
        ("d", 3, None, 2.5), ("d", 3, 8, 1.0), ("e", 4, None, 1.0),
    ]  # fmt: skip


def test_a_run_with_several_datasets_keeps_them_when_begun_again(filled: Filled, tmp_path: Path) -> None:
    with_dev(tmp_path)
    run = get_run(filled.run)
    uses = (*run.spec.data, DatasetUse(dataset="more", version=1, weight=2.0))
    save_run(run.model_copy(update={"spec": run.spec.model_copy(update={"data": uses})}))
    page = open_train(train_base=filled.run, dataset=filled.dataset)
    assert [use["dataset"] for use in spec_of(page)["data"]] == [filled.dataset, "more"]
    assert "2 times an epoch" in words(page)


def test_runs_against_each_other_show_any_curve_and_what_differs(filled: Filled) -> None:
    run = get_run(filled.run)
    job = add_job("train", {}, title="other", subject="run-other")
    add_metrics(job.job_id, [(step, {"loss": 2.0 / step}) for step in range(1, 6)])
    change_job(job.job_id, state="finished", ended_at=now(), progress=Progress(done=5, total=5, unit="steps"))
    other = run.spec.model_copy(update={"lora_r": 64, "name": "wide"})
    save_run(run.model_copy(update={"run_id": "run-other", "name": "wide", "spec": other, "job_id": job.job_id}))
    page = open_train(filled.run)
    [table] = [frame.value for frame in page.dataframe if "key" in frame.value]
    assert table["key"].tolist() == ["lora_r"]
    assert sorted(table.iloc[0].tolist()[1:]) == ["16", "64"]
    overlaid = [json.loads(chart.proto.spec)["data"] for chart in page.get("plotly_chart")][-1]
    assert {trace["name"] for trace in overlaid} == {"lora-r16", "wide"}
    page.session_state["against_shown"] = "dev_micro_f1"
    page.run()
    assert not page.exception
    overlaid = [json.loads(chart.proto.spec)["data"] for chart in page.get("plotly_chart")][-1]
    assert [(trace["name"], len(trace["x"])) for trace in overlaid] == [("lora-r16", 2)]


def test_a_finished_run_leads_on_to_compare_and_chat_and_not_to_the_same_again(filled: Filled) -> None:
    page = open_train(filled.run)
    primary = [button.label for button in page.button if button.proto.type == "primary"]
    assert primary == ["Compare with the prompt"]
    page.button(key="run_chat").click().run()
    assert page.session_state["chat_pick"] == ["base|", f"{filled.run}|"]
    page.button(key="train_again").click().run()
    primary = [button.key for button in page.button if button.proto.type == "primary"]
    assert primary == ["train_start"]  # a new run is being made
    change_job(filled.job, state="stopped", ended_at=now())
    assert not [button for button in open_train(filled.run).button if button.key == "run_compare"]


def test_a_card_says_once_that_its_job_runs(filled: Filled) -> None:
    change_job(filled.job, state="running", pid=os.getpid(), heartbeat=now(), progress=Progress())
    page = AppTest.from_file(str(ROOT / "Home.py"), default_timeout=180).run()
    assert not page.exception
    assert [str(bar.text or "") for bar in page.progress] == [""]
    assert states.progress_line(get_job(filled.job)) == ""


def test_what_the_cards_of_a_run_say_is_not_said_above_them(filled: Filled) -> None:
    at = Progress(done=12, total=20, unit="steps", rate=0.5, eta_seconds=16, message="loss 0.410, 140 tokens/s")
    change_job(filled.job, state="running", pid=os.getpid(), heartbeat=now(), progress=at)
    page = open_train(filled.run)
    assert {m.label: m.value for m in page.metric}["Time left"] == "16 s"
    assert [m.value for m in page.markdown if "steps/s" in m.value] == [":gray[0.500 steps/s]"]
    looking = at.model_copy(update={"message": "looking at dev: 4 rows are being answered"})
    change_job(filled.job, progress=looking)
    assert [m.value for m in page.run().markdown if "steps/s" in m.value] == [
        ":gray[0.500 steps/s · looking at dev: 4 rows are being answered]"
    ]


@pytest.mark.parametrize(
    ("message", "now_doing", "head"),
    [
        ("looking at dev: 4 rows are being answered", "Looking at dev", "has done all 20 steps and looks at dev"),
        ("loss 0.410, 140 tokens/s", "Finishing", "has done all 20 steps and is being finished"),
    ],
)
def test_after_its_last_step_a_run_says_what_it_does_and_not_that_nothing_is_left(
    filled: Filled, message: str, now_doing: str, head: str
) -> None:
    at = Progress(done=20, total=20, unit="steps", rate=0.5, eta_seconds=0.0, message=message)
    change_job(filled.job, state="running", pid=os.getpid(), heartbeat=now(), progress=at)
    page = open_train(filled.run)
    cards = {m.label: m.value for m in page.metric}
    assert "Time left" not in cards
    assert cards["Now"] == now_doing
    assert head in page.header[0].value
    assert "0.0 s left" not in words(page) + states.progress_line(get_job(filled.job))
    change_job(filled.job, progress=at.model_copy(update={"eta_seconds": 30.0}))  # as known from the looks before
    page.run()
    assert {m.label: m.value for m in page.metric}["Time left"] == "30 s"
    assert page.header[0].value.endswith(", about 30 s left")
    change_job(filled.job, progress=at.model_copy(update={"done": 12}))  # a look between steps takes longer than was thought
    page.run()
    assert "is at step 12 of 20" in page.header[0].value
    assert "0.0 s" not in {m.value for m in page.metric}


def test_faults_are_told_by_what_the_form_calls_a_setting(tmp_path: Path) -> None:
    with_dev(tmp_path)
    page = open_train(dataset="talks")
    page.number_input(key="train_length").set_value(16)
    page.number_input(key="train_batch_size").set_value(2)
    page.number_input(key="train_micro_batch_size").set_value(9)
    page.text_input(key="train_target_modules").set_value("nowhere")
    page.run()
    [told] = [error.value.replace("\\", "") for error in page.error]
    assert "**Rows at once**: 9 is more than “Rows a step” 2" in told
    assert "**Maximum length in tokens**: not one row of 'talks'" in told
    assert "(“A longer row”: shorten its input at the end, never its answer)" in told
    assert "**Layers with an adapter**: the model has no layer 'nowhere'" in told
    assert "“Layers with an adapter” out" in told
    assert not re.findall(r"max_length|batch_size|target_modules|overflow", told)


def test_every_label_of_a_fault_stands_on_the_form(tmp_path: Path) -> None:
    path = tmp_path / "chats.jsonl"
    talk = [{"role": "user", "content": "你好"}, {"role": "assistant", "content": "Hello"}]
    path.write_text("".join(json.dumps({"messages": talk, "split": s}) + "\n" for s in ("train", "dev")), encoding="utf-8")
    import_file(path, "chats", task="chat")
    page = open_train(dataset="chats")
    kinds = (page.number_input, page.text_input, page.selectbox, page.radio, page.slider, page.toggle)
    drawn = {str(widget.label) for kind in kinds for widget in kind}
    assert set(trainfaults.LABELS.values()) - drawn <= {"GPUs"}  # asked for where there are several
    assert set(trainfaults.LABELS) <= set(TrainSpec.model_fields)
