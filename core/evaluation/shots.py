"""Worked examples for a prompt, taken from the train split.

Fixed: the first usable rows of the split, the same for every question. Never the question's own row or
one that asks the same. Knows nothing of templates.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from core.data.answers import parse_answer
from core.errors import UserError
from core.records import Evaluation
from core.store.datasets import read_rows

Row = Mapping[str, Any]
_COLUMNS = ("row_id", "instruction", "input", "output")


class FixedShots:
    """The first ``count`` usable train rows; one that asks what a question asks is passed over for that question."""

    def __init__(self, pool: Sequence[Row], count: int) -> None:
        self._pool, self._count = pool, count

    def __call__(self, row: Row) -> list[Row]:
        """The worked examples for this row, at most ``count``."""
        found: list[Row] = []
        for shot in self._pool:
            if len(found) == self._count:
                break
            if not _same_question(shot, row):
                found.append(shot)
        return found


def shots_for(evaluation: Evaluation) -> FixedShots:
    """What gives an evaluation's rows their worked examples. UserError when the train split has too few usable rows."""
    arm = evaluation.spec.arm
    if not arm.shots:
        return FixedShots((), 0)
    rows = read_rows(evaluation.spec.dataset, evaluation.version, columns=_COLUMNS, split="train").to_pylist()
    pool: list[Row] = []
    questions: set[tuple[str, str]] = set()
    for row in rows:
        question = (row["instruction"], row["input"])
        if question not in questions and _usable(row, evaluation.task):
            questions.add(question)
            pool.append(row)
        if len(pool) > arm.shots:  # one more, for the question that is an example itself
            break
    if len(pool) < arm.shots:
        raise UserError(
            f"{arm.shots} worked examples are asked for, and the train split of {evaluation.spec.dataset!r} has {len(pool)}",
            "Lower --shots, or split the dataset so that train has rows: `python -m core split`.",
        )
    return FixedShots(pool, arm.shots)


def _usable(row: Row, task: str) -> bool:
    """Whether a row shows how it is done: it asks something and has an answer, a readable one for extraction."""
    if not row["output"].strip() or not (row["input"] or row["instruction"]).strip():
        return False
    return task != "extraction" or bool(parse_answer(row["output"]).pairs)


def _same_question(left: Row, right: Row) -> bool:
    return left["row_id"] == right.get("row_id") or all(left[name] == right[name] for name in ("instruction", "input"))
