"""Golden table of answers, and what must hold for any of them."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.data.answers import dump_answer, load_object, parse_answer

READABLE = [
    ('{"a":["x","y"]}', [("a", "x"), ("a", "y")]),
    ('{"a":"x"}', [("a", "x")]),
    ('  {"a": ["x"] }\n', [("a", "x")]),
    ("{}", []),
    ('{"a":[]}', []),
    ('{"a":["x","x"]}', [("a", "x"), ("a", "x")]),
    ('{"a":["x"],"b":"x"}', [("a", "x"), ("b", "x")]),
    ('{"a":5}', [("a", "5")]),
    ('{"a":[1.50,true,null]}', [("a", "1.5"), ("a", "true"), ("a", "null")]),
    ('{"a":{"z":1,"b":"é"}}', [("a", '{"b":"é","z":1}')]),
    ('{"a":[["x","y"]]}', [("a", '["x","y"]')]),
    ('{"a":""}', [("a", "")]),
    ('{"姓名":["张\\u4e09"]}', [("姓名", "张三")]),
    ('{"a":"x","b":"y","a":["z"]}', [("a", "x"), ("a", "z"), ("b", "y")]),
    ('{"a":"\\ud83d\\ude00"}', [("a", "😀")]),
    ('{"a":"\\ud800x"}', [("a", "\ufffdx")]),
    ('{"a":{"k":1,"k":2}}', [("a", '{"k":2}')]),
    ('{"a":123456789012345678901234567890}', [("a", "123456789012345678901234567890")]),
]
UNREADABLE = [
    "",
    "  ",
    "x",
    "[]",
    '"a"',
    "5",
    "null",
    "true",
    '{"a":"x"',
    "{'a':'x'}",
    '{"a":NaN}',
    '{"a":"x",}',
    'The answer is {"a":"x"}',
    '{"a":"x"} {"b":"y"}',
    '{"a":"x\ny"}',
    '\ufeff{"a":"x"}',
    "[" * 100_000,
    '{"a":' * 100_000,
]


@pytest.mark.parametrize(("text", "pairs"), READABLE)
def test_readable(text: str, pairs: list[tuple[str, str]]) -> None:
    answer = parse_answer(text)
    assert (answer.ok, answer.error) == (True, "")
    assert list(answer.pairs) == pairs


@pytest.mark.parametrize("text", UNREADABLE, ids=lambda text: repr(text[:20]))
def test_unreadable(text: str) -> None:
    answer = parse_answer(text)
    assert not answer.ok
    assert answer.error
    assert "\n" not in answer.error
    assert (answer.pairs, answer.elements) == ((), {})


def test_repeated_key_is_named() -> None:
    assert parse_answer('{"a":"x","a":"y","b":"z"}').repeated == ("a",)
    assert parse_answer('{"a":["x","x"]}').repeated == ()


def test_load_object_keeps_values_and_repeated_keys() -> None:
    assert load_object('{"a":[1],"a":{"b":2}}') == [("a", [1]), ("a", {"b": 2})]


texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=6)


@given(st.dictionaries(texts, st.lists(texts, max_size=3), max_size=4), st.booleans())
def test_what_is_written_reads_back(elements: dict[str, list[str]], spaced: bool) -> None:
    text = dump_answer(elements, like='{"a": 1}' if spaced else "")
    answer = parse_answer(text)
    assert answer.ok
    assert answer.elements == elements
    assert text == json.dumps(elements, ensure_ascii=False, separators=(", ", ": ") if spaced else (",", ":"))


@given(st.text(max_size=30))
def test_any_text_gets_an_answer(text: str) -> None:
    answer = parse_answer(text)
    assert answer.ok or not answer.pairs
    "".join(value for _, value in answer.pairs).encode()


def test_a_fault_names_its_place_once() -> None:
    assert parse_answer('{"a": ["b').error == "not JSON: Unterminated string starting at character 8"
