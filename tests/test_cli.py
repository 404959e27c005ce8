"""The command line as a user meets it: bad input ends with 2, one message, a hint, and an untouched workspace."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from sqlmodel import SQLModel

from core.__main__ import main
from core.store.database import read


def snapshot(workspace: Path) -> dict[str, str]:
    """Everything that counts in a workspace: files' sizes and times, and all rows of all tables."""
    files = {
        str(p.relative_to(workspace)): f"{p.stat().st_size} {p.stat().st_mtime_ns}"
        for p in sorted(workspace.rglob("*"))
        if p.is_file() and "tunewise.db" not in p.name
    }
    with read() as session:
        tables = {t.name: repr(session.execute(t.select()).fetchall()) for t in SQLModel.metadata.sorted_tables}
    return files | tables


@pytest.fixture
def filled(workspace: Path, tmp_path: Path) -> Path:
    """A workspace that holds one good dataset."""
    good = tmp_path / "good.jsonl"
    good.write_text(
        "\n".join(json.dumps({"instruction": "抽取", "input": f"甲方{i}号", "output": '{"party":["甲方"]}'}) for i in range(8)),
        "utf-8",
    )
    assert main(["import", str(good), "--name", "good"]) == 0
    return workspace


BAD_FILES = {
    "empty.jsonl": b"",
    "blank.jsonl": b"\n\n  \n",
    "binary.json": bytes(range(256)) * 40,
    "picture.csv": b"\x89PNG\r\n\x1a\n" + b"\x00" * 200,
    "columns.csv": b"colour,size\nred,1\nblue,2\n",
    "cut.json": b'[{"instruction": "a", "input": "b", "output": "{}"}, {"instruction": "a", "inp',
    "garbage.jsonl": b"not json\nneither is this\n",
}


@pytest.mark.parametrize("name", sorted(BAD_FILES))
@pytest.mark.parametrize("into", ["new", "good"])
def test_a_bad_file_is_refused_and_nothing_changes(
    filled: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, into: str
) -> None:
    path = tmp_path / name
    path.write_bytes(BAD_FILES[name])
    before = snapshot(filled)
    capsys.readouterr()
    code = main(["import", str(path), "--name", into, "--json"])
    printed = capsys.readouterr()
    assert (code, printed.out) == (2, "")
    lines = printed.err.strip().splitlines()
    assert lines[0].startswith("Error: ")
    assert name in lines[0]
    assert lines[1].startswith("Hint: ")
    assert snapshot(filled) == before


@pytest.mark.parametrize(
    "arguments",
    [
        ["import", "/nowhere/file.jsonl", "--name", "x"],
        ["import", "{file}", "--name", "../x"],
        ["show", "absent"],
        ["profile", "absent"],
        ["clean", "absent"],
        ["tokens", "good", "--template", "absent"],
        ["tokens", "good", "--model", "{folder}"],
        ["evaluate", "good", "--split", "absent", "--wait"],
        ["evaluate", "good", "--model", "{folder}", "--wait"],
        ["evaluate", "good", "--run", "absent", "--wait"],
        ["train", "{folder}/absent.yaml"],
        ["train", "{unknown_key}"],
        ["train", "{bad_yaml}"],
        ["compare", "absent", "absent"],
        ["score", "{file}", "--task", "poetry"],
        ["score", "/nowhere", "--task", "extraction"],
        ["stop", "absent"],
        ["resume", "absent"],
        ["undo", "good", "absent"],
    ],
    ids=lambda a: " ".join(a),
)
def test_bad_arguments_end_with_a_message_and_a_hint(
    filled: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str]
) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "readme.txt").write_text("not a model")
    unknown = tmp_path / "unknown.yaml"
    unknown.write_text("data: [{dataset: good}]\nlearning_rat: 0.1\n")
    bad = tmp_path / "bad.yaml"
    bad.write_text("data: [unclosed")
    values = {"file": tmp_path / "good.jsonl", "folder": tmp_path / "model", "unknown_key": unknown, "bad_yaml": bad}
    before = snapshot(filled)
    capsys.readouterr()
    code = main([a.format(**values) for a in arguments])
    printed = capsys.readouterr()
    assert code == 2, printed
    assert "Error" in printed.err
    assert "Traceback" not in printed.err
    assert snapshot(filled) == before


def test_the_unknown_key_is_named(filled: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    spec = tmp_path / "spec.yaml"
    spec.write_text("data: [{dataset: good}]\nlearning_rat: 0.1\n")
    assert main(["train", str(spec)]) == 2
    assert "learning_rat" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "keys"),
    [
        (["profile", "good"], {"rows", "issues"}),
        (["tokens", "good", "--model", "{tiny}"], {"rows", "prompt", "answer", "whole", "over_max_length"}),
        (["jobs"], {"jobs"}),
        (["datasets"], set()),
        (["versions", "good"], set()),
        (["show", "good", "--limit", "2"], set()),
        (["ledger", "good"], set()),
        (["quarantine", "good"], set()),
        (["clean", "good", "--dry-run"], set()),
        (["templates"], set()),
        (["runs"], set()),
        (["evaluations"], set()),
        (["models"], set()),
    ],
    ids=lambda a: a[0] if isinstance(a, list) else "",
)
def test_json_is_one_object_on_one_line(
    filled: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], keys: set[str]
) -> None:
    if any("{tiny}" in a for a in arguments):
        from tests.tiny import make_tiny_model

        arguments = [a.format(tiny=make_tiny_model(tmp_path / "tiny")) for a in arguments]
    capsys.readouterr()
    assert main([*arguments, "--json"]) == 0
    out = capsys.readouterr().out
    assert out.count("\n") == 1
    assert keys <= set(json.loads(out))
