"""``score`` from the shell: fixed keys, and one-line faults that name the line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from core.__main__ import main

GOOD = [
    {"input": "甲公司聘任张三", "output": '{"人": ["张三"]}', "prediction": '{"人": "张三"}'},
    {"input": "x y", "output": {"人": ["x", "y"]}, "prediction": {"人": ["x"]}},
]


def write(path: Path, rows: list[object]) -> Path:
    path.write_text("\n".join(row if isinstance(row, str) else json.dumps(row) for row in rows) + "\n", "utf-8")
    return path


def test_extraction(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["score", str(write(tmp_path / "p.jsonl", GOOD)), "--task", "extraction", "--json"]) == 0
    output = capsys.readouterr().out
    assert output.count("\n") == 1
    found = json.loads(output)
    assert found["rows"] == 2
    assert found["micro"] == {"precision": 1, "recall": pytest.approx(2 / 3), "f1": pytest.approx(0.8)}
    assert found["per_element"]["人"]["f1"] == pytest.approx(0.8)
    assert (found["exact_match"], found["json_valid"]) == (0.5, 1)
    assert found["errors"]["missed"] == sum(found["errors"].values()) == 1
    assert "tok:zh" in found["signature"]["bleu"]


def test_half_a_surrogate_pair_is_scored(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [{"input": "x\ud800", "output": '{"a": "\ud83d\ude00"}', "prediction": '{"a": ["\ud83d\ude00", "\ud800"]}'}]
    assert main(["score", str(write(tmp_path / "p.jsonl", rows)), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["micro"] == {"precision": 0.5, "recall": 1, "f1": pytest.approx(2 / 3)}


def test_elements_may_be_named_with_chinese_commas(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = str(write(tmp_path / "p.jsonl", GOOD))
    assert main(["score", path, "--elements", "人，地、时", "--json"]) == 0
    assert set(json.loads(capsys.readouterr().out)["per_element"]) == {"人", "地", "时"}


def test_classification(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [{"output": "a", "prediction": "Label: A"}, {"output": "b", "prediction": "a"}]
    assert main(["score", str(write(tmp_path / "p.jsonl", rows)), "--task", "classification", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["accuracy"] == 0.5
    assert found["macro_f1"] == pytest.approx(1 / 3)


def test_for_a_person(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["score", str(write(tmp_path / "p.jsonl", GOOD))]) == 0
    assert "micro_f1" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([], "has no rows"),
        ([GOOD[0], "{broken"], "line 2: not JSON"),
        ([GOOD[0], "", "[1]"], "line 3: not an object"),
        ([{"input": "x", "output": "y"}], "line 1: no 'prediction' (it has: input, output)"),
        ([{**GOOD[0], "nll": "1"}], "line 1: 'nll' is not a number"),
    ],
)
def test_faults(tmp_path: Path, capsys: pytest.CaptureFixture[str], lines: list[object], message: str) -> None:
    assert main(["score", str(write(tmp_path / "p.jsonl", lines)), "--json"]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert message in captured.err
    assert "Hint:" in captured.err


def test_no_file_and_no_text(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["score", str(tmp_path / "none.jsonl")]) == 2
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00\x01")
    assert main(["score", str(tmp_path / "binary")]) == 2
    assert "not UTF-8" in capsys.readouterr().err
