"""Golden tables: what operations on extraction answers do to a few rows, and the ledger they leave."""

from __future__ import annotations

import json

from core.data.operations.registry import operation_of
from core.records import Step
from tests.data.make import context, state_of
from tests.data.operating import BROKEN, cells, numbers, run


def test_fix_json_drops() -> None:
    outcome = run("fix_json", *BROKEN, params={"action": "drop"})
    assert numbers(outcome) == [1, 4]
    assert outcome.changes["reason"][1].as_py() == "the answer is a list, not a JSON object"


def test_fix_json_puts_aside() -> None:
    outcome = run("fix_json", *BROKEN)
    assert numbers(outcome) == [1, 4]
    aside = outcome.state.quarantine.to_pylist()
    assert [row["line"] for row in aside] == [2, 3, 5]
    assert json.loads(aside[0]["raw"])["output"] == '{"a":"x"'


def test_fix_json_repairs() -> None:
    outcome = run("fix_json", *BROKEN, params={"action": "repair", "otherwise": "drop"})
    assert numbers(outcome) == [1, 2, 4, 5]
    assert [json.loads(text) for text in cells(outcome) if text.strip()] == [{"a": "x"}] * 3
    assert cells(outcome)[3] == '{"a":"x"}'


def test_unknown_elements() -> None:
    rows = [{"output": '{"a":["x"],"z":["y"]}'}, {"output": '{"a":[]}'}, {"output": "broken"}]
    outcome = run("unknown_elements", *rows, elements=("a",))
    assert cells(outcome) == ['{"a":["x"]}', '{"a":[]}', "broken"]
    assert outcome.changes["reason"].to_pylist() == ["unknown element: z"]
    assert numbers(run("unknown_elements", *rows, params={"action": "drop_row"}, elements=("a",))) == [2, 3]


def test_elements_are_inferred_once_and_written_down() -> None:
    rows = [{"output": '{"a":["x"]}'}] * 200 + [{"input": "another", "output": '{"odd":["x"]}'}]
    operation = operation_of(Step(op="unknown_elements")).resolved(state_of(*rows), context())
    assert operation.model_dump()["elements"] == ("a",)
    assert cells(operation.run(state_of(*rows), context()))[-1] == "{}"


GROUNDED = {"input": "张三\n毕业于 北京大学", "output": '{"姓名":["张三","李四"],"学校":"三毕","学历":["博士"]}'}


def test_ungrounded_values() -> None:
    outcome = run("ungrounded_values", GROUNDED)
    assert cells(outcome) == ['{"姓名":["张三"],"学校":"三毕"}']
    assert outcome.changes["reason"].to_pylist() == ["not in the text: 姓名 = 李四; 学历 = 博士"]
    assert numbers(run("ungrounded_values", GROUNDED, params={"action": "drop_row"})) == []


def test_a_row_of_which_nothing_is_left_is_put_aside_as_it_was() -> None:
    rows = [
        {"input": "张三", "output": '{"n":["李四"]}'},
        {"input": "张三", "output": '{"n":["张三"]}'},
        {"input": "王五", "output": "{}"},
        {"input": "赵六", "output": '{"n":["李四"]}'},
    ]
    outcome = run("ungrounded_values", *rows)
    assert cells(outcome) == ['{"n":["张三"]}', "{}"]
    aside = outcome.state.quarantine.to_pylist()
    assert [json.loads(row["raw"])["output"] for row in aside] == ['{"n":["李四"]}'] * 2
    assert outcome.changes["reason"].to_pylist() == ["not in the text: n = 李四; nothing is left of the answer"] * 2
    kept = run("ungrounded_values", *rows, params={"emptied": "keep"})
    assert list(zip(numbers(kept), cells(kept), strict=True)) == [(2, '{"n":["张三"]}'), (3, "{}"), (4, "{}")]
    (reason,) = (line["reason"] for line in kept.changes.to_pylist() if line["after"] is None)
    assert reason == "not in the text: n = 李四; aaaaaa-0000002 answers the same question with more"


def test_what_is_left_of_an_answer_yields_only_to_one_that_says_all_of_it_and_more() -> None:
    def names(*given: str) -> dict[str, str]:
        return {"input": "甲乙和丙丁", "output": json.dumps({"n": given}, ensure_ascii=False)}

    yields = run("ungrounded_values", names("甲乙", "戊己"), names("甲乙", "丙丁"))
    assert numbers(yields) == [2]
    differs = run("ungrounded_values", names("甲乙", "戊己"), names("丙丁"))
    assert numbers(differs) == [1, 2]  # a conflict of two values that are both there stays one
    same = run("ungrounded_values", names("甲乙", "戊己"), names("甲乙"))
    assert numbers(same) == [1, 2]
    assert cells(same) == ['{"n": ["甲乙"]}'] * 2


def test_a_row_emptied_of_unknown_elements_is_none_with_nothing_to_find_where_another_row_has_values() -> None:
    rows = [
        {"input": "q", "output": '{"z":["x"]}'},
        {"input": "q", "output": '{"a":["x"]}'},
        {"input": "p", "output": '{"z":["x"]}'},
    ]
    outcome = run("unknown_elements", *rows, elements=("a",))
    assert list(zip(numbers(outcome), cells(outcome), strict=True)) == [(2, '{"a":["x"]}'), (3, "{}")]
    assert outcome.state.quarantine["line"].to_pylist() == [1]
    assert numbers(run("unknown_elements", *rows, params={"emptied": "quarantine"}, elements=("a",))) == [2]


def test_align_writes_values_as_in_the_text() -> None:
    assert cells(run("ungrounded_values", GROUNDED, params={"action": "align"})) == [
        '{"姓名":["张三","李四"],"学校":"三\\n毕","学历":["博士"]}'
    ]


def test_map_elements() -> None:
    row = {"output": '{"company": "X", "org": ["X", "Y"], "junk": 1, "date": "d"}'}
    operation = operation_of(Step(op="map_elements", params={"mapping": {"org": "company", "junk": None}}))
    outcome = operation.run(state_of(row), context())
    assert cells(outcome) == ['{"company": ["X", "Y"], "date": "d"}']
    assert operation.elements_after(("org", "company", "junk", "date")) == ("company", "date")


def test_lists_of_strings() -> None:
    row = {"output": '{"a": "x", "b": [1, "x", null, " "], "c": null, "d": ["y"], "a": "z"}'}
    assert cells(run("lists_of_strings", row)) == ['{"a": ["x", "z"], "b": ["1", "x"], "d": ["y"]}']
    assert run("lists_of_strings", {"output": '{"d":["y"]}'}).changes.num_rows == 0


def test_answers_of_conversations_are_left_alone() -> None:
    turns = [{"role": "user", "content": "q"}, {"role": "assistant", "content": '{"z": 1}'}]
    row = {"output": '{"z": 1}', "messages": json.dumps(turns)}
    for op in ("unknown_elements", "ungrounded_values", "lists_of_strings", "canonical_answers"):
        assert run(op, row, elements=("a",)).changes.num_rows == 0
