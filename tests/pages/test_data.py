"""Data: health, issues, recipe, undo, hand edits, quarantine, on an empty and on a filled workspace."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
from streamlit.testing.v1 import AppTest

from core.data import recipes
from core.data.importing import import_file
from core.data.profile import profile
from core.jobs.queue import wait
from core.records import Step
from core.store.datasets import get_version, list_datasets, read_ledger, read_quarantine, read_rows
from core.store.jobs import list_jobs
from pages.ui import dataview, issues
from tests.pages.conftest import check, texts
from tests.pages.filled import NAME, fill

DATA = "pages/1_Data.py"
VIEWS = ("Contents", "Edit by hand", "Versions", "Ledger", "Quarantine", "Split", "Mix", "Export", "Storage")


def test_empty(open_page: Callable[..., AppTest]) -> None:
    app = open_page(DATA)
    check(app)
    assert "wrong with your data" in app.header[0].value
    assert app.button(key="empty_data").label == "Import a file"


def test_health_issues_and_recipe(open_page: Callable[..., AppTest], tmp_path: Path) -> None:
    fill(tmp_path)
    app = open_page(DATA)
    check(app)
    found = profile(NAME)
    assert app.header[0].value.startswith(f"{found.faulty} of 60 rows (")
    assert app.selectbox(key="issue").value in found.issues
    assert app.button(key="recipe_apply").label == f"Apply {len(recipes.default_recipe(NAME))} steps to 60 rows"
    assert len([toggle for toggle in app.toggle if toggle.key.endswith("_on")]) == len(recipes.default_recipe(NAME))


@pytest.mark.parametrize(
    "issue",
    [
        "markup", "control_character", "ungrounded_value", "invalid_json", "leak_exact", "unknown_element", "placeholder",
        "personal_data", "width", "mojibake", "empty", "exact_duplicate", "conflicting_output",
    ],
)  # fmt: skip
def test_rows_of_each_issue_open_in_the_row_view(open_page: Callable[..., AppTest], tmp_path: Path, issue: str) -> None:
    fill(tmp_path)
    assert profile(NAME).issues[issue]
    app = open_page(DATA, issue=issue)
    check(app)
    assert app.selectbox(key="issue").value == issue
    shown = [html.value for html in app.html if "tw-" in html.value and "tw-take" not in html.value]
    assert any("tw-text" in html for html in shown)
    assert not any("<script>" in html or "<p>" in html for html in shown)
    marked = dict.fromkeys(("markup", "placeholder", "personal_data", "width", "mojibake"), 'class="hit')
    marked |= {"control_character": "‹U+200B›", "ungrounded_value": "not in the text"}
    if issue in marked:
        assert any(marked[issue] in html for html in shown)


def test_apply_makes_a_version_with_a_ledger_and_undo_brings_the_rows_back(
    open_page: Callable[..., AppTest], tmp_path: Path
) -> None:
    fill(tmp_path)
    app = open_page(DATA)
    app.button(key="recipe_apply").click().run()
    assert not app.exception
    after = get_version(NAME)
    assert after.number == 2
    assert after.rows < 60
    assert read_ledger(NAME).num_rows
    check(app)
    assert "Version 2" in " ".join(texts(app))
    step = next(step for step in after.recipe if step.op == "drop_exact_duplicates")
    app.button(key=f"undo_{step.step_id}").click().run()
    assert not app.exception
    app.button(key=f"undo_go_{step.step_id}").click().run()
    assert not app.exception
    assert get_version(NAME).number == 3
    assert get_version(NAME).rows > after.rows


def test_a_switched_off_step_is_not_applied(open_page: Callable[..., AppTest], tmp_path: Path) -> None:
    fill(tmp_path)
    app = open_page(DATA)
    first = next(toggle for toggle in app.toggle if toggle.key.endswith("_on"))
    first.set_value(False).run()
    assert app.button(key="recipe_apply").label == f"Apply {len(recipes.default_recipe(NAME)) - 1} steps to 60 rows"
    app.button(key="recipe_apply").click().run()
    off = recipes.default_recipe(NAME)
    assert off[0].op not in [step.op for step in get_version(NAME).recipe]


def test_after_cleaning_comes_the_split_where_there_is_no_test_split_and_then_the_lengths(
    open_page: Callable[..., AppTest], tmp_path: Path
) -> None:
    path = tmp_path / "clean.jsonl"
    lines = [
        {"input": f"第{n}号：{who}签字。", "output": json.dumps({"person": [who]})} for n, who in enumerate("甲乙丙丁戊己庚辛")
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    import_file(path, "clean", task="extraction", elements=("person",))
    recipes.apply("clean", recipes.default_recipe("clean"))
    app = open_page(DATA, dataset="clean")
    check(app)
    assert [b.label for b in app.button if b.proto.type == "primary"] == ["Split into train, dev and test"]
    app.button(key="recipe_split").click().run()
    assert app.session_state["data_view"] == "Split"
    app.button(key="split_go").click().run()
    check(app)
    assert get_version("clean").split_sizes.get("test")
    assert [b.label for b in app.button if b.proto.type == "primary"] == ["Measure the lengths"]


@pytest.mark.parametrize("view", VIEWS)
def test_tabs(open_page: Callable[..., AppTest], tmp_path: Path, view: str) -> None:
    fill(tmp_path)
    recipes.apply(NAME, [Step(op="fix_json"), Step(op="drop_exact_duplicates")])
    app = open_page(DATA, data_view=view)
    check(app)
    expected = {
        "Versions": "Versions never change", "Ledger": "made version 2", "Quarantine": "kept aside, for",
        "Split": "both sides",
        "Mix": "Import a second one", "Export": "comes back as it is",
        "Storage": "take up", "Edit by hand": "Changed cells become one step",
        "Contents": "3 elements: person, organization, date.",
    }  # fmt: skip
    assert any(expected[view] in text for text in texts(app))
    if view == "Contents":
        spoken = next(frame.value for frame in app.dataframe if "label" in frame.value and "English" in set(frame.value["label"]))
        assert "Chinese, simplified" in set(spoken["label"])


def test_a_row_is_mended_and_taken_in_from_quarantine(open_page: Callable[..., AppTest], tmp_path: Path) -> None:
    fill(tmp_path)
    recipes.apply(NAME, [Step(op="fix_json", params={"action": "quarantine"})])
    aside = read_quarantine(NAME).to_pylist()
    app = open_page(DATA, data_view="Quarantine")
    name = aside[0]["quarantine_id"]
    app.text_area(key=f"mend_output_{name}").set_value('{"person": ["Anna Keller"]}')
    next(button for button in app.button if button.label == "Take this row in").click().run()
    assert not app.exception
    assert get_version(NAME).quarantined == len(aside) - 1


def _import_broken(folder: Path) -> None:
    good = [json.dumps({"input": f"No. {n}: Anna Keller", "output": '{"person": ["Anna Keller"]}'}) for n in range(3)]
    path = folder / "broken.jsonl"
    path.write_text("\n".join([*good, '{"input": "Tom Reed came", "output": "{}", "split": "train"', "nothing of use"]), "utf-8")
    import_file(path, "broken", task="extraction", elements=("person",))


def test_a_broken_line_has_a_proposal_with_its_difference_and_is_taken_in_as_a_version(
    open_page: Callable[..., AppTest], tmp_path: Path
) -> None:
    _import_broken(tmp_path)
    aside = read_quarantine("broken").to_pylist()
    name = aside[0]["quarantine_id"]
    app = open_page(DATA, data_view="Quarantine")
    check(app)
    assert any("mended by json-repair" in text for text in texts(app))
    assert any("<ins>}</ins>" in html.value for html in app.html)
    assert app.button(key=f"mend_go_{name}").disabled
    app.button(key=f"mend_raw_{name}_proposal").click().run()
    check(app)
    assert app.text_area(key=f"mend_raw_{name}").value.endswith('"train"}')
    app.button(key=f"mend_go_{name}").click().run()
    assert not app.exception
    made = get_version("broken")
    assert (made.number, made.rows, made.quarantined) == (2, 4, 1)
    assert "Tom Reed came" in read_rows("broken")["input"].to_pylist()
    assert read_ledger("broken").num_rows == 1


def test_a_text_that_makes_no_row_says_why_and_cannot_be_taken_in(open_page: Callable[..., AppTest], tmp_path: Path) -> None:
    _import_broken(tmp_path)
    name = read_quarantine("broken").to_pylist()[0]["quarantine_id"]
    app = open_page(DATA, data_view="Quarantine")
    app.text_area(key=f"mend_raw_{name}").set_value('{"input": "x"').run()
    check(app)
    assert app.button(key=f"mend_go_{name}").disabled
    assert any("can't be taken in" in text for text in texts(app))


def test_hand_edits_become_one_step(open_page: Callable[..., AppTest], tmp_path: Path) -> None:
    fill(tmp_path)
    app = open_page(DATA, data_view="Edit by hand")
    key = f"edit_grid_{NAME}_1_0_"
    app.session_state[key] = {"edited_rows": {2: {"output": "{}"}}, "added_rows": [], "deleted_rows": []}
    app.run()
    assert app.button(key="edit_save").label == "Save 1 change as one step"


def test_import_shows_the_guess_and_brings_the_file_in(open_page: Callable[..., AppTest], tmp_path: Path) -> None:
    lines = [json.dumps({"question": f"问题{n}", "answer": f"答案{n}"}, ensure_ascii=False) for n in range(5)]
    path = tmp_path / "faq.jsonl"
    path.write_text("\n".join([*lines, "{broken"]), encoding="utf-8")
    app = open_page(DATA)
    app.button(key="empty_data").click().run()
    app.text_input(key="import_path").set_value(str(path)).run()
    assert not app.exception
    app.button(key="import_go").click().run()
    assert not app.exception
    assert [dataset.name for dataset in list_datasets()] == ["faq"]
    assert (get_version("faq").rows, get_version("faq").quarantined) == (5, 1)


def test_a_bad_file_is_told_with_a_way_out_and_nothing_changes(open_page: Callable[..., AppTest], tmp_path: Path) -> None:
    path = tmp_path / "empty.jsonl"
    path.write_bytes(b"")
    app = open_page(DATA)
    app.button(key="empty_data").click().run()
    app.text_input(key="import_path").set_value(str(path)).run()
    assert not app.exception
    assert any("Nothing was imported" in error.value for error in app.error)
    assert not list_datasets()


def _open_import(open_page: Callable[..., AppTest], where: str) -> AppTest:
    app = open_page(DATA)
    app.button(key="empty_data").click().run()
    app.text_input(key="import_path").set_value(where).run()
    assert not app.exception
    return app


def test_a_column_set_to_unused_stays_unused(open_page: Callable[..., AppTest], tmp_path: Path) -> None:
    path = tmp_path / "faq.jsonl"
    rows = [{"question": f"Q{n}", "answer": f"A{n}", "instruction": f"I{n}", "target": f"T{n}"} for n in range(4)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    app = _open_import(open_page, str(path))
    columns = {box.label: box for box in app.selectbox if (box.key or "").startswith("import_column_")}
    taken = next(name for name, box in columns.items() if box.value == "output")
    other = "target" if taken == "answer" else "answer"
    columns[taken].set_value("not used").run()
    columns = {box.label: box for box in app.selectbox if (box.key or "").startswith("import_column_")}
    columns[other].set_value("output").run()
    app.button(key="import_go").click().run()
    assert not app.exception
    kept = read_rows("faq").to_pylist()
    assert [row["output"] for row in kept] == [row[other] for row in rows]
    assert [json.loads(row["extra"])[taken] for row in kept] == [row[taken] for row in rows]


def test_personal_data_is_marked_whole_and_markup_where_it_stands() -> None:
    text = "Write to tom.baker@example.com <b>or</b> call 13812345678."
    marked = {
        key: [text[m.start : m.end] for m in issues.hits(key, text)] for key in ("personal_data", "markup", "unknown_element")
    }
    assert marked == {
        "personal_data": ["tom.baker@example.com", "13812345678"],
        "markup": ["<b>", "</b>"],
        "unknown_element": [],
    }


def test_columns_of_unknown_names_can_be_named(open_page: Callable[..., AppTest], tmp_path: Path) -> None:
    path = tmp_path / "contracts.csv"
    path.write_text("memo,文本要素\n甲方是云海公司。,云海公司\n", encoding="utf-8")
    app = _open_import(open_page, str(path))
    assert not app.error
    assert any("which the answer" in info.value for info in app.info)
    columns = {box.label: box for box in app.selectbox if (box.key or "").startswith("import_column_")}
    assert {label: box.value for label, box in columns.items()} == {"memo": "not used", "文本要素": "not used"}
    columns["文本要素"].set_value("output").run()
    assert any("which the answer" in info.value for info in app.info)
    app.selectbox(key="import_column__memo").set_value("input").run()
    assert not [*app.error, *app.info]
    app.button(key="import_go").click().run()
    check(app)
    kept = read_rows("contracts").select(["input", "output"]).to_pylist()
    assert kept == [{"input": "甲方是云海公司。", "output": "云海公司"}]


def test_a_folder_is_imported(open_page: Callable[..., AppTest], tmp_path: Path) -> None:
    folder = tmp_path / "both"
    folder.mkdir()
    for split, amount in (("train", 3), ("test", 2)):
        lines = [json.dumps({"question": f"{split} {n}", "answer": "yes"}) for n in range(amount)]
        (folder / f"{split}.jsonl").write_text("\n".join(lines), encoding="utf-8")
    app = _open_import(open_page, str(folder))
    assert any("2 files" in text for text in texts(app))
    assert [app.selectbox(key=f"import_split_of_both/{name}.jsonl").value for name in ("train", "test")] == ["train", "test"]
    app.selectbox(key="import_split_of_both/test.jsonl").set_value("dev").run()
    app.button(key="import_go").click().run()
    assert not app.exception
    assert get_version("both").split_sizes == {"train": 3, "dev": 2}


@pytest.mark.parametrize("host", ["hub", "modelscope"])
def test_a_hub_name_is_looked_up_and_a_fault_of_the_network_is_told(
    open_page: Callable[..., AppTest], monkeypatch: pytest.MonkeyPatch, host: str
) -> None:
    for name in ("HUB", "MODELSCOPE"):
        monkeypatch.setenv(f"TUNEWISE_{name}_ENDPOINT", "http://127.0.0.1:9")
    app = _open_import(open_page, f"{host}:org/name")
    assert any("can't be reached" in error.value and "Nothing was imported" in error.value for error in app.error)


def test_a_hub_dataset_is_imported_by_a_worker(
    open_page: Callable[..., AppTest], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    listing = [{"type": "file", "path": "train.jsonl", "size": 60}]
    body = "".join(json.dumps({"question": f"q{n}", "answer": "yes"}) + "\n" for n in range(3))
    served = tmp_path / "served"
    (served / "api/datasets/org/name/tree").mkdir(parents=True)
    (served / "api/datasets/org/name/tree/main").write_text(json.dumps(listing), encoding="utf-8")
    (served / "datasets/org/name/resolve/main").mkdir(parents=True)
    (served / "datasets/org/name/resolve/main/train.jsonl").write_text(body, encoding="utf-8")
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(SimpleHTTPRequestHandler, directory=str(served))) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv("TUNEWISE_HUB_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
        app = _open_import(open_page, "hub:org/name")
        assert not app.error, [error.value for error in app.error]
        app.button(key="import_go").click().run()
        assert not app.exception
        job = list_jobs()[-1]
        assert (job.kind, job.subject, job.device) == ("import", "name", "files")
        assert any(job.title in text for text in texts(app))
        assert wait(job.job_id).state == "finished"
        server.shutdown()
    app.run()
    check(app)
    assert (get_version("name").rows, app.session_state["dataset"]) == (3, "name")


def test_a_large_version_is_looked_through_by_a_worker(
    open_page: Callable[..., AppTest], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(tmp_path, evaluations=False)
    monkeypatch.setattr(dataview, "LIVE_ROWS", 10)
    app = open_page(DATA, data_view="Quarantine")
    check(app)
    assert app.header[0].value == "60 rows are being looked through."
    job = list_jobs()[-1]
    assert wait(job.job_id).state == "finished"
    app.run()
    check(app)
    assert "of 60 rows" in app.header[0].value


def test_rows_of_an_issue_are_filtered(open_page: Callable[..., AppTest], tmp_path: Path) -> None:
    fill(tmp_path, evaluations=False)
    app = open_page(DATA, issue="personal_data")
    app.text_input(key="issue_search").set_value("13812345678").run()
    check(app)
    assert any("13812345678" in code.value for code in app.code)
    app.text_input(key="issue_search").set_value("no such text").run()
    check(app)
    assert any("No row of this issue" in text for text in texts(app))


def test_data_that_ask_by_the_instruction_show_it(open_page: Callable[..., AppTest], tmp_path: Path) -> None:
    path = tmp_path / "identity.json"
    path.write_text(
        json.dumps([{"instruction": "你是谁？", "input": "", "output": "我是 {{name}}。"}] * 2, ensure_ascii=False), "utf-8"
    )
    import_file(path, "identity")
    app = open_page(DATA, dataset="identity")
    check(app)
    shown = next(frame.value for frame in app.dataframe if "instruction" in frame.value or "input" in frame.value)
    assert shown["instruction"].tolist() == ["你是谁？"] * len(shown)
    assert any("你是谁？" in text for text in texts(app))
    assert not any("The input is empty" in text for text in texts(app))


def test_the_contents_of_a_classification_are_its_classes(open_page: Callable[..., AppTest], tmp_path: Path) -> None:
    path = tmp_path / "intents.csv"
    rows = [("card", n) for n in range(9)] + [("转账", n) for n in range(3)] + [("loan", 0)]
    path.write_text("text,label\n" + "".join(f"{label} question {n},{label}\n" for label, n in rows), "utf-8")
    import_file(path, "intents", task="classification")
    assert profile("intents").facts["class_counts"] == {"card": 9, "转账": 3, "loan": 1}
    app = open_page(DATA, dataset="intents", data_view="Contents")
    check(app)
    told = [caption.value for caption in app.caption if "3 classes; the commonest has 69 % of the rows." in caption.value]
    assert len(told) == 1  # without faults they are the page's chart, and no tab says them again


def test_placeholders_are_filled_in_by_a_step(open_page: Callable[..., AppTest], tmp_path: Path) -> None:
    path = tmp_path / "identity.json"
    rows = [{"instruction": f"问 {n}", "input": "", "output": "我是 {{name}}，由 {{author}} 开发。"} for n in range(3)]
    path.write_text(json.dumps(rows, ensure_ascii=False), "utf-8")
    import_file(path, "identity")
    app = open_page(DATA, dataset="identity")
    app.selectbox(key="recipe_add_op").set_value("replace_text").run()
    app.text_area(key="recipe_new_replace_text_replacements").set_value("{{name}} = 小智\n{{author}} = 云海").run()
    app.button(key="recipe_add_go").click().run()
    check(app)
    app.button(key="recipe_apply").click().run()
    check(app)
    assert read_rows("identity")["output"].to_pylist() == ["我是 小智，由 云海 开发。"] * 3
    assert profile("identity").issues["placeholder"] == 0
    assert read_ledger("identity")["reason"].to_pylist() == ["replaced: {{author}}, {{name}}"] * 3
