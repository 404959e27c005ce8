"""Import on the page of a table with a column for each element."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from streamlit.testing.v1 import AppTest

from core.store.datasets import get_version, list_datasets, read_rows
from tests.pages.conftest import check
from tests.pages.test_data import _open_import

LABEL = "Columns that are elements"


def _boxes(app: AppTest) -> dict[str, str]:
    return {box.label: box.value for box in app.selectbox if (box.key or "").startswith("import_column_")}


def _elements(app: AppTest) -> list[str]:
    return next(list(choice.options) for choice in app.multiselect if choice.label == LABEL)


def _choose(app: AppTest, *names: str) -> None:
    next(choice for choice in app.multiselect if choice.label == LABEL).set_value(list(names)).run()
    assert not app.exception


def test_columns_are_chosen_as_elements_where_no_name_tells(open_page: Callable[..., AppTest], tmp_path: Path) -> None:
    path = tmp_path / "contracts.csv"
    path.write_text("正文,甲方,金额,备注\n云海公司付 5 元。,云海公司,5 元,x\n无事。,,,y\n", encoding="utf-8")
    app = _open_import(open_page, str(path))
    assert any("which columns are elements" in info.value for info in app.info)
    assert _elements(app) == ["正文", "甲方", "金额", "备注"]
    _choose(app, "金额", "甲方")
    assert _boxes(app) == {"正文": "not used", "备注": "not used"}
    assert [info.value for info in app.info] == ["Choose which column holds the text (input)."]
    app.selectbox(key="import_column_columns_正文").set_value("input").run()
    assert not [*app.error, *app.info]
    assert app.selectbox(key="import_task").value == "extraction"
    app.button(key="import_go").click().run()
    check(app)
    rows = read_rows("contracts").to_pylist()
    assert [(row["input"], row["output"]) for row in rows] == [
        ("云海公司付 5 元。", '{"甲方":"云海公司","金额":"5 元"}'),
        ("无事。", "{}"),
    ]
    assert [json.loads(row["extra"]) for row in rows] == [{"备注": "x"}, {"备注": "y"}]
    assert list_datasets()[0].elements == ("甲方", "金额")


def test_columns_whose_cells_stand_in_another_are_chosen_at_first(open_page: Callable[..., AppTest], tmp_path: Path) -> None:
    path = tmp_path / "ledger.csv"
    rows = [
        "正文,甲方,金额,备注",
        *(f"{who}付 {n} 元。,{who},{n} 元,加急" for n, who in enumerate(["云海公司", "海蓝公司", "江河公司"])),
    ]
    path.write_text("\n".join(rows), encoding="gb18030")
    app = _open_import(open_page, str(path))
    assert next(choice.value for choice in app.multiselect if choice.label == LABEL) == ["甲方", "金额"]
    assert _boxes(app) == {"正文": "input", "备注": "not used"}
    assert any("their cells stand in 正文" in caption.value for caption in app.caption)
    _choose(app, "甲方")
    assert not any("their cells stand" in caption.value for caption in app.caption)
    app.button(key="import_go").click().run()
    check(app)
    assert read_rows("ledger")["output"].to_pylist() == ['{"甲方":"云海公司"}', '{"甲方":"海蓝公司"}', '{"甲方":"江河公司"}']


def test_an_answer_that_was_guessed_gives_way_and_comes_back(open_page: Callable[..., AppTest], tmp_path: Path) -> None:
    path = tmp_path / "notices.csv"
    path.write_text("text,label,amount\nPaid 5.,bill,5\n", encoding="utf-8")
    app = _open_import(open_page, str(path))
    assert _boxes(app) == {"text": "input", "label": "output", "amount": "not used"}
    _choose(app, "amount")
    assert _boxes(app) == {"text": "input", "label": "not used"}
    assert not [*app.error, *app.info]
    app.selectbox(key="import_column_columns_text").set_value("not used").run()
    assert any("holds the text" in info.value for info in app.info)
    _choose(app)
    assert _boxes(app) == {"text": "input", "label": "output", "amount": "not used"}
    _choose(app, "label", "amount")
    other = tmp_path / "other.csv"
    other.write_text("text,label,place\nIn Rome.,trip,Rome\n", encoding="utf-8")
    app.text_input(key="import_path").set_value(str(other)).run()
    assert not app.exception
    assert _boxes(app) == {"text": "input", "label": "output", "place": "not used"}
    app.text_input(key="import_path").set_value(str(path)).run()
    _choose(app, "label", "amount")
    app.selectbox(key="import_column_columns_text").set_value("input").run()
    app.button(key="import_go").click().run()
    check(app)
    assert read_rows("notices")["output"].to_pylist() == ['{"label":"bill","amount":"5"}']


def test_cells_with_several_values_are_split_when_it_is_chosen(open_page: Callable[..., AppTest], tmp_path: Path) -> None:
    path = tmp_path / "books.csv"
    path.write_text(
        'text,作者,price,tags\n张三与李四合著。,张三、李四,"1,000",x\n王五及赵六著。,王五、赵六,,a and b\n',
        encoding="utf-8",
    )
    app = _open_import(open_page, str(path))
    _choose(app, "作者", "price", "tags")
    heading = [expander.label for expander in app.expander if "several values" in expander.label]
    assert heading == ["Cells with several values: 1 element seems to have some"]
    assert any("2 of the first 2 cells look like several values" in line.value for line in app.markdown)
    boxes = {box.label: box for box in app.selectbox if (box.key or "").startswith("import_separator_")}
    assert {name: box.value for name, box in boxes.items()} == {"作者": "one value", "price": "one value", "tags": "one value"}
    app.button(key="import_separators_suggested").click().run()
    assert not app.exception
    assert any("are split at 、" in line.value for line in app.markdown)
    assert "import_separators_suggested" not in [button.key for button in app.button]
    boxes = {box.label: box for box in app.selectbox if (box.key or "").startswith("import_separator_")}
    assert boxes["作者"].value == "、"
    boxes["price"].set_value(", or ，").run()
    app.button(key="import_go").click().run()
    check(app)
    assert read_rows("books")["output"].to_pylist() == [
        '{"作者":["张三","李四"],"price":["1,000"],"tags":"x"}',
        '{"作者":["王五","赵六"],"tags":"a and b"}',
    ]
    assert "作者 split at 、 (2 with several values)" in get_version("books").note


def test_nothing_is_split_unasked(open_page: Callable[..., AppTest], tmp_path: Path) -> None:
    path = tmp_path / "mails.csv"
    path.write_text("text,who\nAnn met Bob,Ann; Bob\nCid and Dan,Cid; Dan\n", encoding="utf-8")
    app = _open_import(open_page, str(path))
    _choose(app, "who")
    app.button(key="import_go").click().run()
    check(app)
    assert read_rows("mails")["output"].to_pylist() == ['{"who":"Ann; Bob"}', '{"who":"Cid; Dan"}']
