"""Containers: every kind of file gives the same rows, and each is bounded."""

from __future__ import annotations

import gzip
import io
import json
import zipfile
from datetime import date, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from core.__main__ import main
from core.data.importing import guess, import_file
from core.errors import InputFileError
from core.store import datasets as store

ROWS = [{"instruction": "抽取", "input": f" Ann,\n\"{n}\"\t王伟 ", "output": '{"name":["Ann"]}'} for n in range(4)]  # fmt: skip
TEXT_COLUMNS = ["instruction", "input", "output"]


def lines_of(rows: list[dict[str, Any]]) -> str:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def delimited(rows: list[dict[str, Any]], delimiter: str) -> str:
    quoted = [[str(cell).replace('"', '""') for cell in row.values()] for row in [dict.fromkeys(rows[0], ""), *rows]]
    quoted[0] = list(rows[0])
    return "".join(delimiter.join(f'"{cell}"' for cell in row) + "\n" for row in quoted)


def workbook(sheets: dict[str, list[list[Any]]]) -> bytes:
    from openpyxl import Workbook

    book, out = Workbook(), io.BytesIO()
    book.remove(book.active)
    for title, rows in sheets.items():
        sheet = book.create_sheet(title)
        for row in rows:
            sheet.append(row)
    book.save(out)
    return out.getvalue()


def parquet(rows: list[dict[str, Any]]) -> bytes:
    out = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows), out)
    return out.getvalue()


def zipped(members: dict[str, bytes]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return out.getvalue()


LINES, ARRAY = lines_of(ROWS), json.dumps(ROWS, ensure_ascii=False, indent=1)
SHEET = [TEXT_COLUMNS, *[list(row.values()) for row in ROWS]]
FILES: dict[str, bytes] = {
    "a.jsonl": LINES.encode(),
    "lines.json": LINES.encode(),
    "bom.jsonl": LINES.encode("utf-8-sig"),
    "crlf.jsonl": LINES.replace("\n", "\r\n").encode(),
    "utf16.jsonl": LINES.encode("utf-16"),
    "gbk.jsonl": LINES.encode("gbk"),
    "ascii.jsonl": "".join(json.dumps(row) + "\n" for row in ROWS).encode(),
    "a.json": ARRAY.encode(),
    "compact.json": json.dumps(ROWS, separators=(",", ":")).encode(),
    "array.jsonl": ARRAY.encode(),
    "wrapped.json": json.dumps({"version": 1, "data": ROWS}).encode(),
    "utf16.json": ARRAY.encode("utf-16-le"),
    "a.csv": delimited(ROWS, ",").encode(),
    "bom.csv": delimited(ROWS, ",").encode("utf-8-sig"),
    "gbk.csv": delimited(ROWS, ",").encode("gbk"),
    "semicolon.csv": delimited(ROWS, ";").encode(),
    "a.tsv": delimited(ROWS, "\t").encode(),
    "a.txt": delimited(ROWS, "\t").encode(),
    "a.xlsx": workbook({"one": SHEET}),
    "a.parquet": parquet(ROWS),
    "a.jsonl.gz": gzip.compress(LINES.encode()),
    "a.csv.gz": gzip.compress(delimited(ROWS, ",").encode("gbk")),
    "a.parquet.gz": gzip.compress(parquet(ROWS)),
    "a.zip": zipped({"a.json": ARRAY.encode(), "__MACOSX/._a.json": b"\0\0", ".DS_Store": b"\0"}),
    "x.zip": zipped({"in/a.xlsx": workbook({"one": SHEET})}),
    "two.zip": zipped({"1.jsonl": lines_of(ROWS[:3]).encode(), "2.csv": delimited(ROWS[3:], ",").encode()}),
}


@pytest.mark.parametrize("name", FILES)
def test_every_container_gives_the_same_rows(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(FILES[name])
    made = import_file(tmp_path / name, "d")
    assert (made.rows, made.quarantined, made.dataset.task) == (4, 0, "extraction")
    assert store.read_rows("d").select(TEXT_COLUMNS).to_pylist() == ROWS


def test_lists_under_split_names(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(json.dumps({"train": ROWS[:2], "validation": ROWS[2:3], "test": ROWS[3:]}))
    assert import_file(tmp_path / "a.json", "d").version.split_sizes == {"train": 2, "dev": 1, "test": 1}


def test_single_object_is_one_row(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(json.dumps(ROWS[0], indent=2))
    assert import_file(tmp_path / "a.json", "d").rows == 1


def test_a_cut_line_is_put_aside_with_a_reason_in_whole_words(tmp_path: Path) -> None:
    (tmp_path / "d.jsonl").write_text(lines_of(ROWS) + '{"inst', encoding="utf-8")
    assert import_file(tmp_path / "d.jsonl", "d").quarantined == 1
    reason = "not valid JSON: Unterminated string starting at column 2"
    assert store.read_quarantine("d")["reason"].to_pylist() == [reason]


def test_first_line_of_json_lines_may_be_broken(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('{"instruction": "x", }\n' + LINES)
    made = import_file(tmp_path / "a.json", "d")
    assert (made.rows, made.quarantined) == (4, 1)


def test_csv_faults_cost_their_row_only(tmp_path: Path) -> None:
    text = 'text,label\na,x\nb\nc,x,y\n"d,x\ne,x\n"f"g,x\n"h\n i",x\n\nj,x\n'
    (tmp_path / "a.csv").write_text(text)
    made = import_file(tmp_path / "a.csv", "d")
    kept = store.read_rows("d").to_pylist()
    assert [(r["input"], r["line"]) for r in kept] == [("a", 2), ("e", 6), ("h\n i", 8), ("j", 11)]
    aside = [(q["line"], q["raw"]) for q in store.read_quarantine("d").to_pylist()]
    assert aside == [(3, "b"), (4, "c,x,y"), (5, '"d,x'), (7, '"f"g,x')]
    assert made.quarantined == 4


def test_csv_quote_that_never_closes_costs_one_line(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("text,label\n" + '"open,x\n' + "".join(f"t{n},x\n" for n in range(500)))
    made = import_file(tmp_path / "a.csv", "d")
    assert (made.rows, made.quarantined) == (500, 1)


def test_tsv_without_quoting(tmp_path: Path) -> None:
    (tmp_path / "a.tsv").write_text('text\tlabel\n"Hi" he said\tx\n" alone\tx\nplain\tx\n')
    assert import_file(tmp_path / "a.tsv", "d").rows == 3
    assert store.read_rows("d")["input"].to_pylist() == ['"Hi" he said', '" alone', "plain"]


def test_csv_names_blank_and_repeated_columns(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("text,,label,label\na,b,c,d\n")
    assert guess(tmp_path / "a.csv").columns == ("text", "column_2", "label", "label_2")


def test_excel_cells_and_sheets(tmp_path: Path) -> None:
    when = datetime(2024, 5, 6, 7, 8)
    more: list[list[Any]] = [[True, "x_x000D_\ny"], [None, None], ["short"], ["a", "b", "c"]]
    sheets = {
        "empty": [],
        "first": [["text", "label"], [12, date(2024, 5, 6)], [2.5, when], *more],
        "second": [["text", "label"], ["more", "rows"]],
        "notes": [["something", "else"], ["x", "y"]],
    }
    (tmp_path / "a.xlsx").write_bytes(workbook(sheets))
    made = import_file(tmp_path / "a.xlsx", "d")
    got = [(r["input"], r["output"], r["line"]) for r in store.read_rows("d").to_pylist()]
    cells = [
        ("12", "2024-05-06", 2),
        ("2.5", "2024-05-06 07:08:00", 3),
        ("true", "x\r\ny", 4),
        ("short", "", 6),
        ("more", "rows", 2),
    ]
    assert got == cells
    assert made.quarantined == 2
    assert "sheet 'notes' has other columns" in "".join(store.read_quarantine("d")["reason"].to_pylist())


def test_parquet_with_lists_times_and_missing_values(tmp_path: Path) -> None:
    table = pa.table(
        {
            "messages": [[{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}], None],
            "when": pa.array([datetime(2024, 1, 2), None]),
            "picture": pa.array([b"\x00\x01", None]),
            "score": [float("nan"), 1.5],
        }
    )
    pq.write_table(table, tmp_path / "a.parquet")
    made = import_file(tmp_path / "a.parquet", "d")
    assert (made.rows, made.quarantined) == (1, 1)
    extra = json.loads(store.read_rows("d")["extra"].to_pylist()[0])
    assert extra == {"when": "2024-01-02T00:00:00", "picture": "<2 bytes>", "score": None}


def test_class_numbers_get_their_names(tmp_path: Path) -> None:
    features = {"label": {"names": ["neg", "pos"], "_type": "ClassLabel"}, "text": {"dtype": "string", "_type": "Value"}}
    metadata = {b"huggingface": json.dumps({"info": {"features": features}}).encode()}
    table = pa.table({"text": ["a", "b"], "label": [1, 0]}).replace_schema_metadata(metadata)
    pq.write_table(table, tmp_path / "a.parquet")
    import_file(tmp_path / "a.parquet", "d")
    assert store.read_rows("d")["output"].to_pylist() == ["pos", "neg"]


CONLL = {
    "space": "-DOCSTART- -X- O O\n\nEU NNP B-ORG\nrejects VBZ O\n\nAnn NNP B-PER\nLee NNP I-PER\n",
    "tab": "EU\tB-ORG\nrejects\tO\n\n\nAnn\tB-PER\nLee\tI-PER",
    "crlf": "EU\tB-ORG\r\nrejects\tO\r\n\r\nAnn\tB-PER\r\nLee\tI-PER\r\n",
    "comments": "# id 1\nEU\tS-ORG\nrejects\tO\n\n# id 2\nAnn\tB-PER\nLee\tE-PER\n",
}


@pytest.mark.parametrize("kind", CONLL)
@pytest.mark.parametrize("suffix", [".conll", ".txt"])
def test_conll(tmp_path: Path, kind: str, suffix: str) -> None:
    (tmp_path / f"a{suffix}").write_bytes(CONLL[kind].encode())
    import_file(tmp_path / f"a{suffix}", "d")
    rows = store.read_rows("d").select(["input", "output"]).to_pylist()
    assert rows == [{"input": "EU rejects", "output": '{"ORG":["EU"]}'}, {"input": "Ann Lee", "output": '{"PER":["Ann Lee"]}'}]


def test_conll_faults_cost_their_sentence(tmp_path: Path) -> None:
    content = "张 B-N\n三 E-N\n\n李 B-N\n四\n\n".encode() + b"\xff O\n" + "五 O\n\n王 X-N\n\n赵 S-N\n  O\n钱 S-N\n".encode()
    (tmp_path / "a.bmes").write_bytes(content)
    made = import_file(tmp_path / "a.bmes", "d")
    assert [r["input"] for r in store.read_rows("d").to_pylist()] == ["张三", "赵 钱"]
    aside = store.read_quarantine("d").to_pylist()
    assert [q["line"] for q in aside] == [4, 7, 10]
    assert ["line 5" in aside[0]["reason"], "\\xff" in aside[1]["reason"], "'X-N'" in aside[2]["reason"]] == [True] * 3
    assert aside[1]["raw"] == "\\xff O\n五 O"
    assert made.quarantined == 3


# ---------------------------------------------------------------- folders


def test_folder_of_data_files_tells_splits_by_name(tmp_path: Path) -> None:
    folder = tmp_path / "corpus"
    (folder / "validation").mkdir(parents=True)
    (folder / "train-00000-of-00001.parquet").write_bytes(parquet(ROWS[:2]))
    (folder / "validation" / "part.jsonl").write_text(lines_of(ROWS[2:3]))
    (folder / "my_test.csv").write_text(delimited(ROWS[3:], ","))
    (folder / "README.md").write_text("about")
    (folder / "dataset_infos.json").write_text("{}")
    made = import_file(folder, "d")
    assert made.version.split_sizes == {"train": 2, "dev": 1, "test": 1}
    assert store.read_rows("d")["source"].to_pylist()[0] == "corpus/train-00000-of-00001.parquet"
    assert len(guess(folder).files) == 3
    (tmp_path / "nothing").mkdir()
    with pytest.raises(InputFileError, match="no data file"):
        import_file(tmp_path / "nothing", "e")


def test_an_archive_tells_splits_by_name_and_each_can_be_changed(tmp_path: Path) -> None:
    lines = [json.dumps(row, ensure_ascii=False).encode() for row in ROWS]
    members = {
        "set/test.json": b"[" + lines[0] + b"]",
        "set/dev.jsonl": lines[1],
        "set/train.jsonl": lines[2],
        "set/more.jsonl": lines[3],
    }
    path = tmp_path / "set.zip"
    path.write_bytes(zipped(members | {"set/README.md": b"# about", "set/dataset_infos.json": b"{}"}))
    seen = guess(path)
    assert seen.files == tuple((f"set.zip/set/{name}", split) for name, split in (
        ("train.jsonl", "train"), ("dev.jsonl", "dev"), ("test.json", "test"), ("more.jsonl", ""),
    ))  # fmt: skip
    assert [row["split"] for row in seen.preview] == ["train"]
    assert import_file(path, "d").version.split_sizes == {"train": 1, "dev": 1, "test": 1, "": 1}
    changed = {"set/dev.jsonl": "", "set.zip/set/more.jsonl": "train"}
    assert dict(guess(path, splits=changed).files)["set.zip/set/dev.jsonl"] == ""
    assert import_file(path, "e", splits=changed).version.split_sizes == {"train": 2, "": 1, "test": 1}
    with pytest.raises(InputFileError, match=r"no file 'other\.jsonl'"):
        import_file(path, "f", splits={"other.jsonl": "train"})
    assert main(["import", str(path), "--name", "g", "--split-of", "set/more.jsonl=dev"]) == 0
    assert store.get_version("g").split_sizes == {"train": 1, "dev": 2, "test": 1}
    assert main(["import", str(path), "--name", "h", "--split-of", "dev"]) == 2
    assert main(["import", str(path), "--name", "h", "--split-of", "set/more.jsonl=nosuch"]) == 2


def test_what_save_to_disk_wrote(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    features = datasets.Features({"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["neg", "pos"])})
    made = datasets.Dataset.from_dict({"text": ["a", "b", "c"], "label": [1, 0, 1]}, features=features)
    made.save_to_disk(str(tmp_path / "single"))
    datasets.DatasetDict({"train": made, "test": made.select([0])}).save_to_disk(str(tmp_path / "both"))
    import_file(tmp_path / "single", "d")
    assert store.read_rows("d").select(["input", "output"]).to_pylist()[1] == {"input": "b", "output": "neg"}
    assert import_file(tmp_path / "both", "e").version.split_sizes == {"train": 3, "test": 1}


# ---------------------------------------------------------------- limits and damage


def refused(path: Path) -> str:
    with pytest.raises(InputFileError) as caught:
        import_file(path, "d")
    assert caught.value.hint
    return caught.value.message


def test_archives_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, workspace: Path) -> None:
    monkeypatch.setenv("TUNEWISE_MAX_EXPANDED_MB", "1")
    bomb = lines_of(ROWS[:1]).encode() + b" " * 3_000_000
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(bomb))
    (tmp_path / "a.zip").write_bytes(zipped({"a.jsonl": bomb}))
    assert "expands to more than 1 MiB" in refused(tmp_path / "a.jsonl.gz")
    assert "expands to more than 1 MiB" in refused(tmp_path / "a.zip")
    (tmp_path / "a.xlsx").write_bytes(zipped({"xl/worksheets/sheet1.xml": bomb}))
    assert "expands" in refused(tmp_path / "a.xlsx")
    assert not workspace.exists()


def test_a_zip_that_lies_about_its_size_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = bytearray(zipped({"a.jsonl": lines_of(ROWS).encode() * 2000}))
    for signature, at in ((b"PK\x01\x02", 24), (b"PK\x03\x04", 22)):
        place = content.index(signature) + at
        content[place : place + 4] = (1000).to_bytes(4, "little")
    (tmp_path / "a.zip").write_bytes(bytes(content))
    monkeypatch.setenv("TUNEWISE_MAX_EXPANDED_MB", "1")
    assert "damaged" in refused(tmp_path / "a.zip")


def test_file_size_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUNEWISE_MAX_FILE_MB", "1")
    (tmp_path / "a.jsonl").write_bytes(LINES.encode() + b" " * 1_100_000)
    assert "the limit is 1 MiB" in refused(tmp_path / "a.jsonl")


def test_rows_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUNEWISE_MAX_ROW_CHARACTERS", "5000")
    monkeypatch.setenv("TUNEWISE_MAX_NESTING", "5")
    deep: Any = "x"
    for _ in range(6):
        deep = [deep]
    bad = [{"input": "x" * 30_000, "output": ""}, {"input": "x", "output": deep}]
    for name, content in (("a.jsonl", lines_of([*ROWS, *bad])), ("b.json", json.dumps([*ROWS, *bad]))):
        (tmp_path / name).write_text(content)
        made = import_file(tmp_path / name, name[0])
        assert (made.rows, made.quarantined) == (4, 2)
        reasons = store.read_quarantine(name[0])["reason"].to_pylist()
        assert "longer than 5,000 characters" in reasons[0]
        assert "nested deeper than 5" in reasons[1]
        assert max(map(len, store.read_quarantine(name[0])["raw"].to_pylist())) < 21_000


def test_a_line_longer_than_memory_should_hold_is_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUNEWISE_MAX_ROW_CHARACTERS", "1000")
    (tmp_path / "a.jsonl").write_bytes(LINES.encode() + b"x" * 9_000_000 + b"\n" + LINES.encode())
    made = import_file(tmp_path / "a.jsonl", "d")
    assert (made.rows, made.quarantined) == (8, 1)


def test_deep_nesting_costs_its_row_only(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text(LINES + "[" * 200_000 + "\n" + LINES)
    made = import_file(tmp_path / "a.jsonl", "d")
    assert (made.rows, made.quarantined) == (8, 1)


def test_a_stray_zero_byte_costs_its_row_at_most(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(LINES.encode() * 3 + b'{"input": "\0"}\n' + LINES.encode())
    made = import_file(tmp_path / "a.jsonl", "d")
    assert (made.rows, made.quarantined) == (16, 1)
    (tmp_path / "a.csv").write_bytes(b"text,label\n" + b"plain text,x\n" * 30 + b"a\0b,x\n")
    assert import_file(tmp_path / "a.csv", "e").rows == 31
    assert store.read_rows("e")["input"].to_pylist()[-1] == "a\0b"


def test_half_surrogates_cost_their_row_only(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text(
        LINES + '{"input": "\\ud83d", "output": "x"}\n' + '{"input": "\\ud83d\\ude00", "output": "x"}\n'
    )
    made = import_file(tmp_path / "a.jsonl", "d")
    assert (made.rows, made.quarantined) == (5, 1)
    assert store.read_rows("d")["input"].to_pylist()[-1] == "😀"


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.gz", gzip.compress(LINES.encode(), mtime=0)[:-20], "damaged"),
        ("a.zip", zipped({"a.jsonl": LINES.encode()})[:-30], "not a whole .zip"),
        ("b.zip", zipped({}) or b"", "holds no file"),
        ("a.parquet", parquet(ROWS)[:-9], "not a whole parquet"),
        ("a.xlsx", b"PK\x03\x04" + b"x" * 50, "not an Excel workbook"),
        ("a.xls", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + b"\0" * 600, "old or encrypted Office file"),
        ("a.csv", b"\x00\x01\x02\x03" * 30, "not a text file"),
    ],
)
def test_damaged_files_are_refused(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    assert message in refused(tmp_path / name)


@pytest.mark.parametrize(
    ("content", "given", "said"),
    [
        ("文本,标签\n我要退款,售后\n".encode("gbk"), None, "delimited, gb18030 (common Chinese characters)"),
        ("文本,标签\n我要退款,售后\n".encode("gbk"), "gb18030", "delimited, gb18030"),
        ("文本,标签\n我要退款,售后\n".encode("utf-8-sig"), None, "delimited, utf-8-sig (byte order mark)"),
        ("文本,标签\n我要退款,售后\n".encode(), None, "delimited, utf-8"),
        ("文本,标签\n我要退款,售后\n甲".encode() + b"\xe9,x\n", None, "delimited, utf-8 (UTF-8 with 1 stray byte)"),
    ],
)
def test_what_tells_an_encoding_is_said(tmp_path: Path, content: bytes, given: str | None, said: str) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(content)
    assert guess(path, encoding=given).read_as == said
