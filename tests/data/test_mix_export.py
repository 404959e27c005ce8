"""Mixes add up, exports read back as the same rows, spreadsheet cells are harmless."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from core.data.export import export, harmless, messages_of
from core.data.importing import import_file
from core.data.mix import mix, plan_mix
from core.data.recipes import apply, undo
from core.errors import SpecError, UserError
from core.records import Step
from core.store.datasets import get_dataset, get_version, list_versions, read_rows
from tests.data.make import rows_of, save_rows

CONTENT = ["instruction", "input", "output", "messages", "split"]


def content(name: str) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = read_rows(name).select(CONTENT).to_pylist()
    return rows


# ---------------------------------------------------------------- mix


def two() -> None:
    save_rows("zh", rows_of(*[{"input": f"z{n}", "split": "train" if n < 30 else "test"} for n in range(40)]), elements=("a",))
    save_rows("en", rows_of(*[{"input": f"e{n}"} for n in range(100)]), elements=("a", "b"))


def test_a_mix_has_the_shares_that_were_asked_for() -> None:
    two()
    version, parts = mix({"zh": 1, "en": 2}, "both")
    assert [(part.taken, part.repeated, part.held_out) for part in parts] == [(30, 0, 10), (60, 0, 0)]
    assert version.rows == 100
    assert get_dataset("both").elements == ("a", "b")
    ids = read_rows("both")["row_id"].to_pylist()
    assert len(set(ids)) == 100
    assert sum(row_id.endswith("@zh") for row_id in ids) == 40


def test_a_mix_may_repeat_rows() -> None:
    two()
    version, parts = mix({"zh": 3, "en": 1}, "both", rows=200)
    assert [(part.taken, part.repeated) for part in parts] == [(150, 120), (50, 0)]
    ids = read_rows("both")["row_id"].to_pylist()
    assert len(set(ids)) == len(ids) == version.rows == 210


def test_a_mix_is_seeded_and_can_be_cleaned_and_undone() -> None:
    two()
    first = mix({"zh": 1, "en": 1}, "one", seed=1)[0]
    assert mix({"zh": 1, "en": 1}, "two", seed=1)[0].content_hash == first.content_hash
    assert mix({"zh": 1, "en": 1}, "three", seed=2)[0].content_hash != first.content_hash
    apply("one", [Step(op="sample", params={"rows": 5})])
    assert undo("one").content_hash == first.content_hash


def test_mixes_that_cannot_be() -> None:
    two()
    with pytest.raises(SpecError):
        plan_mix({"zh": 0})
    with pytest.raises(UserError, match="already"):
        mix({"zh": 1}, "en")
    save_rows("held", rows_of({"split": "test"}))
    with pytest.raises(UserError, match="no training rows"):
        mix({"held": 1, "zh": 1}, "x")
    assert len(list_versions("en")) == 1


# ---------------------------------------------------------------- export

texts = st.text(st.characters(exclude_categories=["Cs", "Cc"], include_characters="\n\t"), max_size=20)
solid = texts.filter(lambda text: bool(text.strip()))
single = st.fixed_dictionaries(
    {"instruction": solid, "input": solid, "output": solid, "split": st.sampled_from(["", "train", "dev", "test"])}
)
talk = st.lists(st.tuples(solid, solid), min_size=2, max_size=3).map(
    lambda pairs: json.dumps(
        [{"role": role, "content": text} for pair in pairs for role, text in zip(("user", "assistant"), pair, strict=True)],
        ensure_ascii=False,
        separators=(",", ":"),
    )
)
quick = settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@quick
@given(st.lists(single, min_size=1, max_size=5), st.sampled_from(["jsonl", "json", "parquet"]))
def test_import_export_import_is_the_identity(tmp_path: Path, rows: list[dict[str, str]], form: str) -> None:
    name = uuid4().hex
    first, second = tmp_path / f"{name}.jsonl", tmp_path / f"{name}-again.{form}"
    first.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    import_file(first, f"a{name}", task="generation")
    assert export(f"a{name}", form, second) == len(rows)
    import_file(second, f"b{name}", task="generation")
    assert content(f"b{name}") == content(f"a{name}")


@quick
@given(st.lists(st.one_of(talk, st.none()), min_size=1, max_size=4), st.sampled_from(["jsonl", "json", "sharegpt", "openai"]))
def test_conversations_read_back(tmp_path: Path, talks: list[str | None], form: str) -> None:
    name = uuid4().hex
    rows = [{"instruction": "i", "input": "q", "output": "a"} | ({} if t is None else _ends(t)) for t in talks]
    save_rows(f"a{name}", rows_of(*rows), task="chat")
    path = tmp_path / f"{name}.{'jsonl' if form in ('jsonl', 'openai') else 'json'}"
    export(f"a{name}", form, path)
    import_file(path, f"b{name}", task="chat")
    assert content(f"b{name}") == content(f"a{name}")


def _ends(talk: str) -> dict[str, str]:
    turns = json.loads(talk)
    return {"instruction": "", "input": turns[-2]["content"], "output": turns[-1]["content"], "messages": talk}


def test_csv_reads_back_where_no_cell_was_made_harmless(tmp_path: Path) -> None:
    save_rows("d", rows_of({"input": 'a "b", c\nd', "output": "x", "split": "dev"}, {"input": "中文，", "output": "y"}))
    export("d", "csv", tmp_path / "d.csv")
    import_file(tmp_path / "d.csv", "again")
    assert content("again") == content("d")


@pytest.mark.parametrize("cell", ["=1+1", "+1", "-1", "@x", "\tx", "\rx"])
def test_spreadsheet_cells_are_harmless(tmp_path: Path, cell: str) -> None:
    assert harmless(cell) == "'" + cell
    save_rows("d", rows_of({"instruction": "i", "input": cell, "output": cell}))
    export("d", "csv", tmp_path / "d.csv")
    with (tmp_path / "d.csv").open(encoding="utf-8-sig", newline="") as file:
        heading, row = csv.reader(file)
    assert heading == ["instruction", "input", "output"]
    assert row == ["i", "'" + cell, "'" + cell]


def test_shapes(tmp_path: Path) -> None:
    turns = [
        {"role": r, "content": t}
        for r, t in (("system", "s"), ("user", "q"), ("assistant", "a"), ("user", "p"), ("assistant", "b"))
    ]
    save_rows("d", rows_of({"input": "x", "output": "y"}, {"messages": json.dumps(turns)}), task="chat")
    export("d", "alpaca", tmp_path / "alpaca.json")
    assert json.loads((tmp_path / "alpaca.json").read_text())[1] == {
        "instruction": "p", "input": "", "output": "b", "system": "s", "history": [["q", "a"]],
    }  # fmt: skip
    export("d", "sharegpt", tmp_path / "sharegpt.json")
    assert json.loads((tmp_path / "sharegpt.json").read_text())[1] == {
        "conversations": [{"from": f, "value": v} for f, v in (("human", "q"), ("gpt", "a"), ("human", "p"), ("gpt", "b"))],
        "system": "s",
    }
    assert messages_of({"instruction": "i", "input": " ", "output": "o", "messages": None})[0] == {"role": "user", "content": "i"}


@pytest.mark.parametrize("form", ["sharegpt", "openai"])
def test_the_tools_of_a_conversation_travel(tmp_path: Path, form: str) -> None:
    talk = json.dumps([{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}], separators=(",", ":"))
    save_rows("d", rows_of({"messages": talk, "extra": '{"tools":"[{\\"name\\": \\"f\\"}]","other":1}'}), task="chat")
    export("d", form, tmp_path / "d.json")
    import_file(tmp_path / "d.json", "again", task="chat")
    assert json.loads(read_rows("again")["extra"][0].as_py()) == {"tools": '[{"name": "f"}]'}


def test_extra_columns_and_splits_travel(tmp_path: Path) -> None:
    save_rows(
        "d",
        rows_of({"input": "a", "output": "o", "split": "test", "extra": '{"k":[1],"input":"no"}'}, {"input": "b", "output": "o"}),
    )
    export("d", "jsonl", tmp_path / "all.jsonl")
    assert json.loads((tmp_path / "all.jsonl").read_text().splitlines()[0]) == {
        "instruction": "Extract", "input": "a", "output": "o", "split": "test", "k": [1],
    }  # fmt: skip
    assert export("d", "jsonl", tmp_path / "test.jsonl", split="test") == 1


def test_ledger_and_quarantine(tmp_path: Path) -> None:
    save_rows("d", rows_of({"input": "a ", "output": "{"}))
    apply("d", [Step(op="normalise"), Step(op="fix_json")])
    assert export("d", "jsonl", tmp_path / "ledger.jsonl", what="ledger") == 2
    assert export("d", "csv", tmp_path / "aside.csv", what="quarantine") == 1
    assert export("d", "parquet", tmp_path / "ledger.parquet", what="ledger") == 2
    assert export("d", "jsonl", tmp_path / "first.jsonl", version=1) == 1
    assert json.loads((tmp_path / "ledger.jsonl").read_text().splitlines()[0])["reason"].startswith("white space")
    with pytest.raises(SpecError, match="can't be exported as 'alpaca'"):
        export("d", "alpaca", tmp_path / "x", what="ledger")


def test_a_datasets_folder(tmp_path: Path) -> None:
    from datasets import load_from_disk

    save_rows("d", rows_of({"input": "a", "split": "train"}, {"input": "b", "split": "test"}, {"input": "c"}))
    assert export("d", "datasets", tmp_path / "folder") == 3
    loaded = load_from_disk(str(tmp_path / "folder"))
    assert {name: part["input"][:] for name, part in loaded.items()} == {"train": ["a", "c"], "test": ["b"]}


def test_an_export_overwrites_only_when_asked(tmp_path: Path) -> None:
    save_rows("d", rows_of({"input": "a"}))
    path = tmp_path / "d.jsonl"
    path.write_text("mine")
    with pytest.raises(UserError, match="already"):
        export("d", "jsonl", path)
    assert path.read_text() == "mine"
    export("d", "jsonl", path, overwrite=True)
    assert json.loads(path.read_text())["input"] == "a"
    with pytest.raises(SpecError, match="can't be exported as 'xml'"):
        export("d", "xml", tmp_path / "d.xml")
    assert get_version("d").number == 1
