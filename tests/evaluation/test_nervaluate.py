"""Strict extraction scores against nervaluate, where values are spans: all words of a text differ, so a value names its span."""

from __future__ import annotations

import json

import numpy as np
import pytest
from nervaluate import Evaluator

from core.evaluation.scoring import score_frame

TAGS = ["人", "place", "date"]
Span = tuple[str, int, int]


def spans(rng: np.random.Generator, words: int, like: list[Span]) -> list[Span]:
    """Spans that don't overlap; some of ``like``, some of them moved or renamed, some new."""
    found: list[Span] = []
    free = np.ones(words, bool)
    drawn = [(str(rng.choice(TAGS)), int(at), int(at + rng.integers(1, 4))) for at in rng.integers(0, words - 4, 4)]
    moved = [(tag, a, b + 1) if rng.random() < 0.2 else (str(rng.choice(TAGS)), a, b) for tag, a, b in like]
    for tag, start, end in [*(s for s in like if rng.random() < 0.6), *moved, *drawn]:
        if end <= words and free[start:end].all() and rng.random() < 0.8:
            free[start:end] = False
            found.append((tag, start, end))
    return found


def answer(text: list[str], found: list[Span]) -> str:
    values: dict[str, list[str]] = {}
    for tag, start, end in found:
        values.setdefault(tag, []).append(" ".join(text[start:end]))
    return json.dumps(values, ensure_ascii=False)


def entities(found: list[Span]) -> list[dict[str, object]]:
    """With a gap between neighbours: nervaluate takes spans that touch for overlapping, and a true one for spent."""
    return [{"label": tag, "start": 10 * start, "end": 10 * end - 5} for tag, start, end in found]


@pytest.mark.parametrize("seed", range(5))
def test_strict_scores_agree(seed: int) -> None:
    rng = np.random.default_rng(seed)
    gold, said, rows = [], [], []
    for n in range(60):
        words = [f"词{n}w{i}" for i in range(30)]
        true = spans(rng, 30, [])
        pred = spans(rng, 30, true)
        gold.append(entities(true))
        said.append(entities(pred))
        rows.append((" ".join(words), answer(words, true), answer(words, pred)))
    frame = dict(zip(("input", "output", "prediction"), map(list, zip(*rows, strict=True)), strict=True))
    ours = score_frame(frame, "extraction", TAGS, with_intervals=False).scores
    found = Evaluator(gold, said, tags=TAGS, loader="dict").evaluate()
    theirs = found["overall"]["strict"]
    assert ours["micro"]["precision"] == pytest.approx(theirs.precision, abs=1e-9)
    assert ours["micro"]["recall"] == pytest.approx(theirs.recall, abs=1e-9)
    assert ours["micro"]["f1"] == pytest.approx(theirs.f1, abs=1e-9)
    for tag in TAGS:
        assert ours["per_element"][tag]["f1"] == pytest.approx(found["entities"][tag]["strict"].f1, abs=1e-9)
