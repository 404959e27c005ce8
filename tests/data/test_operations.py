"""Golden tables: what each operation does to a few rows, and the ledger it leaves."""

from __future__ import annotations

import json
from typing import Any

import pytest

from core.data.operations.base import Operation
from core.data.operations.registry import OPERATIONS, operation_of
from core.errors import SpecError, UserError
from core.records import Step
from tests.data.make import context
from tests.data.operating import BROKEN, cells, numbers, run

NORMAL = [
    ("  a  b\t c \r\n\r\n\r\n\r\n d ", "a b c\n\nd"),
    ("ＡＢＣ１２３＠ｘ", "ABC123@x"),
    ("你好，世界！（一）：；？～", "你好，世界！（一）：；？～"),
    ("甲\u3000\u3000乙\u00a0丙", "甲 乙 丙"),
    ("　　开头", "开头"),
    ("a\u2028b", "a\nb"),
    ("plain text", "plain text"),
]


@pytest.mark.parametrize(("text", "expected"), NORMAL)
def test_normalise(text: str, expected: str) -> None:
    outcome = run("normalise", {"input": text})
    assert cells(outcome, "input") == [expected]
    assert outcome.changes.num_rows == (text != expected)


def test_normalise_punctuation_only_when_asked() -> None:
    assert cells(run("normalise", {"input": "你好，世界。"}, params={"punctuation": True}), "input") == ["你好,世界."]


def test_normalise_keeps_answers_readable_and_in_step_with_the_input() -> None:
    row = {"input": "编号Ａ１\u3000 ＂x＂", "output": '{"编号": ["Ａ１\\u3000 ＂x＂"], "n": 1}'}
    outcome = run("normalise", row)
    assert cells(outcome, "input") == ['编号A1 "x"']
    assert cells(outcome) == ['{"编号": ["A1 \\"x\\""], "n": 1}']
    (entry,) = outcome.changes.to_pylist()
    assert json.loads(entry["before"]) == {"input": row["input"], "output": row["output"]}
    assert json.loads(entry["after"]) == {"input": '编号A1 "x"', "output": cells(outcome)[0]}


def test_normalise_goes_into_conversations() -> None:
    turns = [{"role": "user", "content": " Ａ "}, {"role": "assistant", "content": "b"}]
    outcome = run("normalise", {"messages": json.dumps(turns)})
    assert json.loads(cells(outcome, "messages")[0]) == [turns[0] | {"content": "A"}, turns[1]]


def test_text_is_kept_byte_for_byte_where_nothing_changes() -> None:
    odd = '{ "a" : ["x"],\n"b":1.50 }'
    assert cells(run("normalise", {"output": odd})) == [odd]


def test_drop_empty() -> None:
    outcome = run(
        "drop_empty", {"input": "x"}, {"input": "x", "output": " "}, *[{"input": "y"}] * 18, {"input": "\n", "output": "{}"}
    )
    assert numbers(outcome) == [1, *range(3, 21)]
    assert outcome.changes["reason"].to_pylist() == ["the answer is empty", "nothing is asked"]


def test_an_instruction_alone_is_a_question_outside_extraction() -> None:
    assert run("drop_empty", {"instruction": "Who?", "output": "I"}, task="generation").changes.num_rows == 0


def test_a_conversation_is_not_empty() -> None:
    assert run("drop_empty", {"instruction": "", "output": "", "messages": "[]"}, task="chat").changes.num_rows == 0


def test_drop_exact_duplicates_keeps_the_first() -> None:
    a, b = {"input": "a"}, {"input": "a", "output": '{"x":"1"}'}
    outcome = run("drop_exact_duplicates", a, b, a, {"input": "a", "instruction": "other"}, b, a | {"messages": "[]"})
    assert numbers(outcome) == [1, 2, 4, 6]
    assert outcome.changes["reason"].to_pylist() == ["equal to aaaaaa-0000001", "equal to aaaaaa-0000002"]


CONFLICT = [("q", "A"), ("q", "B"), ("p", "A"), ("q", "B"), ("r", "A"), ("r", "C"), ("p", "A")]


@pytest.mark.parametrize(
    ("rule", "left"), [("drop_all", [3, 7]), ("keep_first", [1, 3, 5, 7]), ("majority", [2, 3, 4, 5, 7])]
)  # fmt: skip
def test_resolve_conflicts(rule: str, left: list[int]) -> None:
    outcome = run("resolve_conflicts", *({"input": q, "output": a} for q, a in CONFLICT), params={"rule": rule})
    assert numbers(outcome) == left


def test_merge_conflicts() -> None:
    rows = [
        {"input": "q", "output": "broken"},
        {"input": "q", "output": '{"a": ["x", "x"], "b": ["y"]}'},
        {"input": "q", "output": '{"a":["x","z"],"c":"w"}'},
        {"input": "s", "output": "bad"},
        {"input": "s", "output": "worse"},
    ]
    outcome = run("resolve_conflicts", *rows, params={"rule": "merge"})
    assert numbers(outcome) == [2, 4]
    assert cells(outcome) == ['{"a": ["x", "x", "z"], "b": ["y"], "c": ["w"]}', "bad"]
    assert sorted(outcome.changes["row_id"].to_pylist())[:2] == ["aaaaaa-0000001", "aaaaaa-0000002"]


def test_conversations_conflict_by_their_last_answer() -> None:
    def talk(answer: str) -> dict[str, Any]:
        turns = [{"role": "user", "content": "q"}, {"role": "assistant", "content": answer}]
        return {"instruction": "", "output": "", "messages": json.dumps(turns)}

    assert numbers(run("resolve_conflicts", talk("a"), talk("b"), params={"rule": "keep_first"})) == [1]
    assert numbers(run("resolve_conflicts", talk("a"), talk("a"))) == [1, 2]


@pytest.mark.parametrize(
    ("params", "left"),
    [
        ({"test": "contains", "value": "b"}, [1, 3]),
        ({"test": "contains", "value": "B", "ignore_case": True, "action": "keep"}, [2]),
        ({"test": "equals", "value": "abc"}, [1, 3]),
        ({"test": "starts_with", "value": "甲"}, [1, 2]),
        ({"test": "matches", "value": "^a.c$"}, [1, 3]),
        ({"test": "longer_than", "value": 3}, [2, 3]),
        ({"test": "shorter_than", "value": "4"}, [1]),
        ({"test": "equals", "value": "test", "column": "split"}, [1, 3]),
        ({"test": "one_of", "value": ["abc", "甲乙"]}, [1]),
        ({"test": "one_of", "value": ["ABC"], "ignore_case": True, "invert": True}, [2]),
        ({"test": "is_empty", "column": "split"}, [2]),
        ({"test": "has_element", "value": "n"}, [1, 2]),
        ({"test": "has_element", "value": "n", "invert": True}, [3]),
        ({"test": "greater_than", "value": 5, "column": "score"}, [2, 3]),
        ({"test": "less_than", "value": "5.5", "column": "score", "action": "keep"}, [3]),
    ],
)
def test_filter(params: dict[str, Any], left: list[int]) -> None:
    rows = [
        {"input": "aXXc", "extra": '{"score": 9}'},
        {"input": "abc", "split": "test", "extra": '{"score": "x"}'},
        {"input": "甲乙", "output": '{"n":[]}', "extra": '{"score": "1.5"}'},
    ]
    assert numbers(run("filter", *rows, params=params)) == left


def test_filter_says_what_is_wrong() -> None:
    with pytest.raises(UserError, match="regular expression"):
        run("filter", {}, params={"test": "matches", "value": "("})
    for params in ({"test": "longer_than", "value": "x"}, {"test": "one_of", "value": "x"}, {"test": "equals", "value": ["x"]}):
        with pytest.raises(SpecError):
            run("filter", {}, params=params)
    with pytest.raises(SpecError, match="no column 'x'"):
        run("filter", {}, params={"test": "is_empty", "column": "x"})


def test_sample_is_seeded_and_keeps_the_order() -> None:
    rows = [{"input": str(n), "split": "train" if n % 2 else "test"} for n in range(100)]
    first = numbers(run("sample", *rows, params={"rows": 10}))
    assert len(first) == 10
    assert first == sorted(first) == numbers(run("sample", *rows, params={"rows": 10}))
    assert first != numbers(run("sample", *rows, params={"rows": 10, "seed": 8}))
    assert len(numbers(run("sample", *rows, params={"share": 0.5, "split": "train"}))) == 75


LEAKY = [
    {"input": "a", "split": "train"},
    {"input": "b", "split": "train"},
    {"input": "a", "split": "test"},
    {"input": "c", "split": "dev"},
]


@pytest.mark.parametrize(
    ("action", "left"), [("drop", [1, 2, 4]), ("drop_from_train", [2, 3, 4]), ("move_to_train", [1, 2, 3, 4])]
)
def test_resolve_leaks(action: str, left: list[int]) -> None:
    outcome = run("resolve_leaks", *LEAKY, params={"action": action})
    assert numbers(outcome) == left
    assert outcome.changes.num_rows == 1
    if action == "move_to_train":
        assert cells(outcome, "split") == ["train", "train", "train", "dev"]


def test_hand_edits_survive_a_row_that_is_gone() -> None:
    edits = [
        {"row_id": "aaaaaa-0000002", "column": "output", "value": "first"},
        {"row_id": "aaaaaa-0000002", "column": "output", "value": "new"},
        {"row_id": "aaaaaa-0000002", "column": "input", "value": "i"},
        {"row_id": "gone", "column": "input", "value": "i"},
    ]
    outcome = run("hand_edit", {}, {}, params={"edits": edits})
    assert cells(outcome) == ["{}", "new"]
    assert cells(outcome, "input") == ["", "i"]


def test_an_edited_conversation_keeps_its_columns_and_turns_in_step() -> None:
    turns = [{"role": r, "content": t} for r, t in (("system", "s"), ("user", "q"), ("assistant", "a"))]
    row = {"instruction": "s", "input": "q", "output": "a", "messages": json.dumps(turns)}
    edit = {"row_id": "aaaaaa-0000001", "column": "output", "value": "b"}
    outcome = run("hand_edit", row, params={"edits": [edit]})
    assert [turn["content"] for turn in json.loads(cells(outcome, "messages")[0])] == ["s", "q", "b"]
    talk = json.dumps([turns[1], turns[2] | {"content": "c"}])
    outcome = run("hand_edit", row, params={"edits": [edit | {"column": "messages", "value": talk}]})
    assert [cells(outcome, name) for name in ("instruction", "input", "output")] == [[""], ["q"], ["c"]]
    for value in ("{}", "[" * 100_000):
        with pytest.raises(SpecError, match="no list of turns"):
            run("hand_edit", row, params={"edits": [edit | {"column": "messages", "value": value}]})


NEAR = "一段足够长的文本用来说明近似重复是怎样出现的，请仔细核对每一个字"


def test_drop_near_duplicates() -> None:
    outcome = run("drop_near_duplicates", {"input": NEAR}, {"input": NEAR + "。"}, {"input": NEAR}, {"input": "别的"})
    assert numbers(outcome) == [1, 3, 4]
    assert outcome.changes["reason"][0].as_py().startswith("nearly equal to aaaaaa-0000001 (0.9")


TEXT_OPERATIONS = [
    (
        "strip_markup",
        {"input": "<p>张三</p>", "output": '{"人":["<b>张三</b>"]}'},
        {"input": "张三", "output": '{"人":["张三"]}'},
    ),
    ("strip_control", {"input": "张\u200b三\x07"}, {"input": "张三"}),
    ("repair_mojibake", {"input": "å¼\xa0ä¸‰", "output": "å¼\xa0ä¸‰"}, {"input": "张三", "output": "张三"}),
    ("convert_script", {"input": "國際", "output": '{"n":["國"]}'}, {"input": "国际", "output": '{"n":["国"]}'}),
    (
        "mask_personal",
        {"input": "电话13812345678", "output": '{"t":["13812345678"]}'},
        {"input": "电话138****5678", "output": '{"t":["138****5678"]}'},
    ),
]


@pytest.mark.parametrize(("op", "row", "expected"), TEXT_OPERATIONS)
def test_text_operations(op: str, row: dict[str, Any], expected: dict[str, Any]) -> None:
    outcome = run(op, row, {"input": "无事"})
    assert {name: cells(outcome, name)[0] for name in expected} == expected
    assert outcome.changes["row_id"].to_pylist() == ["aaaaaa-0000001"]


def test_texts_are_replaced_as_they_are_written_the_longest_first() -> None:
    talk = json.dumps([{"role": "user", "content": "Who is {{name}}?"}, {"role": "assistant", "content": "{{Name}}"}])
    replacements = {"{{name}}": "小智 (v1.0)", "{{name}}n": "X", "小智": "never", ".*": None, "公司": "企业"}
    outcome = run(
        "replace_text",
        {"input": "我是{{name}}.*", "output": '{"公司":["{{name}}n"]}'},
        {"input": "as it is", "messages": talk},
        {"input": "untouched", "output": '{"n":["x"]}'},
        params={"replacements": replacements},
    )
    assert cells(outcome, "input") == ["我是小智 (v1.0)", "as it is", "untouched"]
    assert cells(outcome, "output")[0] == '{"企业":["X"]}'
    assert [turn["content"] for turn in json.loads(cells(outcome, "messages")[1])] == ["Who is 小智 (v1.0)?", "{{Name}}"]
    assert outcome.changes["row_id"].to_pylist() == ["aaaaaa-0000001", "aaaaaa-0000002"]
    assert outcome.changes["reason"][0].as_py().startswith("replaced: .*, {{name}}")
    step = operation_of(Step(op="replace_text", params={"replacements": replacements}))
    assert step.elements_after(("公司", "企业", "n")) == ("企业", "n")
    for wrong in ({}, {"replacements": {}}, {"replacements": {" ": "x"}}):
        with pytest.raises(SpecError):
            operation_of(Step(op="replace_text", params=wrong))


def test_drop_turn_faults() -> None:
    bad = json.dumps([{"role": "assistant", "content": "a"}])
    outcome = run("drop_turn_faults", {"messages": bad}, {})
    assert numbers(outcome) == [2]
    assert outcome.state.quarantine["reason"].to_pylist() == ["begins with assistant"]


def test_take_in_from_quarantine() -> None:
    aside = run("fix_json", *BROKEN)
    step = Step(op="take_in", params={"rows": [{"quarantine_id": "aaaaaa-0000002", "output": "{}"}, {"quarantine_id": "no"}]})
    outcome = operation_of(step).run(aside.state, context())
    assert numbers(outcome) == [1, 4, 2]
    assert outcome.state.quarantine["quarantine_id"].to_pylist() == ["aaaaaa-0000003", "aaaaaa-0000005"]
    assert outcome.changes["before"].null_count == 1


def test_every_operation_names_itself() -> None:
    for name, kind in OPERATIONS.items():
        assert kind.op == name
        assert kind.title
        assert issubclass(kind, Operation)


def test_faults_of_a_step_are_all_told() -> None:
    with pytest.raises(SpecError) as caught:
        operation_of(Step(op="split", params={"dev": 2, "sed": 1}), 3)
    assert len(caught.value.faults) == 2
    assert "Step 3 (split): dev" in caught.value.faults[0]
    with pytest.raises(SpecError, match="no operation 'clean'"):
        operation_of(Step(op="clean"))
