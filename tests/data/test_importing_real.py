"""Real files that people bring (``../shared/datasets``): every row is accounted for. Skipped where they are absent."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from core.data.importing import import_file
from core.store import datasets as store

FOLDER = Path(__file__).resolve().parents[2].parent / "shared" / "datasets"
pytestmark = pytest.mark.skipif(not FOLDER.is_dir(), reason="the shared datasets are not here")

RAW = {
    "alpaca__alpaca_zh_demo.json": (1000, 0, "generation", "flat"),
    "alpaca__identity.json": (91, 0, "generation", "flat"),
    "badencoding__snips_train_PlayMusic_full.json": (1999, 1, "extraction", "fragments"),
    "conll__resume_test.char.bmes": (477, 0, "extraction", "tags"),
    "conll__wnut17_emerging.dev.conll": (1009, 0, "extraction", "tags"),
    "csv__banking77_test.csv": (3080, 0, "classification", "flat"),
    "multiturn__chinese_vicuna_chat_sample.jsonl": (3, 0, "chat", "turns"),
    "sharegpt__glaive_toolcall_zh_demo.json": (300, 0, "chat", "conversation"),
}
ELEMENTS = {
    "NAME": "姓名", "ORG": "机构", "TITLE": "职务", "EDU": "学历", "PRO": "专业", "CONT": "国籍", "RACE": "民族", "LOC": "籍贯",
}  # fmt: skip


def json_lines(name: str) -> list[dict[str, str]]:
    return [json.loads(line) for line in (FOLDER / name).read_text("utf-8").split("\n") if line]


@pytest.mark.parametrize("name", RAW)
def test_every_row_of_a_raw_file_is_accounted_for(name: str) -> None:
    rows, quarantined, task, shape = RAW[name]
    made = import_file(FOLDER / "raw" / name, "d")
    assert (made.rows, made.quarantined, made.dataset.task) == (rows, quarantined, task)
    assert made.version.recipe[0].params["shape"] == shape
    assert len(set(store.read_rows("d")["row_id"].to_pylist())) == rows


def test_stray_bytes_are_shown_where_they_are() -> None:
    import_file(FOLDER / "raw" / "badencoding__snips_train_PlayMusic_full.json", "d")
    aside = store.read_quarantine("d").to_pylist()[0]
    assert aside["line"] == 462
    assert "line 9085" in aside["reason"]
    assert "\\xed\\xa0\\xbc\\xed\\xbd\\x95" in aside["raw"]


@pytest.mark.parametrize("name", sorted(path.name for path in FOLDER.glob("*.jsonl")))
def test_nothing_of_a_prepared_file_is_lost(name: str) -> None:
    expected = json_lines(name)
    made = import_file(FOLDER / name, "d")
    assert (made.rows, made.quarantined, made.dataset.task) == (len(expected), 0, "extraction")
    assert store.read_rows("d").select(["instruction", "input", "output"]).to_pylist() == expected


def test_conll_gives_the_prepared_rows() -> None:
    import_file(FOLDER / "raw" / "conll__resume_test.char.bmes", "d")
    rows = store.read_rows("d").to_pylist()
    expected = json_lines("zh_resume.test.jsonl")
    assert [row["input"] for row in rows] == [row["input"] for row in expected]
    for row, wanted in zip(rows, expected, strict=True):
        assert {ELEMENTS[name]: values for name, values in json.loads(row["output"]).items()} == json.loads(wanted["output"])


def test_english_conll_gives_the_prepared_rows() -> None:
    import_file(FOLDER / "raw" / "conll__wnut17_emerging.dev.conll", "d")
    got = {(row["input"], canonical(row["output"])) for row in store.read_rows("d").to_pylist()}
    assert {(row["input"], canonical(row["output"])) for row in json_lines("en_wnut17.dev.jsonl")} <= got


def canonical(answer: str) -> str:
    return json.dumps(json.loads(answer), sort_keys=True)


def test_csv_cells_with_line_breaks_are_whole() -> None:
    import_file(FOLDER / "raw" / "csv__banking77_test.csv", "d")
    texts = store.read_rows("d")["input"].to_pylist()
    assert sum("\n" in text for text in texts) > 0
    assert len(set(store.read_rows("d")["output"].to_pylist())) == 77
