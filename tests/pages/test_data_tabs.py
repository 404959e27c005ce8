"""Data's further tabs: mix, split with its leaks, storage and deletion, export in every form, recipes as files."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from core.data import recipes
from core.data.export import FORMATS
from core.data.importing import import_file
from core.data.mix import plan_mix
from core.data.split import preview_split
from core.records import Step
from core.store.datasets import get_dataset, get_version, list_datasets, list_versions, read_rows
from core.store.runs import list_evaluations
from pages.ui import datatabs
from tests.pages.conftest import check, texts
from tests.pages.filled import NAME, fill

DATA = "pages/1_Data.py"


def _second(folder: Path) -> None:
    path = folder / "second.jsonl"
    lines = [json.dumps({"input": f"Second {n}", "output": "{}"}) for n in range(20)]
    path.write_text("\n".join(lines), encoding="utf-8")
    import_file(path, "second", task="extraction", elements=("person",))


def _button(app: AppTest, key: str) -> bool:
    return key in [button.key for button in app.button]


def test_a_mix_shows_its_counts_before_it_is_made(open_page: Callable[..., AppTest], tmp_path: Path) -> None:
    fill(tmp_path, evaluations=False)
    _second(tmp_path)
    app = open_page(DATA, data_view="Mix", dataset=NAME)
    check(app)
    assert not _button(app, "mix_go")
    app.multiselect(key="mix_parts").set_value([NAME, "second"]).run()
    app.number_input(key="mix_weight_second").set_value(0.5).run()
    check(app)
    parts = plan_mix({NAME: 1.0, "second": 0.5})
    shown = next(table.value for table in app.dataframe if "held_out" in table.value)
    assert shown["taken"].tolist() == [part.taken for part in parts] == [40, 20]
    assert app.button(key="mix_go").label == "Make a mix of 80 rows"
    app.text_input(key="mix_name").set_value("both").run()
    app.button(key="mix_go").click().run()
    check(app)
    assert get_version("both").rows == 80
    assert app.session_state["dataset"] == "both"


def test_a_mix_under_a_name_that_is_taken_is_refused_with_a_way_out(open_page: Callable[..., AppTest], tmp_path: Path) -> None:
    fill(tmp_path, evaluations=False)
    _second(tmp_path)
    app = open_page(DATA, data_view="Mix", dataset=NAME)
    app.multiselect(key="mix_parts").set_value([NAME, "second"]).run()
    app.text_input(key="mix_name").set_value("second").run()
    app.button(key="mix_go").click().run()
    check(app)
    assert any("Choose another name" in error.value for error in app.error)


def test_the_split_tab_shows_what_leaks_before_and_after(open_page: Callable[..., AppTest], tmp_path: Path) -> None:
    fill(tmp_path, evaluations=False)
    seen = preview_split(NAME, dev=0.1, test=0.1)
    assert seen.before.exact > 0
    assert (seen.after.exact, seen.after.near) == (0, 0)
    app = open_page(DATA, data_view="Split")
    check(app)
    shown = next(table.value for table in app.dataframe if "exact" in table.value)
    assert shown["exact"].tolist() == [seen.before.exact, 0]
    assert shown["near"].tolist() == [seen.before.near, 0]
    assert list_versions(NAME)[-1].number == 1
    app.button(key="split_go").click().run()
    assert not app.exception
    assert get_version(NAME).split_sizes == seen.sizes


def test_leaks_of_many_rows_are_counted_on_demand(
    open_page: Callable[..., AppTest], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(tmp_path, evaluations=False)
    monkeypatch.setattr(datatabs, "LIVE_SPLIT", 10)
    app = open_page(DATA, data_view="Split")
    assert not any("exact" in table.value for table in app.dataframe)
    app.button(key="split_count").click().run()
    assert any("exact" in table.value for table in app.dataframe)


def test_a_dataset_is_deleted_after_what_hangs_on_it_was_shown(open_page: Callable[..., AppTest], tmp_path: Path) -> None:
    fill(tmp_path)
    app = open_page(DATA, data_view="Storage")
    check(app)
    assert any("take up" in text for text in texts(app))
    app.button(key="delete_dataset").click().run()
    check(app)
    goes = next(table.value for table in app.dataframe if set(table.value.get("kind", [])) >= {"Version"})
    assert goes["kind"].tolist().count("Evaluation") == 2
    assert any("stays usable" in text for text in texts(app))
    assert list_datasets()
    app.button(key="delete_keep").click().run()
    assert not _button(app, "delete_go")
    app.button(key="delete_dataset").click().run()
    app.button(key="delete_go").click().run()
    check(app)
    assert not list_datasets()
    assert not list_evaluations()
    assert "wrong with your data" in app.header[0].value


def test_an_earlier_version_is_deleted_and_the_latest_stays(open_page: Callable[..., AppTest], tmp_path: Path) -> None:
    fill(tmp_path, evaluations=False)
    recipes.apply(NAME, [Step(op="drop_exact_duplicates")])
    app = open_page(DATA, data_view="Storage", dataset=NAME, version="v1")
    app.button(key="delete_version").click().run()
    app.button(key="delete_go").click().run()
    check(app)
    assert [version.number for version in list_versions(NAME)] == [2]
    assert app.button(key="delete_version").disabled


@pytest.mark.parametrize("form", FORMATS)
def test_every_form_is_exported(tmp_path: Path, form: str) -> None:
    fill(tmp_path, evaluations=False)
    content = datatabs._exported(NAME, 1, form, "", "rows")
    assert content
    if form == "datasets":
        from datasets import load_from_disk

        with zipfile.ZipFile(io.BytesIO(content)) as packed:
            packed.extractall(tmp_path / "back")
        back = load_from_disk(str(tmp_path / "back"))
        assert {name: part.num_rows for name, part in back.items()} == get_version(NAME).split_sizes


def test_every_form_is_offered(open_page: Callable[..., AppTest], tmp_path: Path) -> None:
    fill(tmp_path, evaluations=False)
    app = open_page(DATA, data_view="Export")
    check(app)
    assert len(app.selectbox(key="export_form").options) == len(FORMATS)


def test_what_a_form_leaves_out_is_said_before_it_is_exported(open_page: Callable[..., AppTest], tmp_path: Path) -> None:
    path = tmp_path / "mails.jsonl"
    row = {"input": "甲方云海公司", "output": {"甲方": "云海公司"}, "language": "zh"}
    path.write_text("".join(json.dumps(row | {"split": split}) + "\n" for split in ("train", "train", "test")), "utf-8")
    import_file(path, "mails")
    app = open_page(DATA, data_view="Export", dataset="mails")

    def told(form: str, split: str = "") -> list[str]:
        app.selectbox(key="export_form").set_value(form)
        app.selectbox(key="export_split").set_value(split).run()
        check(app)
        return [line.value.replace("\\", "") for line in app.markdown if ":material/warning:" in line.value]

    left, mixed = told("openai")
    assert "Left out: language (3 rows), split (3 rows)." in left
    assert "Rows of train (2) and test (1) are in one file" in mixed
    assert ["language (2 rows)" in line for line in told("openai", "train")] == [True]
    assert ["are in one file" in line for line in told("alpaca")] == [True]
    assert told("jsonl") == []


def test_a_form_that_cannot_hold_a_conversation_says_so_instead_of_a_download(
    open_page: Callable[..., AppTest], tmp_path: Path
) -> None:
    turns = [{"role": role, "content": "x"} for role in ("user", "assistant", "tool", "assistant")]
    path = tmp_path / "calls.jsonl"
    path.write_text("".join(json.dumps({"messages": talk}) + "\n" for talk in (turns, turns, turns[:2] * 2)), "utf-8")
    import_file(path, "calls")
    app = open_page(DATA, data_view="Export", dataset="calls")
    app.selectbox(key="export_form").set_value("alpaca").run()
    check(app)
    assert any("2 conversations are no plain exchange" in line.value and ":red[" in line.value for line in app.markdown)
    app.selectbox(key="export_form").set_value("openai").run()
    check(app)
    assert any("2 conversations hold calls of functions as text" in line.value for line in app.markdown)
    assert not any(":red[:material/error:" in line.value for line in app.markdown)


def test_rows_that_are_in_a_split_can_stay_there(open_page: Callable[..., AppTest], tmp_path: Path) -> None:
    path = tmp_path / "mails.jsonl"
    splits = ["test"] * 4 + [""] * 20
    path.write_text(
        "".join(json.dumps({"input": f"q {n}", "output": "a", "split": s}) + "\n" for n, s in enumerate(splits)), "utf-8"
    )
    import_file(path, "mails", task="generation")
    app = open_page(DATA, data_view="Split", dataset="mails")
    assert app.button(key="split_go").label == "Split 24 rows"
    app.toggle(key="split_keep").set_value(True).run()
    check(app)
    assert app.button(key="split_go").label == "Split 20 rows"
    app.button(key="split_go").click().run()
    check(app)
    assert read_rows("mails")["split"].to_pylist()[:4] == ["test"] * 4
    assert "" not in get_version("mails").split_sizes


def test_a_recipe_is_saved_and_proposed_again_on_other_data(open_page: Callable[..., AppTest], tmp_path: Path) -> None:
    fill(tmp_path, evaluations=False)
    steps = [Step(op="drop_exact_duplicates"), Step(op="sample", params={"rows": 30, "seed": 3})]
    app = open_page(DATA)
    app.file_uploader(key="recipe_load").upload("mine.yaml", recipes.dump_recipe(steps).encode(), "application/yaml").run()
    app.button(key="recipe_load_go").click().run()
    check(app)
    assert app.button(key="recipe_apply").label == "Apply 2 steps to 60 rows"
    app.button(key="recipe_apply").click().run()
    assert read_rows(NAME).num_rows == 30
    assert get_dataset(NAME)


def test_a_file_that_is_no_recipe_changes_nothing_and_says_why(open_page: Callable[..., AppTest], tmp_path: Path) -> None:
    fill(tmp_path, evaluations=False)
    app = open_page(DATA)
    before = app.button(key="recipe_apply").label
    app.file_uploader(key="recipe_load").upload("bad.yaml", b"steps: [{op: nonsense}]", "application/yaml").run()
    app.button(key="recipe_load_go").click().run()
    check(app)
    assert any("nonsense" in error.value for error in app.error)
    assert app.button(key="recipe_apply").label == before
    app.file_uploader(key="recipe_load").upload("worse.yaml", b"\xff\xfe{", "application/yaml").run()
    app.button(key="recipe_load_go").click().run()
    check(app)
    assert any("worse.yaml" in error.value for error in app.error)
