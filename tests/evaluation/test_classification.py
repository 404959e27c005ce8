"""Labels read from free text by the stated rule, and scores equal to scikit-learn's."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.evaluation.metrics.classification import NO_LABEL, LabelReader, gold_label
from core.evaluation.scoring import score_frame

LABELS = ["play music", "music", "Get Weather", "退款", "申请退款", "art"]


@pytest.mark.parametrize(
    ("text", "label"),
    [
        ("music", "music"),
        ("  MUSIC.\n", "music"),
        ('"get weather"', "Get Weather"),
        ("**Get Weather**", "Get Weather"),
        ('{"intent": "退款"}', "退款"),
        ('{"intent": ["申请退款"]}', "申请退款"),
        ("music\nbecause the user asks for a song", "music"),
        ("The intent is play music, clearly.", "play music"),
        ("标签：申请退款", "申请退款"),
        ("ｍｕｓｉｃ", "music"),
        ("a party", NO_LABEL),  # "art" is no whole word there
        ("music or Get Weather", NO_LABEL),
        ("music, or play music", NO_LABEL),
        ("no idea", NO_LABEL),
        ("", NO_LABEL),
        ("...", NO_LABEL),
    ],
)
def test_reading(text: str, label: str) -> None:
    assert LabelReader(LABELS).read(text) == label


def test_gold_labels() -> None:
    assert gold_label(" 退款 ") == "退款"
    assert gold_label('{"label": "退款"}') == "退款"


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.sampled_from("ABC"), st.sampled_from("ABCD")), min_size=1, max_size=30))
def test_agrees_with_scikit_learn(rows: list[tuple[str, str]]) -> None:
    import warnings

    from sklearn.metrics import accuracy_score, balanced_accuracy_score, confusion_matrix, f1_score

    gold, predicted = [f"label {g}" for g, _ in rows], [f"label {p}" for _, p in rows]
    scores = score_frame(
        {"output": gold, "prediction": predicted}, "classification", [f"label {c}" for c in "ABCD"], with_intervals=False
    ).scores
    assert scores["accuracy"] == pytest.approx(accuracy_score(gold, predicted), abs=1e-12)
    assert scores["macro_f1"] == pytest.approx(f1_score(gold, predicted, average="macro", zero_division=0), abs=1e-12)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert scores["balanced_accuracy"] == pytest.approx(balanced_accuracy_score(gold, predicted), abs=1e-12)
    labels = scores["confusion"]["labels"]
    counts = np.array(scores["confusion"]["counts"])
    assert (counts[:, :-1] == confusion_matrix(gold, predicted, labels=labels)).all()


def test_unreadable_answers_are_wrong_but_no_class() -> None:
    scores = score_frame({"output": ["a", "b", ""], "prediction": ["a", "dunno", ""]}, "classification").scores
    assert scores["accuracy"] == pytest.approx(1 / 3)
    assert scores["unreadable"] == 2
    assert scores["macro_f1"] == pytest.approx(0.5)
    assert scores["confusion"] == {"labels": ["a", "b"], "predicted": ["a", "b", ""], "counts": [[1, 0, 0], [0, 0, 1]]}
