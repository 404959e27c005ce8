"""Rows that were kept aside: proposals are shown in full, mended rows are taken in, a step that can be undone."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.__main__ import main
from core.data.importing import import_file
from core.data.quarantine import difference, propose, read, repair
from core.data.recipes import apply, undo
from core.errors import InputFileError, NotFoundError
from core.records import Step
from core.store import datasets as store
from tests.data.make import rows_of, save_rows

GOOD = '{"instruction":"i","input":"Ann","output":"{}"}\n'


def kept_aside(tmp_path: Path, name: str, content: bytes | str, **options: object) -> str:
    """Import a file in which one row is bad; returns that row's identifier."""
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    made = import_file(path, "d", **options)  # type: ignore[arg-type]
    assert made.quarantined == 1
    identifier: str = store.read_quarantine("d")["quarantine_id"].to_pylist()[0]
    return identifier


def test_json_line_is_proposed_and_taken_in_and_undone(tmp_path: Path) -> None:
    broken = '{"instruction":"i","input":"Bob, 100,,","output":{"name":["Bob"]'
    identifier = kept_aside(tmp_path, "a.jsonl", GOOD + broken + "\n", split="train")
    before = store.read_rows("d")
    made = propose("d", identifier)
    assert made.raw == broken
    assert made.text is not None
    assert "json-repair" in made.how
    assert "".join(change.before for change in made.changes) == broken
    assert "".join(change.after for change in made.changes) == made.text
    assert store.get_version("d").number == 1, "a proposal changes nothing"
    version = repair("d", identifier, broken + "}}")
    assert (version.number, version.rows, version.quarantined) == (2, 2, 0)
    row = store.read_rows("d").to_pylist()[1]
    assert (row["input"], row["output"], row["split"]) == ("Bob, 100,,", '{"name":["Bob"]}', "train")
    assert (row["source"], row["line"]) == ("a.jsonl", 2)
    back = undo("d", "last")
    assert back.rows == 1
    assert back.quarantined == 1
    assert store.read_rows("d").equals(before)


def test_a_text_that_is_still_broken_changes_nothing(tmp_path: Path) -> None:
    identifier = kept_aside(tmp_path, "a.jsonl", GOOD + "{broken\n")
    for text in ("{still broken", "", '{"other": 1}', GOOD + GOOD):
        with pytest.raises(InputFileError, match="can't be taken in"):
            repair("d", identifier, text)
    with pytest.raises(NotFoundError):
        repair("d", "q-000000-0000001", GOOD)
    assert store.get_version("d").number == 1
    assert propose("d", identifier).problem


def test_a_row_that_a_step_put_aside_is_taken_in_as_json_of_its_columns() -> None:
    save_rows("d", rows_of({"input": "Ann"}, {"input": "Bob", "output": "{broken"}))
    apply("d", [Step(op="fix_json")])
    identifier = store.read_quarantine("d")["quarantine_id"].to_pylist()[0]
    for text in ("[" * 100_000, '{"input": "Bob", "output": {}}', "[]"):
        with pytest.raises(InputFileError, match="can't be taken in"):
            repair("d", identifier, text)
    assert repair("d", identifier, '{"input": "Bob", "output": "{}"}').rows == 2


def test_json_written_over_several_lines_is_one_row(tmp_path: Path) -> None:
    identifier = kept_aside(tmp_path, "a.jsonl", GOOD + "{broken\n")
    row = read("d", identifier, json.dumps(json.loads(GOOD), indent=2))
    assert row["input"] == "Ann"


@pytest.mark.parametrize(
    ("stray", "meant"),
    [(b"\xed\xa0\xbc\xed\xbd\x95", "\U0001f355"), (b"\xe9", "é"), ("北京".encode("gb18030"), "北京")],
)
def test_stray_bytes_are_proposed_as_characters(tmp_path: Path, stray: bytes, meant: str) -> None:
    line = b'{"instruction":"i","input":"x ' + stray + b' y","output":"z"}\n'
    identifier = kept_aside(
        tmp_path, "a.jsonl", (GOOD + "".join(GOOD.replace("Ann", f"中文{n}") for n in range(9))).encode() + line
    )
    assert "can't be decoded as utf-8" in store.read_quarantine("d")["reason"].to_pylist()[0]
    made = propose("d", identifier)
    assert made.text is not None
    assert read("d", identifier, made.text)["input"] == f"x {meant} y"


def test_csv_row_is_read_with_its_files_header(tmp_path: Path) -> None:
    identifier = kept_aside(tmp_path, "a.csv", "id;text;label\n1;a;b\n2;too;many;cells\n")
    row = read("d", identifier, '2;"too;many";cells')
    assert (row["input"], row["output"]) == ("too;many", "cells")


def test_conll_sentence_is_read_as_its_file(tmp_path: Path) -> None:
    identifier = kept_aside(tmp_path, "a.conll", "张 B-N\n三 E-N\n\n李 B-N\n四\n")
    assert read("d", identifier, "李 B-N\n四 E-N")["output"] == '{"N":["李四"]}'


def test_commands(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    identifier = kept_aside(tmp_path, "a.jsonl", GOOD + GOOD.strip()[:-1] + "\n")
    assert main(["quarantine", "d", "--propose", identifier, "--json"]) == 0
    text = json.loads(capsys.readouterr().out)["text"]
    assert main(["quarantine", "d", "--repair", identifier, "--text", text, "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"dataset": "d", "version": 2, "rows": 2, "quarantined": 0}


@given(st.text(max_size=30), st.text(max_size=30))
def test_a_difference_tells_both_texts_whole(before: str, after: str) -> None:
    changes = difference(before, after)
    assert "".join(change.before for change in changes) == before
    assert "".join(change.after for change in changes) == after
    assert all((change.kind == "kept") == (change.before == change.after) for change in changes)
