"""Cells with several values: how they are taken apart, what is suggested, and that nothing is split unasked."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.__main__ import main
from core.data.importing import guess, import_file
from core.data.quarantine import repair
from core.data.readers.separators import KINDS, suggested
from core.data.several import LINES, LIST, parse_separators, values_of
from core.errors import InputFileError
from core.store import datasets as store
from tests.data.test_readers_files import delimited, parquet, workbook

ALL = {"*": "element"}


@pytest.mark.parametrize(
    ("cell", "separators", "values"),
    [
        ("Alice; Bob", ";", ["Alice", "Bob"]),
        ("张三、李四", "、", ["张三", "李四"]),
        ("张三；李四;王五", ";；", ["张三", "李四", "王五"]),
        ("甲，乙,丙", ",，", ["甲", "乙", "丙"]),
        ("a|b｜c", "|｜", ["a", "b", "c"]),
        (" ;a;; b ;", ";", ["a", "b"]),
        ("　张三　、　", "、", ["张三"]),
        ("1,000", ",", ["1,000"]),
        ("1,000, 2,000.50", ",", ["1,000", "2,000.50"]),
        ("１，０００，两千", "，", ["１，０００", "两千"]),
        ("1、2、3", "、", ["1", "2", "3"]),
        ("2024/05/06", "/", ["2024/05/06"]),
        ("8:30-9:00", ":-", ["8:30-9:00"]),
        ('"Smith, John", "Doe, ""J"" Jane"', ",", ["Smith, John", 'Doe, "J" Jane']),
        ('She said "a, b", then c', ",", ['She said "a, b"', "then c"]),
        ("“甲、乙”、丙", "、", ["“甲、乙”", "丙"]),
        ("《论语、孟子》、《大学》", "、", ["《论语、孟子》", "《大学》"]),
        ("A公司（北京、上海）、B公司", "、", ["A公司（北京、上海）", "B公司"]),
        ("(a [b; c]; d); e", ";", ["(a [b; c]; d)", "e"]),
        ("(a; b", ";", ["(a", "b"]),
        ("“甲、乙", "、", ["“甲", "乙"]),
        ("O'Brien; D'Arcy; ‘90s", ";", ["O'Brien", "D'Arcy", "‘90s"]),
        ('5" pipe; 6" pipe', ";", ['5" pipe', '6" pipe']),
        ("AT&amp;T; R&#38;D", ";", ["AT&amp;T", "R&#38;D"]),
        ("one", ";", ["one"]),
        ("", ";", []),
    ],
)
def test_single_signs(cell: str, separators: str, values: list[str]) -> None:
    assert values_of(cell, tuple(separators)) == values


@pytest.mark.parametrize(
    ("cell", "separators", "values"),
    [
        ("Alice, Bob, and Carol", [",", ", and "], ["Alice", "Bob", "Carol"]),
        ("A / B/C", [" / "], ["A", "B/C"]),
        ("张三和李四", ["和"], ["张三", "李四"]),
        ("a\nb\r\n c\rd", [LINES], ["a", "b", "c", "d"]),
        ('["张三", " 李四 ", "", null, 1.50, true]', [LIST], ["张三", "李四", "1.50", "true"]),
        ("['Ann', \"O'Brien\", 3]", [LIST], ["Ann", "O'Brien", "3"]),
        ("['a' 'b']", [LIST], ["['a' 'b']"]),
        ("[a, b]", [LIST], ["[a, b]"]),
        ('[{"name": "x"}]', [LIST], [{"name": "x"}]),
        ('["a"]', [LIST], ["a"]),
        ("[]", [LIST], []),
        ('["a; b"]', [LIST, ";"], ["a; b"]),
        ("a; b", [LIST, ";"], ["a", "b"]),
        ("[" * 5_000 + "]" * 5_000, [LIST], ["[" * 5_000 + "]" * 5_000]),
    ],
)
def test_words_and_longer_separators(cell: str, separators: list[str], values: list[Any]) -> None:
    assert values_of(cell, separators) == values


@given(st.text("ab1,，;；、|\"'“”（）()[]&; \n", max_size=30), st.sampled_from([*KINDS[1:], (LIST, ";")]))
def test_splitting_only_takes_separators_blanks_and_quotes_away(cell: str, separators: tuple[str, ...]) -> None:
    values = values_of(cell, separators)
    assert all(value == value.strip() and value for value in values)
    gone = set("".join(sign for sign in separators if sign not in (LINES, LIST)) + ' "\n[]')
    kept = [c for c in cell if c not in gone]
    assert [c for value in values for c in value if c not in gone] == kept
    assert values_of(cell, ()) == ([cell.strip()] if cell.strip() else [])


TABLE: list[dict[str, str]] = [
    {"文本": "张三与李四合著，付1,000元。", "作者": "张三、李四", "金额": "1,000", "tags": "a1; b2", "地址": "Paris, France"},
    {"文本": "本书由王五及赵六所作。", "作者": "王五、赵六", "金额": "", "tags": "b2", "地址": "Lyon, France"},
    {"文本": "作者：孙七。付2,000元。", "作者": "孙七", "金额": "2,000", "tags": "a1; c3", "地址": ""},
]
FILES: dict[str, bytes] = {
    "a.csv": delimited(TABLE, ",").encode("gb18030"),
    "a.xlsx": workbook({"表": [list(TABLE[0]), *([cell or None for cell in row.values()] for row in TABLE)]}),
    "a.parquet": parquet(TABLE),
}


@pytest.mark.parametrize("file", FILES)
def test_cells_are_split_where_told_and_a_column_holds_lists_throughout(tmp_path: Path, file: str) -> None:
    (tmp_path / file).write_bytes(FILES[file])
    made = import_file(tmp_path / file, "d", mapping=ALL, separators={"作者": ["、"], "tags": [";"]})
    answers = [json.loads(text) for text in store.read_rows("d")["output"].to_pylist()]
    assert [answer["作者"] for answer in answers] == [["张三", "李四"], ["王五", "赵六"], ["孙七"]]
    assert [answer.get("金额") for answer in answers] == ["1,000", None, "2,000"]
    assert [answer["tags"] for answer in answers] == [["a1", "b2"], ["b2"], ["a1", "c3"]]
    assert made.several == {"作者": 2, "tags": 2}
    step = made.version.recipe[0].params
    assert step["options"] == {"separators": {"作者": ["、"], "tags": [";"]}}
    assert step["several"] == {"作者": 2, "tags": 2}
    told = "作者 split at 、 (2 with several values); tags split at ; (2 with several values)"
    assert made.version.note == f"import {file}; {told}"


def test_nothing_is_split_unasked_but_what_is_sure_is_suggested(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(FILES["a.csv"])
    made = import_file(tmp_path / "a.csv", "d", mapping=ALL)
    assert json.loads(store.read_rows("d")["output"][0].as_py())["作者"] == "张三、李四"
    assert made.several == {}
    assert "options" not in made.version.recipe[0].params or not made.version.recipe[0].params["options"]
    assert {one.column: (one.separators, one.cells, one.filled) for one in made.suggested} == {
        "作者": (("、",), 2, 3), "tags": ((";",), 2, 3),
    }  # fmt: skip
    seen = guess(tmp_path / "a.csv", mapping=ALL, separators={"作者": ["、"]})
    assert [one.column for one in seen.suggested] == ["tags"]
    assert seen.several[0].examples[0] == ("张三、李四", ("张三", "李四"))
    assert json.loads(seen.preview[0]["output"])["作者"] == ["张三", "李四"]


def _suggested(cells: list[str], texts: list[str] | None = None) -> tuple[str, ...] | None:
    records = [{"t": text, "c": cell} for text, cell in zip(texts or [""] * len(cells), cells, strict=True)]
    found = suggested(records, {"t": "input", "c": "element"})
    return found[0].separators if found else None


@pytest.mark.parametrize(
    ("cells", "texts", "separators"),
    [
        (["a; b", "c；d", "e"], None, (";", "；")),
        (['["a"]', '["a","b"]', '["c","d"]'], None, (LIST,)),
        (["['甲']", "['甲', '乙']", "['乙', '丙']"], None, (LIST,)),
        (["甲、乙", "甲", "甲、丙"], None, ("、",)),
        (["red, blue", "red", "blue", "blue, red"], None, (",",)),
        (["Ann, Bob", "Cid, Dan"], ["Ann met Bob", "Cid and Dan"], (",",)),
        (["Ann\nBob", "Cid\nDan"], ["Ann met Bob", "Cid and Dan"], (LINES,)),
        (["A / B", "A", "B"], None, None),
        (["A / B", "A", "B", "B / A"], None, (" / ",)),
        (["12 Main St\nParis", "1 Low Rd\nLyon"], ["at 12 Main St\nParis", "1 Low Rd\nLyon, France"], None),
        (["Paris, France", "Lyon, France"], ["in Paris, France", "to Lyon, France"], None),
        (["安装、调试服务", "运输、保管"], ["负责安装、调试服务", "运输、保管"], None),
        (["1,000", "2,500", "3,250"], ["", "", ""], None),
        (["AT&amp;T", "R&amp;D", "B&amp;B"], None, None),
        (["甲方应当在签收后七日内付清全部货款。逾期的，按日计息；乙方有权解除合同。"] * 3, None, None),
        (["a; b", "c", "d"], None, None),
        (["a, b"] * 3 + ["Smith, John"] * 9, None, None),
    ],
)
def test_a_suggestion_needs_strong_evidence(
    cells: list[str], texts: list[str] | None, separators: tuple[str, ...] | None
) -> None:
    assert _suggested(cells, texts) == separators


@pytest.mark.parametrize(
    ("separators", "told"),
    [
        ({"文本": [";"]}, "'文本' can't be split"),
        ({"nope": [";"]}, "no element 'nope'"),
    ],
)
def test_separators_of_what_is_no_element_are_refused(
    tmp_path: Path, workspace: Path, separators: dict[str, list[str]], told: str
) -> None:
    (tmp_path / "a.csv").write_bytes(FILES["a.csv"])
    for read in (lambda: guess(tmp_path / "a.csv", mapping=ALL, separators=separators),
                 lambda: import_file(tmp_path / "a.csv", "d", mapping=ALL, separators=separators)):  # fmt: skip
        with pytest.raises(InputFileError, match=told):
            read()
    (tmp_path / "b.csv").write_text("text,label\nx,a;b\n", "utf-8")
    with pytest.raises(InputFileError, match="no elements whose cells"):
        import_file(tmp_path / "b.csv", "d", separators={"*": [";"]})
    assert not workspace.exists()


def test_files_of_a_folder_need_not_all_have_the_column(tmp_path: Path) -> None:
    folder = tmp_path / "both"
    folder.mkdir()
    (folder / "a.csv").write_text("text,who\nx,Ann; Bob\n", "utf-8")
    (folder / "b.csv").write_text("text,when\nx,May; June\n", "utf-8")
    made = import_file(folder, "d", mapping=ALL, separators={"when": [";"]})
    assert store.read_rows("d")["output"].to_pylist() == ['{"who":"Ann; Bob"}', '{"when":["May","June"]}']
    assert made.several == {"when": 1}
    assert "when split at ; (1 with several values)" in made.version.note
    import_file(folder, "e", mapping=ALL, separators={"*": [";"]})
    assert store.read_rows("e")["output"].to_pylist()[0] == '{"who":["Ann","Bob"]}'


def test_a_mended_row_is_split_like_the_others(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("text,who\nx,Ann; Bob\ny,Cid,more\n", "utf-8")
    import_file(tmp_path / "a.csv", "d", mapping=ALL, separators={"*": [";"]})
    repair("d", store.read_quarantine("d")["quarantine_id"][0].as_py(), "y,Cid; Dan")
    assert store.read_rows("d")["output"].to_pylist() == ['{"who":["Ann","Bob"]}', '{"who":["Cid","Dan"]}']


def test_separators_of_the_command_line() -> None:
    assert parse_separators(["a=;", "a=；", "b=c=list", "*=、"]) == {"a": (";", "；"), "b=c": ("list",), "*": ("、",)}
    for wrong in ("a", "=;", "a="):
        with pytest.raises(InputFileError, match="is not column=separator"):
            parse_separators([wrong])


def test_on_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.csv").write_bytes(FILES["a.csv"])

    def run(*options: str) -> str:
        assert main(["import", str(tmp_path / "a.csv"), "--name", "d", "--map", "*=element", *options]) == 0
        return capsys.readouterr().out

    said = run("--dry-run")
    assert "作者 seems to hold several values in 2 of the first 3 cells ('张三、李四': 张三 | 李四); none was split." in said
    assert "To split: --separator 'tags=;'" in said
    said = run("--separator", "作者=、", "--separator", "tags=;", "--dry-run")
    assert "作者 is split in 2 of the first 3 cells ('张三、李四': 张三 | 李四)" in said
    assert "seems to hold" not in said
    made = json.loads(run("--separator", "作者=、", "--json"))
    assert (made["several"], [one["column"] for one in made["suggested"]]) == ({"作者": 2}, ["tags"])
    said = run("--separator", "*=、")
    assert "作者 was split: several values in 2 of 3 rows" in said
