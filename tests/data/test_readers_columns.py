"""A table with a column for each element: what its answers are, and what stays as in any other import."""

from __future__ import annotations

import json
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from core.__main__ import main
from core.data.export import export
from core.data.importing import guess, import_file
from core.data.quarantine import repair
from core.errors import InputFileError
from core.store import datasets as store
from tests.data.test_readers_files import delimited, parquet, workbook

ALL = {"*": "element"}
HEADINGS = ["文本", "甲方", "金额", "日期", "备注"]
TABLE = [
    ["甲方云海公司付 1,200.00 元。", " 云海公司 ", "1,200.00", "", "已核对"],
    ["甲方A、B公司。", "A公司、B公司", "", "2024-05-06", ""],
    ["无事。", "", "　", "", ""],
]
ANSWERS = ['{"甲方":"云海公司","金额":"1,200.00"}', '{"甲方":"A公司、B公司","日期":"2024-05-06"}', "{}"]
RECORDS = [dict(zip(HEADINGS, row, strict=True)) for row in TABLE]
FILES: dict[str, bytes] = {
    "a.csv": delimited(RECORDS, ",").encode("gb18030"),
    "a.tsv": delimited(RECORDS, "\t").encode("utf-8-sig"),
    "a.xlsx": workbook({"表": [HEADINGS, *([cell or None for cell in row] for row in TABLE)]}),
    "a.parquet": parquet(RECORDS),
    "a.jsonl": "".join(json.dumps(r, ensure_ascii=False) + "\n" for r in RECORDS).encode(),
}


def outputs(name: str = "d") -> list[str]:
    return store.read_rows(name)["output"].to_pylist()  # type: ignore[no-any-return]


@pytest.mark.parametrize("file", FILES)
def test_every_kind_of_table_gives_the_same_rows(tmp_path: Path, file: str) -> None:
    (tmp_path / file).write_bytes(FILES[file])
    made = import_file(tmp_path / file, "d", mapping=ALL | {"备注": "extra"})
    rows = store.read_rows("d").to_pylist()
    assert [(r["input"], r["output"]) for r in rows] == [(row[0], answer) for row, answer in zip(TABLE, ANSWERS, strict=True)]
    assert [json.loads(r["extra"]) for r in rows] == [{"备注": row[-1]} for row in TABLE]
    assert [r["row_id"].rpartition("-")[2] for r in rows] == ["0000001", "0000002", "0000003"]
    assert (made.dataset.task, made.dataset.elements, made.dataset.elements_inferred) == (
        "extraction",
        ("甲方", "金额", "日期"),
        False,
    )


def test_elements_named_one_by_one_leave_the_rest_beside_and_stand_in_the_files_order(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("Text,Party,Amount,Date,Split\nx,Ann,12.50,May,validation\n", "utf-8")
    import_file(tmp_path / "a.csv", "d", mapping={"Amount": "element", "Party": "element"})
    row = store.read_rows("d").to_pylist()[0]
    assert (row["input"], row["output"], row["split"], row["extra"]) == (
        "x", '{"Party":"Ann","Amount":"12.50"}', "dev", '{"Date":"May"}',
    )  # fmt: skip


def test_headings_that_are_fields_names_can_be_elements(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("text,output,标签,title,任务,messages,*,a=b\nx,o,t,T,k,m,s,e\n", "utf-8")
    import_file(tmp_path / "a.csv", "d", mapping={"*": "element"})
    assert outputs() == ['{"*":"s"}'], "a column of that very name is meant"
    (tmp_path / "b.csv").write_text("text,output,标签,title,任务,messages,split,a=b\nx,o,t,T,k,m,dev,e\n", "utf-8")
    import_file(tmp_path / "b.csv", "e", mapping=ALL)
    assert json.loads(outputs("e")[0]) == {
        "output": "o", "标签": "t", "title": "T", "任务": "k", "messages": "m", "a=b": "e",
    }  # fmt: skip
    assert store.read_rows("e").to_pylist()[0]["split"] == "dev"
    import_file(tmp_path / "b.csv", "f", mapping={"split": "element", "title": "input"})
    assert (outputs("f"), store.read_rows("f")["input"].to_pylist()) == (['{"split":"dev"}'], ["T"])


@pytest.mark.parametrize("kind", ["csv", "xlsx"])
def test_repeated_headings_are_told_apart_and_blank_ones_are_no_elements(tmp_path: Path, kind: str) -> None:
    table = [["text", "甲方", "", "甲方"], ["x", "A", "", "B"], ["y", "", "note", "C"]]
    path = tmp_path / f"a.{kind}"
    path.write_bytes(workbook({"s": table}) if kind == "xlsx" else "".join(",".join(row) + "\n" for row in table).encode())
    import_file(path, "d", mapping=ALL)
    assert outputs() == ['{"甲方":"A","甲方_2":"B"}', '{"甲方_2":"C"}']
    assert store.find_dataset("d").elements == ("甲方", "甲方_2")  # type: ignore[union-attr]
    assert [json.loads(extra) for extra in store.read_rows("d")["extra"].to_pylist()] == [{"column_3": ""}, {"column_3": "note"}]


def test_typed_cells_are_written_as_a_spreadsheet_shows_them(tmp_path: Path) -> None:
    columns: dict[str, list[Any]] = {
        "text": ["a", "b"],
        "n": [1200.0, None],
        "rate": [2.5, float("nan")],
        "paid": [True, None],
        "price": [Decimal("12.50"), None],
        "on": [date(2024, 5, 6), None],
        "names": [["x", "y"], []],
    }
    pq.write_table(pa.table(columns), tmp_path / "a.parquet")
    import_file(tmp_path / "a.parquet", "d", mapping=ALL)
    first = {"n": "1200", "rate": "2.5", "paid": "true", "price": "12.50", "on": "2024-05-06", "names": ["x", "y"]}
    assert [json.loads(text) for text in outputs()] == [first, {}]
    sheet = [["text", "n", "rate", "on"], ["a", 1200, 2.5, date(2024, 5, 6)]]
    (tmp_path / "a.xlsx").write_bytes(workbook({"s": sheet}))
    import_file(tmp_path / "a.xlsx", "e", mapping=ALL)
    assert outputs("e") == ['{"n":"1200","rate":"2.5","on":"2024-05-06"}']


def test_our_marked_csv_is_read_back_without_its_quotes(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"input":"=x","output":"o","amount":"-12","note":"\'-1"}\n', "utf-8")
    import_file(tmp_path / "a.jsonl", "a")
    export("a", "csv", tmp_path / "a.csv")
    assert "'-12" in (tmp_path / "a.csv").read_text("utf-8")
    import_file(tmp_path / "a.csv", "d", mapping={"amount": "element", "note": "element"})
    assert outputs() == ['{"amount":"-12","note":"\'-1"}']
    assert store.read_rows("d")["input"].to_pylist() == ["=x"]


@pytest.mark.parametrize("kind", ["csv", "xlsx"])
def test_a_row_with_a_cell_too_many_is_kept_aside_and_taken_in(tmp_path: Path, kind: str) -> None:
    table = [["text", "who", "when"], ["x", "Ann", "May"], ["y", "Bob", "June", "more"]]
    path = tmp_path / f"a.{kind}"
    path.write_bytes(workbook({"s": table}) if kind == "xlsx" else "".join(",".join(row) + "\n" for row in table).encode())
    made = import_file(path, "d", mapping=ALL)
    assert (made.rows, made.quarantined) == (1, 1)
    identifier = store.read_quarantine("d")["quarantine_id"].to_pylist()[0]
    repair("d", identifier, "y\tBob\t" if kind == "xlsx" else "y,Bob,")
    assert outputs() == ['{"who":"Ann","when":"May"}', '{"who":"Bob"}']


def test_elements_of_a_dataset_grow_unless_they_are_inferred(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("text,who\nx,Ann\n", "utf-8")
    (tmp_path / "b.csv").write_text("text,when\nx,May\n", "utf-8")
    import_file(tmp_path / "a.csv", "d", mapping=ALL)
    assert import_file(tmp_path / "b.csv", "d", mapping=ALL).dataset.elements == ("who", "when")
    (tmp_path / "c.jsonl").write_text('{"input":"x","output":{"place":"Rome"}}\n', "utf-8")
    import_file(tmp_path / "c.jsonl", "e")
    made = import_file(tmp_path / "a.csv", "e", mapping=ALL).dataset
    assert (made.elements, made.elements_inferred) == (("place", "who"), True)
    folder = tmp_path / "both"
    folder.mkdir()
    for name in ("a.csv", "b.csv"):
        (tmp_path / name).rename(folder / name)
    assert import_file(folder, "f", mapping=ALL).dataset.elements == ("who", "when")


@pytest.mark.parametrize(
    ("mapping", "told"),
    [
        ({"who": "element", "label": "output"}, "'who' is mapped to element, and 'label' to output"),
        ({"*": "element", "label": "messages"}, "to messages"),
        ({"nope": "element"}, "no column 'nope'"),
        ({"*": "extra"}, "no column '\\*'"),
        ({"*": "element", "who": "extra", "label": "extra"}, "No column is left"),
        ({"*": "element", "text": "extra"}, "the text in which the elements are"),
    ],
)
def test_what_makes_no_sense_is_refused(tmp_path: Path, workspace: Path, mapping: dict[str, str], told: str) -> None:
    (tmp_path / "a.csv").write_text("text,who,label\nx,Ann,l\n", "utf-8")
    with pytest.raises(InputFileError, match=told):
        import_file(tmp_path / "a.csv", "d", mapping=mapping)
    assert not workspace.exists()


def test_elements_are_never_guessed(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("text,who,label\nx,Ann,l\n", "utf-8")
    assert guess(tmp_path / "a.csv").shape == "flat"
    assert "columns" not in guess(tmp_path / "a.csv").alternatives


def test_on_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "合同.csv"
    path.write_bytes(FILES["a.csv"])

    def run(*options: str) -> tuple[int, str, str]:
        code = main(["import", str(path), "--name", "d", *options])
        said = capsys.readouterr()
        return code, said.out, said.err

    code, _, fault = run()
    assert code == 2
    assert "*=element" in fault
    code, out, _ = run("--map", "*=element", "--map", "备注=extra", "--dry-run", "--json")
    described = json.loads(out)
    assert (code, described["shape"], described["task"]) == (0, "columns", "extraction")
    assert described["mapping"] == {
        "文本": "input", "甲方": "element", "金额": "element", "日期": "element", "备注": "extra",
    }  # fmt: skip
    assert [row["output"] for row in described["preview"]] == ANSWERS
    code, out, _ = run("--map", "甲方=element", "--map", "金额=element", "--json")
    made = json.loads(out)
    assert (code, made["rows"], made["quarantined"], made["elements"]) == (0, 3, 0, ["甲方", "金额"])
    assert outputs()[1] == '{"甲方":"A公司、B公司"}'
