"""Each pair of a row has one fate, and the fates add up to both sides exactly."""

from __future__ import annotations

import json
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.data.answers import parse_answer
from core.evaluation.metrics.error_kinds import OUTCOME_KINDS, grounded, match_row, overlap

SOURCE = "甲公司于2020年3月1日聘任张三丰为总经理,年薪50万元"

GOLDEN = [
    # gold, prediction, schema, expected kinds
    ({"人": ["张三丰"]}, {"人": ["张三丰"]}, None, ["correct"]),
    ({"人": "张三丰"}, {"人": ["张三丰"]}, None, ["correct"]),
    ({"人": ["张三丰"]}, {"人": ["张三"]}, None, ["boundary"]),
    ({"人": ["张三丰"]}, {"人": ["聘任张三"]}, None, ["boundary"]),
    ({"人": ["张三丰"]}, {"人": ["总经理"]}, None, ["missed", "spurious"]),
    ({"人": ["张三丰"]}, {"人": ["李四"]}, None, ["hallucinated", "missed"]),
    ({"人": ["张三丰"]}, {"人": ["张三丰先生"]}, None, ["hallucinated", "missed"]),
    ({"人": ["张三丰"]}, {"职务": ["张三丰"]}, None, ["wrong_element"]),
    ({"人": ["张三丰"]}, {"人": ["张三丰", "张三丰"]}, None, ["correct", "duplicate"]),
    ({"人": ["张三丰", "张三丰"]}, {"人": ["张三丰", "张三丰"]}, None, ["correct", "correct"]),
    ({"人": ["张三丰", "张三丰"]}, {"人": ["张三丰"]}, None, ["correct", "missed"]),
    ({}, {"人": ["李四", "李四"]}, None, ["duplicate", "hallucinated"]),
    ({"人": ["张三丰"]}, {"姓名": ["张三丰"]}, ("人", "职务"), ["format", "missed"]),
    ({}, {}, None, []),
    ({"年薪": [50]}, {"年薪": ["50"]}, None, ["correct"]),
    ({"日期": ["约2021年初"]}, {"日期": ["2021年初"]}, None, ["boundary"]),  # gold isn't in the source either
    ({}, {"日期": ["2020-03-01"]}, None, ["spurious"]),  # in the source, written another way
]


@pytest.mark.parametrize(("gold", "prediction", "schema", "expected"), GOLDEN)
def test_golden(gold: dict, prediction: dict, schema: tuple[str, ...] | None, expected: list[str]) -> None:
    row = match_row(parse_answer(json.dumps(gold)), json.dumps(prediction), SOURCE, schema=schema)
    assert sorted(o.kind for o in row.outcomes) == expected


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("", "not_json"),
        ("张三丰", "not_json"),
        ('["a"]', "not_json"),
        ('{"人": ["张三', "cut_off"),
        ('{"人": ["张三"],', "cut_off"),
        ('{"人": 1} 好', "not_json"),
        ("{'人': 1}", "not_json"),
        ("{", "cut_off"),
    ],
)
def test_unreadable_prediction_loses_all_gold_pairs(text: str, fault: str) -> None:
    row = match_row(parse_answer('{"人": ["张三丰"], "职务": ["总经理"]}'), text, SOURCE)
    assert [o.kind for o in row.outcomes] == ["format", "format"]
    assert row.fault == fault
    assert not row.exact


def test_nothing_equals_an_unreadable_gold() -> None:
    assert not match_row(parse_answer("no json"), "{}", SOURCE).exact
    assert match_row(parse_answer("{}"), "{}", SOURCE).exact


def test_boundary_pairs_are_the_assignment_of_greatest_overlap() -> None:
    gold = parse_answer(json.dumps({"e": ["abcd", "abc"]}))
    row = match_row(gold, json.dumps({"e": ["abcde", "ab"]}), "abcde")
    pairs = {(o.gold, o.predicted) for o in row.outcomes}
    assert pairs == {("abcd", "abcde"), ("abc", "ab")}


@pytest.mark.parametrize(
    ("value", "there"),
    [("张三丰", True), ("２０２０年", True), ("张 三", True), ("張三", True), ("李四", False), ("", True)],
)
def test_grounded(value: str, there: bool) -> None:
    assert grounded(value, SOURCE) is there
    assert grounded(value, "")


def test_overlap() -> None:
    assert overlap("abc", "abc") == 1
    assert overlap("abcd", "ab") == 0.5
    assert overlap("abxx", "yyab") == 0.5
    assert overlap("a", "b") == 0
    assert overlap("", "b") == 0


WORDS = st.sampled_from(["a", "b", "ab", "abc", "x", "甲", "甲公司", "公司"])
ANSWERS = st.dictionaries(st.sampled_from(["e1", "e2", "e3"]), st.lists(WORDS, max_size=4), max_size=3)


@settings(max_examples=300, deadline=None)
@given(ANSWERS, ANSWERS, st.sampled_from(["", "ab x 甲公司"]), st.sampled_from([None, ("e1", "e2")]))
def test_fates_add_up(gold: dict, prediction: dict, source: str, schema: tuple[str, ...] | None) -> None:
    row = match_row(parse_answer(json.dumps(gold)), json.dumps(prediction), source, schema=schema)
    kinds = Counter(o.kind for o in row.outcomes)
    assert set(kinds) <= set(OUTCOME_KINDS)
    both = kinds["correct"] + kinds["boundary"] + kinds["wrong_element"]
    unknown = sum(o.detail == "unknown_element" for o in row.outcomes)
    assert both + kinds["missed"] == len(row.gold.pairs)
    assert both + kinds["spurious"] + kinds["hallucinated"] + kinds["duplicate"] + unknown == len(row.predicted.pairs)
    assert sorted(p for o in row.outcomes if o.gold is not None for p in [(o.element, o.gold)]) == sorted(row.gold.pairs)
    assert sorted((o.predicted_element, o.predicted) for o in row.outcomes if o.predicted is not None) == sorted(
        row.predicted.pairs
    )
