"""Which numbers a look at dev and a parity report give, by task: all plain scores of the answers. No torch."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from core.evaluation.scoring import Scored, score_frame
from core.records import Task

_EVERYWHERE = ("loss", "micro_f1", "exact_match", "bleu", "chrf")
_BY_TASK: Mapping[Task, tuple[str, ...]] = {
    "extraction": ("precision", "recall", "macro_f1", "json_valid"),
    "classification": ("accuracy", "macro_f1", "balanced_accuracy"),
}


def metrics_of(task: Task) -> tuple[str, ...]:
    """The metrics by which a run on such data may choose its best checkpoint. All but ``loss`` are better when higher."""
    return _EVERYWHERE + _BY_TASK.get(task, ("rouge_l",))


def scored_answers(rows: Sequence[Mapping[str, Any]], answers: Sequence[str], task: Task, elements: Sequence[str]) -> Scored:
    """Answers to rows with ``input`` and ``output``, scored: statistics of each row, and scores without intervals."""
    frame = {
        "input": [str(row["input"] or "") for row in rows],
        "output": [row["output"] for row in rows],
        "prediction": list(answers),
    }
    return score_frame(frame, task, list(elements) or None, with_intervals=False)


def micro_name(there: Collection[str]) -> str:
    """Which of the metrics that are there ``answer_scores`` calls ``micro_f1``."""
    return next(name for name in ("micro_f1", "accuracy", "exact_match") if name in there)


def scores_of(scored: Scored, task: Task) -> dict[str, float]:
    """The scores of ``metrics_of`` (without ``loss``).

    For classification micro_f1 and exact_match are the accuracy, which micro-F1 equals with one label a row; for free
    text micro_f1 is the share of exact answers.
    """
    scores = scored.scores
    micro = scores.get("micro", {})
    whole = float(scores.get("exact_match", scores.get("accuracy", 0.0)))
    found = {"micro_f1": float(micro.get("f1", whole)), "exact_match": whole}
    found |= {name: float(micro[name]) for name in ("precision", "recall") if name in micro}
    found |= {name: float(scores[name]) for name in metrics_of(task) if isinstance(scores.get(name), int | float)}
    return found


def answer_scores(
    rows: Sequence[Mapping[str, Any]], answers: Sequence[str], task: Task, elements: Sequence[str]
) -> dict[str, float]:
    """``scores_of`` answers to rows with ``input`` and ``output``."""
    return scores_of(scored_answers(rows, answers, task, elements), task)
