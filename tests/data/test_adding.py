"""Rows written in the app: added as a step that can be undone, duplicates and conflicts said, new datasets begun."""

from __future__ import annotations

import json
import threading
from typing import Any

import pytest

from core.data.adding import add_row, doubts, standing
from core.data.answers import break_of
from core.data.recipes import replay, undo
from core.errors import UserError
from core.store.datasets import get_dataset, get_version, list_versions, read_ledger, read_rows

ROW: dict[str, Any] = {"instruction": "抽取要素", "input": "张三加入华信。", "output": '{"person": ["张三"]}'}
OTHER = {**ROW, "output": ' {"person": ["李四"], "colour": ["red"]}\n'}


def test_a_new_dataset_begins_with_the_row_as_an_import_named_chat() -> None:
    version = add_row("neu", {**ROW, "extra": {"conversation_id": "c-1"}}, split="train")
    row = read_rows("neu").to_pylist()[0]
    assert (version.number, row["source"], row["split"]) == (1, "chat", "train")
    assert {name: row[name] for name in ROW} == ROW
    assert json.loads(row["extra"]) == {"conversation_id": "c-1"}
    assert get_dataset("neu").task == "extraction"
    assert get_dataset("neu").elements == ("person",)


def test_a_further_row_is_a_step_with_its_ledger_and_can_be_undone() -> None:
    add_row("neu", ROW, split="train")
    version = add_row("neu", OTHER, split="dev")
    row = read_rows("neu").to_pylist()[-1]
    assert (row["source"], row["split"], row["output"]) == ("chat", "dev", OTHER["output"].strip())
    assert [(e["op"], e["reason"], e["row_id"]) for e in read_ledger("neu").to_pylist()] == [
        ("add_rows", "added from chat", row["row_id"])
    ]
    assert replay("neu", version.recipe).rows.equals(read_rows("neu"))
    assert undo("neu").rows == 1
    assert read_rows("neu")["output"].to_pylist() == [ROW["output"]]


def test_an_equal_row_is_refused_and_other_answers_to_the_question_are_told() -> None:
    add_row("neu", ROW, split="train")
    with pytest.raises(UserError, match=r"has this row already: \w+-0000001 in train"):
        add_row("neu", ROW, split="test")
    assert len(list_versions("neu")) == 1
    assert [answer for _, _, answer in standing("neu", OTHER).conflicting] == [ROW["output"]]
    assert standing("neu", ROW).equal
    assert standing("nowhere", ROW) == standing("neu", {**ROW, "input": "else"})


def test_what_is_unusual_is_told_and_what_cannot_be_read_is_refused() -> None:
    add_row("neu", ROW)
    assert doubts("neu", OTHER) == ["neu has no element colour.", "Not in the text: 李四, red."]
    assert doubts("neu", ROW) == []
    with pytest.raises(UserError, match="at character 13"):
        add_row("neu", {**ROW, "output": '{"person": ['})
    with pytest.raises(UserError, match="empty"):
        add_row("neu", {**ROW, "output": "  "})
    with pytest.raises(UserError, match="name"):
        add_row("../up", ROW)
    assert get_version("neu").number == 1


def test_a_conversation_keeps_its_turns_and_one_question_is_none() -> None:
    turns = [("user", "a"), ("assistant", "b"), ("user", "c"), ("assistant", "d")]
    messages = json.dumps([{"role": role, "content": text} for role, text in turns])
    row = {"instruction": "", "input": "c", "output": "d", "messages": messages}
    for _ in range(2):
        add_row("talks", row, task="chat")
        row = {**row, "output": "e", "messages": messages.replace('"d"', '"e"')}
    found = read_rows("talks").to_pylist()
    assert [[m["content"] for m in json.loads(r["messages"])] for r in found] == [["a", "b", "c", "d"], ["a", "b", "c", "e"]]
    assert [(r["input"], r["output"]) for r in found] == [("c", "d"), ("c", "e")]
    single = json.dumps([{"role": "user", "content": "x"}, {"role": "assistant", "content": "y"}])
    add_row("talks", {"input": "x", "output": "y", "messages": single})
    assert read_rows("talks").to_pylist()[-1]["messages"] is None


def test_many_who_add_at_once_all_get_their_row_in() -> None:
    add_row("neu", ROW)
    faults: list[BaseException] = []

    def add(number: int) -> None:
        try:
            add_row("neu", {**ROW, "input": f"张三 {number}"})
        except BaseException as fault:
            faults.append(fault)

    threads = [threading.Thread(target=add, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert faults == []
    assert sorted(read_rows("neu")["input"].to_pylist()[1:]) == [f"张三 {n}" for n in range(4)]


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ('{"a": [1, 2}', (11, 1, 12)),
        ('{"a": 1,\n "b": tru}', (15, 2, 7)),
        ("Sure! {}", (0, 1, 1)),
        ('{"姓名": ["张', (8, 1, 9)),
        ("{} and more", (3, 1, 4)),
        ("", (0, 1, 1)),
    ],
)
def test_where_json_breaks(text: str, place: tuple[int, int, int]) -> None:
    found = break_of(text)
    assert found is not None
    assert (found.position, found.line, found.column) == place
    assert found.reason


def test_what_is_json_breaks_nowhere() -> None:
    assert break_of('{"a": 1}') is None
    assert break_of("[1]") is None
    assert break_of("NaN") is None
