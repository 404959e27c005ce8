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

from core.data.export import FORMATS, export
from core.data.export_shapes import messages_of
from core.data.importing import import_file
from core.data.mix import mix, plan_mix
from core.data.quarantine import repair
from core.data.recipes import apply, undo
from core.data.spreadsheet import MARK, harmless, harmless_name, plain_name
from core.errors import SpecError, UserError
from core.records import Step
from core.store.datasets import get_dataset, get_version, list_versions, read_quarantine, read_rows
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

texts = st.text(st.characters(exclude_categories=["Cs", "Cc"], include_characters="\n\t"), max_size=20) | st.text(
    "'=+-@,\"\n\r\tx＝", max_size=6
)
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
@given(st.lists(single, min_size=1, max_size=5), st.sampled_from(["jsonl", "json", "parquet", "csv", "datasets"]))
def test_import_export_import_is_the_identity(tmp_path: Path, rows: list[dict[str, str]], form: str) -> None:
    name = uuid4().hex
    first, second = tmp_path / f"{name}.jsonl", tmp_path / (f"{name}-again" + ("" if form == "datasets" else f".{form}"))
    first.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    import_file(first, f"a{name}", task="generation")
    assert export(f"a{name}", form, second) == len(rows)
    import_file(second, f"b{name}", task="generation")
    known = ["train", "dev", "test", ""] if form == "datasets" else [""]  # a folder holds one split after the other
    by_split = [row for split in known for row in content(f"a{name}") if form != "datasets" or row["split"] == split]
    assert content(f"b{name}") == by_split


@quick
@given(
    st.lists(st.one_of(talk, st.none()), min_size=1, max_size=4),
    st.sampled_from(["jsonl", "json", "csv", "parquet", "sharegpt", "openai"]),
)
def test_conversations_read_back(tmp_path: Path, talks: list[str | None], form: str) -> None:
    name = uuid4().hex
    rows = [{"instruction": "i", "input": "q", "output": "a"} | ({} if t is None else _ends(t)) for t in talks]
    save_rows(f"a{name}", rows_of(*rows), task="chat")
    path = tmp_path / f"{name}{FORMATS[form]}"
    export(f"a{name}", form, path)
    import_file(path, f"b{name}", task="chat")
    assert content(f"b{name}") == content(f"a{name}")


def _ends(talk: str) -> dict[str, str]:
    turns = json.loads(talk)
    return {"instruction": "", "input": turns[-2]["content"], "output": turns[-1]["content"], "messages": talk}


@pytest.mark.parametrize("cell", [*("=1+1", "+1", "-1", "@x", "\tx", "\rx", "\nx"), "＝x"])
def test_spreadsheet_cells_are_harmless_and_read_back(tmp_path: Path, cell: str) -> None:
    assert harmless(cell) == "'" + cell
    save_rows("d", rows_of({"instruction": "i", "input": cell, "output": cell}, {"input": "'=x", "output": '中 "b", c\nd'}))
    export("d", "csv", tmp_path / "d.csv")
    with (tmp_path / "d.csv").open(encoding="utf-8-sig", newline="") as file:
        heading, row, other = csv.reader(file)
    assert heading == ["instruction", "input", "output", MARK]
    assert row == ["i", "'" + cell, "'" + cell, '["input", "output"]']
    assert (other[1], other[3]) == ("'=x", "")
    made = import_file(tmp_path / "d.csv", "again")
    assert content("again") == content("d")
    assert (made.quarantined, read_rows("again")["extra"].to_pylist()) == (0, [None, None])


def test_a_csv_of_others_keeps_its_quotes(tmp_path: Path) -> None:
    (tmp_path / "d.csv").write_text("input,output\n'=x,'-1\n", "utf-8")
    import_file(tmp_path / "d.csv", "d")
    assert read_rows("d")["input"].to_pylist() == ["'=x"]
    (tmp_path / "e.csv").write_text(f'input,output,{MARK}\n\'=x,y,no list\n\'=x,y,"[1, ""nosuch""]"\n', "utf-8")
    import_file(tmp_path / "e.csv", "e")
    assert read_rows("e")["input"].to_pylist() == ["'=x", "'=x"]


def test_our_csv_reads_back_from_a_workbook(tmp_path: Path) -> None:
    import pandas as pd

    save_rows("d", rows_of({"instruction": "i", "input": "=1+1", "output": "-"}, {"input": "plain", "output": "'"}))
    export("d", "csv", tmp_path / "d.csv")
    pd.read_csv(tmp_path / "d.csv", keep_default_na=False).to_excel(tmp_path / "d.xlsx", index=False)
    import_file(tmp_path / "d.xlsx", "again")
    assert content("again") == content("d")


@given(st.text("'=+-x", max_size=5))
def test_names_of_columns_are_harmless_and_read_back(name: str) -> None:
    assert plain_name(harmless_name(name)) == name
    assert not harmless_name(name).startswith(("=", "+", "-", "@"))


def test_a_column_with_a_dangerous_name_travels_and_a_bad_row_of_our_csv_can_be_mended(tmp_path: Path) -> None:
    save_rows("d", rows_of({"input": "a", "output": "=o", "extra": '{"=k":"v"}'}, {"input": "b", "output": "o"}))
    path = tmp_path / "d.csv"
    export("d", "csv", path)
    path.write_text(path.read_text("utf-8-sig") + "too,few\r\n", "utf-8")
    made = import_file(path, "again")
    assert json.loads(read_rows("again")["extra"][0].as_py()) == {"=k": "v"}
    assert made.quarantined == 1
    identifier = read_quarantine("again")["quarantine_id"][0].as_py()
    repair("again", identifier, ',c,\'=p,,"[""output""]"')
    assert content("again")[-1]["output"] == "=p"


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


def test_extra_columns_and_splits_travel(tmp_path: Path) -> None:
    save_rows(
        "d",
        rows_of({"input": "a", "output": "o", "split": "test", "extra": '{"k":[1],"input":"no"}'}, {"input": "b", "output": "o"}),
    )
    export("d", "jsonl", tmp_path / "all.jsonl")
    assert json.loads((tmp_path / "all.jsonl").read_text().splitlines()[0]) == {
        "instruction": "Extract", "input": "a", "output": "o", "split": "test", "k": [1], "tunewise_extra_input": "no",
    }  # fmt: skip
    assert export("d", "jsonl", tmp_path / "test.jsonl", split="test") == 1


CLASHING = {
    "instruction": "i", "input": "n", "output": "no", "OUTPUT": "p", "split": "train", "Split": "odd", "history": "h",
    "messages": "m", "system": "s", "tunewise_extra_input": "t", "tunewise_quoted": "=q", "label": "l", "数据集划分": "dev",
}  # fmt: skip
LISTS = {
    "history": [["q", "a"]],
    "dialogue": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}],
    "conversations": [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}],
    "pairs": [{"human": "q", "assistant": "a"}],
    "tokens": ["q", "a"],
    "ner_tags": ["O", "B-X"],
    "entities": [{"start": 0, "end": 1, "label": "x"}],
}
TALK = json.dumps([{"role": r, "content": r} for r in ("user", "assistant") * 2], separators=(",", ":"))


@pytest.mark.parametrize("form", ["jsonl", "json", "csv", "parquet", "datasets"])
@pytest.mark.parametrize("talk", [False, True], ids=["single", "talk"])
@pytest.mark.parametrize("extra", [CLASHING, *({name: value} for name, value in LISTS.items())], ids=["names", *LISTS])
def test_a_column_that_is_named_or_filled_like_a_field_comes_back_beside_the_row(
    tmp_path: Path, form: str, talk: bool, extra: dict[str, Any]
) -> None:
    row = {"instruction": "", "input": "user", "output": "assistant", "messages": TALK} if talk else {"input": "a", "output": "o"}
    told = json.dumps(extra, ensure_ascii=False)
    save_rows("d", rows_of(*({**row, "split": split, "extra": told} for split in ("train", "test"))), task="generation")
    path = tmp_path / f"d{FORMATS[form]}"
    export("d", form, path)
    made = import_file(path, "again", task="generation")
    assert content("again") == content("d")
    assert made.quarantined == 0
    for text in read_rows("again")["extra"].to_pylist():
        found = {key: _read(value, extra[key]) for key, value in json.loads(text).items()}
        assert found == extra


def _read(value: Any, like: Any) -> Any:
    """Lists are JSON text in CSV, and in the columns of a table where they aren't all of one kind."""
    return json.loads(value) if isinstance(value, str) and not isinstance(like, str) else value


def test_only_columns_that_would_be_taken_for_fields_get_another_name(tmp_path: Path) -> None:
    save_rows("d", rows_of({"input": "a", "output": "o", "extra": '{"label":"l","tags":["x"],"system":"s","history":"h"}'}))
    export("d", "jsonl", tmp_path / "d.jsonl")
    assert list(json.loads((tmp_path / "d.jsonl").read_text()))[3:] == ["label", "tags", "system", "tunewise_extra_history"]


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


EXTRAS = ('{"k":3,"who":"me","tags":["a"],"odd":1,"deep":{"x":1}}', '{"k":4,"odd":"o","deep":{"y":[2]}}', None)


@pytest.mark.parametrize("form", ["datasets", "parquet"])
def test_columns_beside_a_row_travel_with_their_types(tmp_path: Path, form: str) -> None:
    save_rows("d", rows_of(*({"input": text, "output": "o", "extra": extra} for text, extra in zip("abc", EXTRAS, strict=True))))
    path = tmp_path / f"d{'' if form == 'datasets' else '.parquet'}"
    export("d", form, path)
    import_file(path, "again")
    first, second, third = (json.loads(text) for text in read_rows("again")["extra"].to_pylist())
    assert first == {"k": 3, "who": "me", "tags": ["a"], "odd": "1", "deep": '{"x": 1}'}
    assert (second["k"], second["who"], second["odd"]) == (4, None, "o")
    assert set(third.values()) == {None}


def test_a_datasets_folder_names_the_splits_as_they_are(tmp_path: Path) -> None:
    from datasets import load_from_disk

    save_rows("d", rows_of({"input": "a", "split": "train"}, {"input": "b", "split": "test"}, {"input": "c"}))
    assert export("d", "datasets", tmp_path / "folder") == 3
    loaded = load_from_disk(str(tmp_path / "folder"))
    assert {name: part["input"][:] for name, part in loaded.items()} == {"train": ["a"], "test": ["b"], "unsplit": ["c"]}
    import_file(tmp_path / "folder", "again")
    assert read_rows("again")["split"].to_pylist() == ["train", "test", ""]
    save_rows("e", rows_of({"input": "a"}, {"input": "b"}))
    export("e", "datasets", tmp_path / "whole")
    assert load_from_disk(str(tmp_path / "whole"))["input"][:] == ["a", "b"]


def test_a_datasets_folder_is_there_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from datasets import DatasetDict, load_from_disk

    save_rows("d", rows_of({"input": "a", "split": "train"}))
    folder = tmp_path / "folder"
    export("d", "datasets", folder)

    def half(self: Any, path: str) -> None:
        (Path(path) / "train").mkdir(parents=True)
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch, pytest.raises(UserError, match="No space left"):
        patch.setattr(DatasetDict, "save_to_disk", half)
        export("d", "datasets", folder, overwrite=True)
    assert load_from_disk(str(folder))["train"]["input"][:] == ["a"]
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith((".", "folder"))] == ["folder"]
    export("d", "datasets", folder, overwrite=True)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter.txt").write_text("dear")
    with pytest.raises(UserError, match="something else"):
        export("d", "datasets", tmp_path / "mine", overwrite=True)
    assert (tmp_path / "mine" / "letter.txt").read_text() == "dear"


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
