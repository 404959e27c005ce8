"""Extraction scores against a brute-force scorer written the long way, and the fixed keys of ``score``."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.evaluation.metrics import extraction
from core.evaluation.scoring import score_frame

VALUES = st.one_of(st.sampled_from(["a", "b", "甲", "1", ""]), st.integers(0, 2), st.none(), st.booleans())
OBJECTS = st.dictionaries(st.sampled_from(["e1", "e2", "要素"]), st.one_of(VALUES, st.lists(VALUES, max_size=4)), max_size=3)
PREDICTIONS = st.one_of(OBJECTS.map(json.dumps), st.sampled_from(["", "oops", "[1]", '{"e1": ["a"']))


def brute_pairs(text: str) -> list[tuple[str, str]] | None:
    try:
        value = json.loads(text)
    except ValueError:
        return None
    if not isinstance(value, dict):
        return None
    pairs = []
    for element, values in value.items():
        for item in values if isinstance(values, list) else [values]:
            pairs.append((element, item if isinstance(item, str) else json.dumps(item)))
    return pairs


def brute_score(gold: list[str], predicted: list[str]) -> dict[str, Any]:
    tp = n_gold = n_predicted = exact = valid = 0
    for g, p in zip(gold, predicted, strict=True):
        ours, theirs = brute_pairs(g) or [], brute_pairs(p)
        valid += theirs is not None
        left = list(ours)
        hits = 0
        for pair in theirs or []:
            if pair in left:
                left.remove(pair)
                hits += 1
        tp, n_gold, n_predicted = tp + hits, n_gold + len(ours), n_predicted + len(theirs or [])
        exact += theirs is not None and sorted(ours) == sorted(theirs)
    precision = tp / n_predicted if n_predicted else 0.0
    recall = tp / n_gold if n_gold else 0.0
    f1 = 2 * tp / (n_gold + n_predicted) if n_gold + n_predicted else 0.0
    rows = len(gold)
    return {"precision": precision, "recall": recall, "f1": f1, "exact": exact / rows, "valid": valid / rows}


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(OBJECTS.map(json.dumps), PREDICTIONS), min_size=1, max_size=6))
def test_agrees_with_brute_force(rows: list[tuple[str, str]]) -> None:
    gold, predicted = [g for g, _ in rows], [p for _, p in rows]
    scores = score_frame({"output": gold, "prediction": predicted}, with_intervals=False).scores
    expected = brute_score(gold, predicted)
    assert scores["micro"] == pytest.approx({k: expected[k] for k in ("precision", "recall", "f1")}, abs=1e-12)
    assert scores["exact_match"] == pytest.approx(expected["exact"])
    assert scores["json_valid"] == pytest.approx(expected["valid"])
    errors, pairs = scores["errors"], scores["pairs"]
    wrong = pairs["gold"] + pairs["predicted"] - 2 * pairs["tp"]
    assert sum(errors.values()) + errors["boundary"] + errors["wrong_element"] == wrong


def test_per_element_and_schema() -> None:
    gold = ['{"a": ["x", "y"]}', '{"b": "z"}']
    predicted = ['{"a": ["x"], "c": ["z"]}', '{"b": ["z"]}']
    scores = score_frame({"input": ["x y", "z"], "output": gold, "prediction": predicted}, elements=("a", "b", "d")).scores
    assert scores["per_element"]["a"] == {
        "precision": 1,
        "recall": 0.5,
        "f1": pytest.approx(2 / 3),
        "tp": 1,
        "predicted": 1,
        "gold": 2,
    }
    assert scores["per_element"]["b"]["f1"] == 1
    assert scores["per_element"]["c"] == {"precision": 0, "recall": 0, "f1": 0, "tp": 0, "predicted": 1, "gold": 0}
    assert scores["per_element"]["d"]["gold"] == 0
    assert scores["errors"]["format"] == scores["format"]["unknown_element"] == 1
    assert scores["macro_f1"] == pytest.approx((2 / 3 + 1 + 0) / 3)  # d occurs nowhere
    without_schema = score_frame({"input": ["x y", "z"], "output": gold, "prediction": predicted}).scores
    assert without_schema["errors"]["format"] == 0
    assert without_schema["errors"]["hallucinated"] == 1


def test_many_invented_elements_share_a_column() -> None:
    predicted = json.dumps({f"e{i}": "x" for i in range(extraction.MAX_UNKNOWN + 50)})
    scores = score_frame({"output": ['{"a": "x"}'], "prediction": [predicted]}, with_intervals=False).scores
    assert scores["per_element"][extraction.OTHER]["predicted"] == 50
    assert scores["pairs"]["predicted"] == extraction.MAX_UNKNOWN + 50


def test_no_rows() -> None:
    scores = score_frame({"output": [], "prediction": []}).scores
    assert scores["rows"] == 0
    assert scores["micro"]["f1"] == 0
    assert scores["bleu"] == 0


def test_thinking_is_no_part_of_the_answer() -> None:
    from core.evaluation.scoring import strip_thinking

    assert strip_thinking('<think>\n{"a"}\n</think>\n\n{"a": 1}') == '{"a": 1}'
    assert strip_thinking('reasoning</think>{"a": 1}') == '{"a": 1}'
    assert strip_thinking("<think>never ends") == ""
    assert strip_thinking(' {"a": "<think>"} ') == ' {"a": "<think>"} '
