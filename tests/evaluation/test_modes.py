"""Normalised, partial and repaired counting, by tables of examples and by what must always hold."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.data.answers import parse_answer
from core.evaluation.metrics.modes import Normaliser, partial_credit
from core.evaluation.scoring import score_frame

SAME = [
    ("ＡＢＣ公司", "ABC公司"),
    ("Norvik Trading", "norvik  trading"),
    ("國際貿易", "国际贸易"),
    ("1,250.00", "1250"),
    ("2020年3月5日", "2020-03-05"),
    ("3 March 2024", "2024-03-03"),
    ("一百二十", "120"),
    ("1,200元", "1200元"),
    ("共 三千元", "共3000元"),
    ("￥1,200.00", "¥1200"),
    ("120万元", "1200000元"),
    ("3月5日", "03月05日"),
    ("二〇一八年", "2018年"),
    ("1993年5月至今", "1993-05至今"),
    ("3.50%", "3.5％"),
    ("第 九 、 十 二 届", "第九、十二届"),
    ("2 7 , JALAN 1 3", "27,Jalan 13"),
    ("1,200kg", "1200 kg"),
    ("ｶﾞｲﾄﾞ", "ガイド"),  # as NFKC: half-width katakana with its marks
    ("ﾊﾛｰ･ﾜｰﾙﾄﾞ｡", "ハロー・ワールド."),
    ("第①条", "第1条"),
    ("㉑", "21"),
    ("「鐵達尼號」", "“铁达尼号”"),
    ("『甲』", "‘甲’"),
]
OTHERS = [
    ("007", "7"),  # a code, no number
    ("0755", "755"),
    ("12:05", "12:5"),
    ("第3.10条", "第3.1条"),
    ("192.160.1.1", "192.16.1.1"),
    ("百度", "100度"),
    ("1" * 30 + "2", "1" * 30 + "3"),
    ("1.2", "12"),
    ("100", "100万"),
    ("2020-03-05", "2020-05-03"),
    ("10²", "102"),  # compatibility forms that are no other width: NFKC would make them one
    ("㎡", "m2"),
    ("①②", "12"),  # two of a list
    ("第①条", "第2条"),
    ("「甲」", "甲"),
    ("「甲」", '"甲"'),
]


@pytest.mark.parametrize(("left", "right"), SAME)
def test_normalised(left: str, right: str) -> None:
    everything = Normaliser()
    assert everything(left) == everything(right)
    nothing = Normaliser(*[False] * 6)
    assert nothing(left) != nothing(right)


@pytest.mark.parametrize(("left", "right"), OTHERS)
def test_other_values_stay_others(left: str, right: str) -> None:
    assert Normaliser()(left) != Normaliser()(right)


@settings(max_examples=400, deadline=None)
@given(st.text(st.sampled_from("012３,.年月日/-一十百万元第甲￥A"), max_size=12))
def test_white_space_within_numbers_is_nothing(value: str) -> None:
    assert Normaliser()(" ".join(value)) == Normaliser()(value)


def test_numbers_and_dates_are_overlooked_one_by_one() -> None:
    no_dates, no_numbers = Normaliser(dates=False), Normaliser(numbers=False)
    assert no_dates("2020年3月5日") != no_dates("2020年03月05日")
    assert no_dates("1,200元") == no_dates("1200元")
    assert no_numbers("至2020年3月5日") == no_numbers("至2020-03-05")
    assert no_numbers("1,200元") != no_numbers("1200元")


def test_each_form_is_overlooked_by_its_own_option() -> None:
    for left, right, option in (("ｶﾅ", "カナ", "width"), ("「甲」", "“甲”", "script"), ("第①条", "第1条", "numbers")):
        without = Normaliser(**{option: False})  # type: ignore[arg-type]
        assert without(left) != without(right)
        assert option + ":" in Normaliser().folded
        assert option + ":" not in without.folded


def test_options_are_in_the_signature() -> None:
    assert Normaliser().signature == "width,case,space,script,numbers,dates"
    assert Normaliser(case=False, dates=False).signature == "width,space,script,numbers"
    frame = {"output": ['{"a": "X"}'], "prediction": ['{"a": "x"}']}
    strict = score_frame(frame, normalise=Normaliser(case=False))
    assert strict.scores["normalised"]["micro"]["f1"] == 0
    assert "case" not in strict.signature["normalised"]
    loose = score_frame(frame)
    assert loose.scores["normalised"]["micro"]["f1"] == loose.scores["normalised"]["exact_match"] == 1
    assert loose.scores["micro"]["f1"] == 0


def test_partial_takes_the_best_assignment() -> None:
    gold, said = parse_answer('{"a": ["abcd", "abc", "x"], "b": "y"}'), parse_answer('{"a": ["x", "abcde", "ab"], "c": "y"}')
    assert partial_credit(gold, said) == {"a": pytest.approx(1 + 4 / 5 + 2 / 3)}


@pytest.mark.parametrize(
    ("prediction", "repaired"),
    [
        ('```json\n{"a": ["x"]}\n```', True),
        ('{"a": ["x"', True),
        ("{'a': ['x']}", True),
        ("no idea", False),
    ],
)
def test_repaired(prediction: str, repaired: bool) -> None:
    scored = score_frame({"output": ['{"a": ["x"]}'], "prediction": [prediction]})
    assert scored.scores["json_valid"] == 0
    assert scored.scores["repaired"]["micro"]["f1"] == scored.scores["repaired"]["json_valid"] == float(repaired)
    assert scored.scores["repaired"]["rows_repaired"] == int(repaired)
    assert (scored.repairs[0] is not None) is repaired


WORDS = st.sampled_from(["a", "A", "ab", "abc", "Ａ", "1,000", "1000", "甲"])
ANSWERS = st.dictionaries(st.sampled_from(["e1", "e2"]), st.lists(WORDS, max_size=4), max_size=2).map(json.dumps)


@settings(max_examples=150, deadline=None)
@given(ANSWERS, ANSWERS)
def test_looser_counting_never_scores_less(gold: str, said: str) -> None:
    scores = score_frame({"output": [gold], "prediction": [said]}, with_intervals=False).scores
    for part in ("precision", "recall", "f1"):
        assert scores["normalised"]["micro"][part] >= scores["micro"][part] - 1e-12
        assert scores["micro"][part] - 1e-12 <= scores["partial"]["micro"][part] <= 1 + 1e-12
        assert scores["repaired"]["micro"][part] == pytest.approx(scores["micro"][part])
    assert scores["normalised"]["exact_match"] >= scores["exact_match"]
