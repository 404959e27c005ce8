"""Extraction scores against a brute-force scorer written the long way, and the fixed keys of ``score``."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import f1_score

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
    assert scores["macro_f1"] == pytest.approx((2 / 3 + 1) / 2)  # d is nowhere, c only in an answer
    assert scores["without_gold"] == {"c": 1}
    without_schema = score_frame({"input": ["x y", "z"], "output": gold, "prediction": predicted}).scores
    assert without_schema["errors"]["format"] == 0
    assert without_schema["errors"]["hallucinated"] == 1


def test_macro_is_over_golds_elements_whatever_answers_make_up() -> None:
    """Beside scikit-learn over gold's labels, one pair a row: made-up names are other labels there."""
    rng = np.random.default_rng(0)
    gold = rng.choice(["a", "b", "c"], 300)
    said = np.where(rng.random(300) < 0.6, gold, rng.choice(["a", "b", "c", "x1", "x2", "x3"], 300))
    frame = {"output": [json.dumps({e: "v"}) for e in gold], "prediction": [json.dumps({e: "v"}) for e in said]}
    scored = score_frame(frame)
    expected = f1_score(gold, said, labels=["a", "b", "c"], average="macro")
    assert scored.scores["macro_f1"] == pytest.approx(expected, abs=1e-12)
    low, high = scored.scores["intervals"]["macro_f1"]
    assert low < expected < high
    counts = {name: int((said == name).sum()) for name in ("x1", "x2", "x3")}
    assert scored.scores["without_gold"] == counts
    assert list(scored.scores["without_gold"].values()) == sorted(counts.values(), reverse=True)
    assert sum(part["predicted"] for part in scored.scores["per_element"].values()) == scored.scores["pairs"]["predicted"]
    assert "macro:elements of gold" in scored.signature["f1"]


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


SHARED = Path(__file__).resolve().parents[2].parent / "shared" / "datasets"


@pytest.mark.skipif(not SHARED.is_dir(), reason="the shared datasets aren't here")
@pytest.mark.parametrize("name", ["zh_resume", "en_sroie", "en_wnut17", "zh_crosswoz"])
def test_macro_on_real_gold_with_made_up_elements(name: str) -> None:
    """Real gold, answers that drop, change, misname and invent, scored by counting pairs by hand."""
    rng = np.random.default_rng(1)
    lines = [json.loads(line) for line in (SHARED / f"{name}.test.jsonl").read_text("utf-8").splitlines()]
    gold = [json.loads(line["output"]) for line in lines]
    said: list[dict[str, list[str]]] = []
    for answer in gold:
        made: dict[str, list[str]] = {}
        for element, values in answer.items():
            what = rng.choice(["right", "drop", "change", "misname"], p=[0.6, 0.15, 0.15, 0.1])
            if what != "drop":
                made[f"made up {rng.integers(4)}" if what == "misname" else element] = [
                    v + "?" * (what == "change") for v in values
                ]
        said.append(made)
    counts = {kind: Counter[str]() for kind in ("tp", "predicted", "gold")}
    for right, answer in zip(gold, said, strict=True):
        for element in {*right, *answer}:
            ours, theirs = Counter(right.get(element, [])), Counter(answer.get(element, []))
            counts["tp"][element] += (ours & theirs).total()
            counts["predicted"][element] += theirs.total()
            counts["gold"][element] += ours.total()
    named = [element for element in counts["gold"] if counts["gold"][element]]
    f1 = [2 * counts["tp"][e] / (counts["predicted"][e] + counts["gold"][e]) for e in named]
    frame = {
        "input": [line["input"] for line in lines],
        "output": [line["output"] for line in lines],
        "prediction": [json.dumps(answer, ensure_ascii=False) for answer in said],
    }
    scores = score_frame(frame, with_intervals=False).scores
    assert scores["macro_f1"] == pytest.approx(sum(f1) / len(f1), abs=1e-12)
    expected = {e: n for e, n in counts["predicted"].items() if n and not counts["gold"][e]}
    assert scores["without_gold"] == expected
    assert len(expected) >= 3
