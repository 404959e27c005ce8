"""Import: what is kept, what is kept aside, and that nothing else changes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from core.__main__ import main
from core.data.importing import import_file
from core.errors import InputFileError, UserError
from core.store import datasets as store
from core.store.content import content_hash

ODD_TEXT = ' \u00a0leading, NBSP\u200bzero-width 😀 \r\n second line\ttab \\ "quotes" \' 全角，标点 \x01 end '


def write_lines(path: Path, rows: list[Any]) -> Path:
    """A JSON Lines file; texts stand as they are, everything else is dumped."""
    path.write_bytes(
        "".join((row if isinstance(row, str) else json.dumps(row, ensure_ascii=False)) + "\n" for row in rows).encode("utf-8")
    )
    return path


def row(n: int, output: Any = '{"name":["Ann"]}') -> dict[str, Any]:
    return {"instruction": "Extract.", "input": f"Ann came {n} times", "output": output}


def tree(folder: Path) -> list[str]:
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*")) if folder.exists() else []


def test_json_lines_keep_every_text_as_it_is(tmp_path: Path) -> None:
    rows = [{"instruction": ODD_TEXT, "input": f"{ODD_TEXT}{n}", "output": ODD_TEXT} for n in range(3)]
    made = import_file(write_lines(tmp_path / "a.jsonl", rows), "a")
    assert (made.rows, made.quarantined) == (3, 0)
    kept = store.read_rows("a").to_pylist()
    assert [{k: r[k] for k in ("instruction", "input", "output")} for r in kept] == rows
    assert [r["line"] for r in kept] == [1, 2, 3]
    assert {r["source"] for r in kept} == {"a.jsonl"}
    assert [r["split"] for r in kept] == ["", "", ""]
    assert [r["extra"] for r in kept] == [None] * 3


def test_csv_cells_keep_line_breaks_blanks_and_quotes(tmp_path: Path) -> None:
    cells = [ODD_TEXT, "  leading", 'a "quoted" word', "two\nlines", "two\r\nlines", "", "\ufeffmark inside"]
    body = "".join('"' + cell.replace('"', '""') + '",x\r\n' for cell in cells)
    (tmp_path / "a.csv").write_bytes(f"text,label\r\n{body}".encode())
    made = import_file(tmp_path / "a.csv", "a")
    assert store.read_rows("a")["input"].to_pylist() == cells
    assert made.quarantined == 0


def test_bad_lines_are_kept_aside_with_line_reason_and_text(tmp_path: Path) -> None:
    lines = [row(1), '{"instruction": "cut', "", row(2), "[1, 2]", '{"other": 1}', row(3, ""), row(4, None), row(5, {})]
    made = import_file(write_lines(tmp_path / "a.jsonl", lines), "a")
    aside = store.read_quarantine("a").to_pylist()
    assert made.rows == 5
    assert made.quarantined == 3
    assert [(q["line"], q["raw"]) for q in aside] == [(2, '{"instruction": "cut'), (5, "[1, 2]"), (6, '{"other": 1}')]
    assert "not valid JSON" in aside[0]["reason"]
    assert "column 17" in aside[0]["reason"]
    assert "a list" in aside[1]["reason"]
    assert "'output'" in aside[2]["reason"]
    assert len({q["quarantine_id"] for q in aside}) == 3
    assert store.read_rows("a")["output"].to_pylist() == ['{"name":["Ann"]}'] * 2 + ["", "", "{}"]


def test_nested_answers_become_compact_json_text(tmp_path: Path) -> None:
    nested = {"姓名": ["王 伟"], "n": [1, 2.5, True, None], "deep": {"a": [{"b": "c"}]}}
    import_file(write_lines(tmp_path / "a.json", [row(1, nested), row(2, ["x", "y"])]), "a")
    text = '{"姓名":["王 伟"],"n":[1,2.5,true,null],"deep":{"a":[{"b":"c"}]}}'
    assert store.read_rows("a")["output"].to_pylist() == [text, '["x","y"]']


def test_repeated_keys_are_no_silent_loss(tmp_path: Path) -> None:
    lines = [row(1), '{"input": "a", "output": {"name": ["x"], "name": ["y"]}}']
    import_file(write_lines(tmp_path / "a.jsonl", lines), "a")
    assert "'name'" in store.read_quarantine("a")["reason"].to_pylist()[0]


def test_unmapped_columns_are_kept_beside(tmp_path: Path) -> None:
    import_file(write_lines(tmp_path / "a.jsonl", [row(1) | {"id": 7, "meta": {"源": "x"}, "split": "validation"}]), "a")
    kept = store.read_rows("a").to_pylist()[0]
    assert json.loads(kept["extra"]) == {"id": 7, "meta": {"源": "x"}}
    assert kept["split"] == "dev"


def test_mapping_given_and_guessed(tmp_path: Path) -> None:
    path = write_lines(tmp_path / "a.jsonl", [{"Frage": "why", "Antwort": "so"}])
    with pytest.raises(InputFileError, match="Frage, Antwort"):
        import_file(path, "a")
    import_file(path, "a", mapping={"Frage": "input", "Antwort": "output"})
    assert store.read_rows("a").select(["input", "output"]).to_pylist() == [{"input": "why", "output": "so"}]
    with pytest.raises(InputFileError, match="no column 'nope'"):
        import_file(path, "a", mapping={"nope": "input"})


@pytest.mark.parametrize(
    ("columns", "fields"),
    [
        (("prompt", "completion"), ("", "1", "2")),
        (("prompt", "response"), ("", "1", "2")),
        (("question", "answer"), ("", "1", "2")),
        (("Question", "Answer"), ("", "1", "2")),
        (("问题", "回答"), ("", "1", "2")),
        (("text", "category"), ("", "1", "2")),
        (("context", "answers", "question"), ("3", "1", "2")),
        (("instruction", "output"), ("1", "", "2")),
        (("指令", "输入", "输出"), ("1", "2", "3")),
        (("prompt", "query", "response"), ("1", "2", "3")),
    ],
)
def test_many_names_of_the_fields(tmp_path: Path, columns: tuple[str, ...], fields: tuple[str, str, str]) -> None:
    record = {column: str(place) for place, column in enumerate(columns, 1)}
    import_file(write_lines(tmp_path / "a.jsonl", [record]), "a")
    kept = store.read_rows("a").to_pylist()[0]
    assert (kept["instruction"], kept["input"], kept["output"]) == fields


def test_row_ids_are_stable_and_distinct_between_imports(tmp_path: Path) -> None:
    path = write_lines(tmp_path / "a.jsonl", [row(n) for n in range(4)])
    import_file(path, "a")
    import_file(path, "b")
    first, other = (store.read_rows(name)["row_id"].to_pylist() for name in "ab")
    assert first == other
    assert first[0].endswith("-0000001")
    assert len(first[0].split("-")[0]) == 6
    import_file(path, "a")
    both = store.read_rows("a")["row_id"].to_pylist()
    assert both[:4] == first
    assert len(set(both)) == 8


def test_import_into_a_name_that_exists_makes_a_new_version(tmp_path: Path) -> None:
    import_file(write_lines(tmp_path / "a.jsonl", [row(1), "broken"]), "a", split="train")
    old = store.read_rows("a")
    made = import_file(write_lines(tmp_path / "b.jsonl", [row(2), row(3), "broken too"]), "a", split="test")
    assert (made.rows, made.quarantined, made.version.number, made.version.parent) == (2, 1, 2, 1)
    assert (made.version.rows, made.version.quarantined) == (3, 2)
    assert made.version.split_sizes == {"train": 1, "test": 2}
    assert store.read_rows("a").slice(0, 1).equals(old)
    assert store.read_rows("a", 1).equals(old)
    assert [step.op for step in made.version.recipe] == ["import", "import"]
    rows, aside = store.read_step("a", made.version.recipe[1].step_id)
    assert rows.num_rows == 2
    assert aside["raw"].to_pylist() == ["broken too"]
    assert made.version.content_hash == content_hash(store.read_rows("a"))
    with pytest.raises(UserError, match="extraction"):
        import_file(tmp_path / "b.jsonl", "a", task="chat")


def test_elements_are_inferred_or_given(tmp_path: Path) -> None:
    rows = [row(n, {"common": ["x"]}) for n in range(150)] + [row(200, {"rare": ["x"]})] + [row(300 + n, {}) for n in range(99)]
    made = import_file(write_lines(tmp_path / "a.jsonl", rows), "a")
    assert (made.dataset.elements, made.dataset.elements_inferred) == (("common",), True)
    made = import_file(tmp_path / "a.jsonl", "b", elements=["rare", "other"])
    assert (made.dataset.elements, made.dataset.elements_inferred) == (("rare", "other"), False)


@pytest.mark.parametrize(
    ("rows", "task"),
    [
        ([row(n) for n in range(3)], "extraction"),
        ([{"text": f"t{n}", "label": "ab"[n % 2]} for n in range(20)], "classification"),
        ([row(n, f"a long answer, {n}") for n in range(20)], "generation"),
    ],
)
def test_task_is_guessed(tmp_path: Path, rows: list[dict[str, Any]], task: str) -> None:
    assert import_file(write_lines(tmp_path / "a.jsonl", rows), "a").dataset.task == task


REFUSED = {
    "empty.jsonl": (b"", "is empty"),
    "blank.json": (b" \n\n ", "no row"),
    "binary.json": (bytes(range(256)) * 40, "not a text file"),
    "binary.csv": (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" * 20, "not a text file"),
    "cut.json": (
        b'[{"instruction": "a", "input": "b", "output": "c"},\n {"instruction": "a", "inp',
        "Unterminated string starting at line 2",
    ),
    "cut2.json": (b'[{"instruction": "a", "output": "c"}', "line 1, column 37"),
    "comma.json": (b'[\n{"instruction": "a", "output": "c"},\n{"instruction": "a" "output": "c"}]', "line 3, column 21"),
    "after.json": (b'[{"instruction": "a", "output": "c"}] trailing', "Extra data"),
    "columns.csv": (b"one,two\na,b\n", "one, two"),
    "header.csv": (b"text,label\n", "no row"),
    "broken.jsonl": (b"nonsense\nmore\n", "not valid JSON"),
    "other.jsonl": (b'{"a": 1}\n{"a": 2}\n', "no columns"),
    "numbers.json": (b"[1, 2, 3]", "no named fields"),
    "deep.json": (b"[" * 100_000, "nested"),
}


@pytest.mark.parametrize("name", REFUSED)
@pytest.mark.parametrize("existing", [False, True])
def test_hopeless_files_are_refused_and_nothing_changes(tmp_path: Path, workspace: Path, name: str, existing: bool) -> None:
    if existing:
        import_file(write_lines(tmp_path / "fine.jsonl", [row(1)]), "a")
    before = tree(workspace)
    content, message = REFUSED[name]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputFileError) as caught:
        import_file(tmp_path / name, "a")
    assert message in caught.value.message
    assert "\n" not in caught.value.message
    assert caught.value.hint
    assert tree(workspace) == before


def test_command_prints_the_fixed_keys(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write_lines(tmp_path / "a.jsonl", [row(1), "broken", row(2)])
    assert main(["import", str(path), "--name", "a", "--elements", "name,other", "--split", "train", "--json"]) == 0
    out = capsys.readouterr().out
    assert out.count("\n") == 1
    value = json.loads(out)
    assert {k: value[k] for k in ("dataset", "version", "rows", "quarantined")} == {
        "dataset": "a",
        "version": 1,
        "rows": 2,
        "quarantined": 1,
    }
    assert main(["show", "a", "--json", "--limit", "1", "--split", "train"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["total_rows"] == 2
    assert shown["rows"][0]["input"] == "Ann came 1 times"
    assert main(["quarantine", "a", "--json"]) == 0
    aside = json.loads(capsys.readouterr().out)
    assert (aside["quarantined"], aside["rows"][0]["line"], aside["rows"][0]["raw"]) == (1, 2, "broken")
    assert main(["datasets", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["datasets"][0]["rows"] == 2
    assert main(["versions", "a", "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)["versions"][0]["recipe"]) == 1


def test_command_says_what_is_wrong(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["import", str(tmp_path / "none.csv"), "--name", "a", "--json"]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("Error: There is no file")
    assert "Hint: " in captured.err
    path = write_lines(tmp_path / "a.jsonl", [row(1)])
    for wrong in (
        ["--split", "tset"],
        ["--task", "x"],
        ["--map", "input"],
        ["--map", "input=nofield"],
        ["--encoding", "nope"],
        ["--encoding", "base64"],
        ["--name", "../x"],
    ):
        assert main(["import", str(path), "--name", "a", *wrong]) == 2
        assert "Hint: " in capsys.readouterr().err
