"""The cleaning commands: their fixed keys, one line of JSON, exit codes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from core.__main__ import main
from core.store.datasets import list_versions, read_rows
from tests.data.make import rows_of, save_rows


@pytest.fixture
def dataset() -> str:
    rows = [{"input": f"第{n}号员工张三", "output": '{"姓名":["张三"]}'} for n in range(40)]
    rows += [{"input": " 第1号员工张三"}, {"input": "x", "output": "{"}, dict(rows[2])]
    save_rows("d", rows_of(*rows), elements=("姓名",))
    return "d"


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    assert main([*arguments, "--json"]) == 0
    out = capsys.readouterr().out
    assert out.count("\n") == 1
    value: dict[str, Any] = json.loads(out)
    return value


def test_the_way(dataset: str, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    told = run(capsys, "profile", dataset)
    assert (told["rows"], told["issues"]["exact_duplicate"], told["issues"]["invalid_json"]) == (43, 1, 1)
    dry = run(capsys, "clean", dataset, "--dry-run", "--limit", "0")
    assert len(list_versions(dataset)) == 1
    assert not dry["applied"]
    assert len({change["row_id"] for change in dry["changes"]}) == dry["affected"]
    made = run(capsys, "clean", dataset)
    assert (made["version"], made["rows"], made["rows_before"]) == (2, dry["rows"], 43)
    ledger = run(capsys, "ledger", dataset, "--limit", "0")
    assert ledger["total"] == len(ledger["entries"]) == len(dry["changes"])
    undone = run(capsys, "undo", dataset, made["steps"][0]["step"])
    assert undone["version"] == 3
    split = run(capsys, "split", dataset, "--dev", "0.2", "--test", "0.2", "--no-near")
    assert split["leaked"] == 0
    assert sum(split["split_sizes"].values()) == split["rows"] == read_rows(dataset).num_rows
    out = run(capsys, "export-data", dataset, "--format", "jsonl", "--to", str(tmp_path / "d.jsonl"))
    assert out["rows"] == split["rows"]
    mixed = run(capsys, "mix", f"{dataset}=2", "--name", "m")
    assert mixed["rows"] == split["rows"]


def test_the_same_for_people(dataset: str, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    recipe = tmp_path / "r.yaml"
    recipe.write_text("- normalise\n- drop_exact_duplicates\n")
    for arguments in (
        ["profile", dataset],
        ["clean", dataset, "--recipe", str(recipe), "--dry-run"],
        ["clean", dataset, "--recipe", str(recipe)],
        ["ledger", dataset],
        ["undo", dataset, "last", "--dry-run"],
        ["undo", dataset],
        ["split", dataset],
        ["mix", dataset, "--name", "m"],
        ["export-data", dataset, "--format", "csv", "--to", str(tmp_path / "d.csv")],
    ):
        assert main(arguments) == 0
        assert capsys.readouterr().out.strip()


def test_a_change_late_in_a_long_row_is_seen(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "long.jsonl"
    row = {"input": f"甲方{'云海' * 60}公司于２０２４年  付款，{'其余从略' * 40}", "output": "{}"}
    path.write_text(json.dumps(row, ensure_ascii=False), encoding="utf-8")
    recipe = tmp_path / "r.yaml"
    recipe.write_text("- normalise\n")
    assert main(["import", str(path), "--name", "long"]) == 0
    capsys.readouterr()
    assert main(["clean", "long", "--recipe", str(recipe), "--dry-run"]) == 0
    told = capsys.readouterr().out.splitlines()[-1]
    assert "公司于２０２４年  付款" in told
    assert "公司于2024年 付款" in told
    assert "甲方" not in told
    assert told.count("…") == 4  # cut at both ends, before and after


def test_an_exported_ledger_is_counted_in_entries(dataset: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    to = tmp_path / "ledger.jsonl"
    assert main(["export-data", dataset, "--what", "ledger", "--format", "jsonl", "--to", str(to)]) == 0
    assert "entries of the ledger written" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["profile", "nope"], "no dataset 'nope'"),
        (["clean", "d", "--recipe", "nope.yaml"], "nope.yaml"),
        (["undo", "d", "nope"], "no step 'nope'"),
        (["undo", "d"], "only import"),
        (["split", "d", "--dev", "0.6", "--test", "0.6"], "nothing for train"),
        (["split", "d", "--group", "nope"], "no column 'nope'"),
        (["mix", "d=x", "--name", "m"], "NAME=WEIGHT"),
        (["mix", "d=1", "--name", "d"], "already"),
        (["export-data", "d", "--format", "xml", "--to", "x"], "'xml'"),
        (["ledger", "d", "--version", "9"], "no version 9"),
    ],
)
def test_faults(dataset: str, capsys: pytest.CaptureFixture[str], arguments: list[str], words: str) -> None:
    assert main(arguments) == 2
    captured = capsys.readouterr()
    assert words in captured.err
    assert captured.out == ""
    assert len(list_versions("d")) == 1
