"""alpaca, sharegpt and openai: what comes back from each, what a shape has no place for, and that it is said."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from core.__main__ import main
from core.data.export import FORMATS, export, left_out_of, remarks
from core.data.export_shapes import left_out_words
from core.data.importing import import_file
from core.errors import UserError
from core.store.datasets import read_rows
from tests.data.make import rows_of, save_rows
from tests.data.test_mix_export import CLASHING, LISTS, content

SHAPES = ("alpaca", "sharegpt", "openai")
Record = dict[str, Any]


def talk(*turns: tuple[str, str]) -> Record:
    """The columns of a conversation's row, as an import makes them."""
    said = [{"role": role, "content": text} for role, text in turns]
    system = turns[0][1] if turns[0][0] == "system" else ""
    asked = [text for role, text in turns if role == "user"][-1]
    reply = turns[-1][1] if turns[-1][0] == "assistant" else ""
    messages = json.dumps(said, ensure_ascii=False, separators=(",", ":"))
    return {"instruction": system, "input": asked, "output": reply, "messages": messages}


def beside(**columns: Any) -> Record:
    return {"extra": json.dumps(columns, ensure_ascii=False, separators=(",", ":"))}


SINGLE = [
    {"instruction": "抽取甲方", "input": "甲方：云海公司。", "output": '{"甲方":"云海公司"}', "split": "train"}
    | beside(来源="合同库", language="zh", group=3),
    {"instruction": "Extract the buyer", "input": "Buyer: “Ann’s” Ltd.\nPaid.", "output": '{"buyer":["Ann’s"]}', "split": "dev"}
    | beside(source="mail", language="en", tags=["a", "b"]),
    {"instruction": "", "input": "无事。", "output": "{}"},
]
SEVERAL = [
    talk(("system", "你是助手。"), ("user", "你好"), ("assistant", "您好！"), ("user", "再见"), ("assistant", "再会。"))
    | {"split": "train"}
    | beside(来源="客服", group=1),
    talk(("user", "Hi"), ("assistant", "Hello."), ("user", "Bye,\nthen"), ("assistant", "")) | beside(group=2, meta={"页": [1]}),
    {"instruction": "Be brief.", "input": "One?", "output": "二"} | beside(language="en"),
]
TOOLS = talk(
    ("user", "北京天气"), ("assistant", '{"name": "weather", "arguments": {"city": "北京"}}'), ("tool", '{"t": 3}'),
    ("assistant", "3 度。"),
)  # fmt: skip


def back(tmp_path: Path, form: str, rows: list[Record], task: Any = "chat") -> list[Record]:
    """Rows after an export and an import."""
    save_rows("d", rows_of(*rows), task=task)
    path = tmp_path / f"d{FORMATS[form]}"
    assert export("d", form, path) == len(rows)
    made = import_file(path, "again", task=task)
    assert made.quarantined == 0
    return content("again")


def extras(name: str) -> list[Record]:
    return [json.loads(text or "{}") for text in read_rows(name)["extra"].to_pylist()]


@pytest.mark.parametrize("form", ["alpaca", "sharegpt"])
@pytest.mark.parametrize("rows", [SINGLE, SEVERAL])
def test_alpaca_and_sharegpt_come_back_whole(tmp_path: Path, form: str, rows: list[Record]) -> None:
    assert back(tmp_path, form, rows) == content("d")
    assert extras("again") == extras("d")
    assert left_out_of("d", form) == {}


@pytest.mark.parametrize(("rows", "left"), [
    (SINGLE, {"language": 2, "来源": 1, "group": 1, "source": 1, "tags": 1, "split": 2}),
    (SEVERAL, {"group": 2, "来源": 1, "meta": 1, "language": 1, "split": 1}),
    ([TOOLS | beside(tools=[{"type": "function"}], parallel_tool_calls=False)], {}),
])  # fmt: skip
def test_openai_brings_the_turns_back_and_says_what_it_leaves_out(tmp_path: Path, rows: list[Record], left: Record) -> None:
    assert back(tmp_path, "openai", rows) == [row | {"split": ""} for row in content("d")]
    assert left_out_of("d", "openai") == left
    assert extras("again") == [{key: value for key, value in row.items() if key not in left} for row in extras("d")]
    for line in (tmp_path / "d.jsonl").read_text("utf-8").splitlines():
        assert json.loads(line).keys() <= {"messages", "tools", "parallel_tool_calls"}


@pytest.mark.parametrize("form", ["alpaca", "sharegpt"])
@pytest.mark.parametrize("kind", ["single", "talk"])
@pytest.mark.parametrize(
    "extra",
    [CLASHING | {"prompt": "p", "conversations": "c", "系统": "s"}, *({name: value} for name, value in LISTS.items())],
    ids=["names", *LISTS],
)
def test_columns_that_look_like_the_shapes_own_come_back(tmp_path: Path, form: str, kind: str, extra: Record) -> None:
    row = {"input": "q", "output": "a"} if kind == "single" else talk(*(("user", "q"), ("assistant", "a")) * 2)
    rows = [row | {"split": split} | beside(**extra) for split in ("train", "test")]
    assert back(tmp_path, form, rows, "generation" if kind == "single" else "chat") == content("d")
    assert extras("again") == [extra, extra]


def test_a_file_for_other_tools_loads_though_a_column_has_values_of_several_kinds(tmp_path: Path) -> None:
    from datasets import load_dataset

    odd = [1, "two", [3], {"four": 4}, 10**30]
    save_rows("d", rows_of(*({"input": "q", "output": "o"} | beside(odd=value, n=place) for place, value in enumerate(odd))))
    for form, own in (("alpaca", "instruction"), ("sharegpt", "conversations")):
        export("d", form, tmp_path / f"{form}.json")
        read = load_dataset("json", data_files=str(tmp_path / f"{form}.json"), split="train", cache_dir=str(tmp_path / form))
        assert read.features["odd"].dtype == "string"
        assert read["odd"][:] == ["1", "two", "[3]", '{"four": 4}', str(10**30)]
        assert read["n"][:] == [0, 1, 2, 3, 4]
        assert own in read.features


def test_nothing_that_trl_would_take_for_other_data_stands_beside_a_conversation(tmp_path: Path) -> None:
    save_rows("d", rows_of({"input": "q", "output": "a"} | beside(prompt="p", completion="c", text="t")))
    export("d", "sharegpt", tmp_path / "d.json")
    assert list(json.loads((tmp_path / "d.json").read_text("utf-8"))[0]) == [
        "conversations", "system", "tunewise_extra_prompt", "tunewise_extra_completion", "text",
    ]  # fmt: skip


def test_a_system_text_between_turns_is_kept_or_refused(tmp_path: Path) -> None:
    row = talk(("user", "q"), ("system", "now in English"), ("user", "p"), ("assistant", "a"))
    assert back(tmp_path, "sharegpt", [row]) == content("d")
    with pytest.raises(UserError, match=r"1 conversation is no plain exchange .* the first is row aaaaaa-0000001"):
        export("d", "alpaca", tmp_path / "x.json")
    assert not (tmp_path / "x.json").exists()


def test_a_call_of_a_function_is_told_as_one(tmp_path: Path) -> None:
    assert back(tmp_path, "sharegpt", [TOOLS | beside(tools='[{"name": "weather"}]', language="zh")]) == content("d")
    assert extras("again") == extras("d")
    json_reply = talk(("user", "q"), ("assistant", '{"name": "x"}'), ("user", "p"), ("assistant", "a"))
    save_rows("e", rows_of(TOOLS, json_reply), task="chat")
    export("e", "sharegpt", tmp_path / "e.json")
    first, second = json.loads((tmp_path / "e.json").read_text("utf-8"))
    assert [turn["from"] for turn in first["conversations"]] == ["human", "function_call", "observation", "gpt"]
    assert [turn["from"] for turn in second["conversations"]] == ["human", "gpt", "human", "gpt"]


def test_calls_of_functions_are_told_of_where_openai_would_refuse_them() -> None:
    save_rows("d", rows_of(TOOLS, SEVERAL[0]), task="chat")
    assert not any("functions" in line for line in remarks("d", "openai", {}, split="train"))
    assert [line.split(",")[0] for line in remarks("d", "openai", {})][-1] == "1 conversation holds calls of functions as text"
    assert not any("functions" in line for line in remarks("d", "sharegpt", {}))


def test_a_split_without_rows_is_no_export(tmp_path: Path) -> None:
    save_rows("d", rows_of(*SINGLE))
    with pytest.raises(UserError, match="in split 'test'"):
        export("d", "jsonl", tmp_path / "d.jsonl", split="test")
    assert export("d", "jsonl", tmp_path / "d.jsonl", split="") == 1


def test_words() -> None:
    assert left_out_words("jsonl", {}, {"train": 3, "dev": 1}) == []
    assert left_out_words("openai", {}, {"train": 3}) == []
    left, mixed = left_out_words("openai", {"语言": 1, "split": 1200}, {"train": 1199, "test": 1, "": 4, "dev": 0})
    assert left.startswith("Left out: 语言 (1 row), split (1,200 rows). openai holds")
    assert mixed == "Rows of train (1,199), test (1) and no split (4) are in one file; a tool trains on all of them."


def test_on_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save_rows("d", rows_of(*SINGLE))
    path = tmp_path / "d.jsonl"

    def run(*options: str) -> tuple[int, str, str]:
        code = main(["export-data", "d", "--to", str(path), *options])
        said = capsys.readouterr()
        return code, said.out, said.err

    code, out, _ = run("--format", "openai", "--dry-run")
    assert code == 0
    assert out.startswith("3 rows of version 1 would be written")
    assert "language (2 rows)" in out
    assert not path.exists()
    code, out, _ = run("--format", "openai", "--json")
    told = json.loads(out)
    assert (code, told["rows"], told["left_out"]["split"]) == (0, 3, 2)
    code, out, _ = run("--format", "openai", "--split", "dev", "--overwrite")
    assert out.splitlines()[0] == f"1 row written to {path}"
    assert out.splitlines()[1].startswith("Left out: source (1 row), language (1 row), tags (1 row). openai")
    assert len(out.splitlines()) == 2
    code, out, _ = run("--format", "jsonl", "--overwrite")
    assert out == f"3 rows written to {path}\n"
    assert run("--format", "docx", "--dry-run")[0] == 2
