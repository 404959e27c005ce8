"""Data: health, issues, recipe, undo, hand edits, quarantine, on an empty and on a filled workspace."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from core.data import recipes
from core.data.importing import import_file
from core.data.profile import profile
from core.records import Step
from core.store.datasets import get_version, list_datasets, read_ledger, read_quarantine, read_rows
from tests.pages.conftest import check, texts
from tests.pages.filled import NAME, fill

DATA = "pages/1_Data.py"
VIEWS = ("Contents", "Edit by hand", "Versions", "Ledger", "Quarantine", "Split", "Export")


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


@pytest.mark.parametrize("view", VIEWS)
def test_tabs(open_page: Callable[..., AppTest], tmp_path: Path, view: str) -> None:
    fill(tmp_path)
    recipes.apply(NAME, [Step(op="fix_json"), Step(op="drop_exact_duplicates")])
    app = open_page(DATA, data_view=view)
    check(app)
    expected = {
        "Versions": "Versions never change", "Ledger": "made version 2", "Quarantine": "kept aside, for",
        "Split": "both sides", "Export": "made harmless", "Edit by hand": "Changed cells become one step",
        "Contents": "3 elements: person, organization, date.",
    }  # fmt: skip
    assert any(expected[view] in text for text in texts(app))


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
