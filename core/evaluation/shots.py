"""The worked examples of an arm, taken from the train split: which rows may show how it is done.

Which of them stand before a question is ``core.prompts.retrieval``'s. Knows nothing of templates.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from core.data.answers import parse_answer
from core.errors import UserError
from core.prompts.retrieval import Shots
from core.records import Evaluation
from core.store.datasets import read_rows

Row = Mapping[str, Any]
_COLUMNS = ("row_id", "instruction", "input", "output", "messages")


def shots_for(evaluation: Evaluation) -> Callable[[Row], list[Row]]:
    """A function from a row to its worked examples. UserError when the train split has too few usable rows.

    Usable is a row that asks something and has an answer, for extraction one that can be read and isn't empty.
    """
    arm = evaluation.spec.arm
    if not arm.shots:
        return lambda row: []
    rows = read_rows(evaluation.spec.dataset, evaluation.version, columns=_COLUMNS, split="train").to_pylist()
    pool = [row for row in rows if evaluation.task != "extraction" or parse_answer(row["output"]).pairs]
    if evaluation.task == "extraction" and any(row["input"].strip() for row in pool):
        pool = [row for row in pool if row["input"].strip()]  # an instruction alone is no text to extract from
    shots = Shots(pool, arm.shots_how)
    there = len(shots.pool)
    if there < arm.shots:
        raise UserError(
            f"{arm.shots} worked examples are asked for, and the train split of {evaluation.spec.dataset!r} has {there}",
            "Lower --shots, or split the dataset so that train has rows: `python -m core split`.",
        )
    return lambda row: shots.choose(row, arm.shots)
