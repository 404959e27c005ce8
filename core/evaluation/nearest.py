"""What an arm was trained on, and the rows of it that are most like a row that failed.

Likeness is that of retrieved worked examples (BM25 over words or pairs of characters). Knows nothing of scores.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from core.errors import NotFoundError
from core.evaluation import artefacts
from core.prompts.retrieval import Shots
from core.records import Evaluation
from core.store.datasets import read_rows
from core.store.runs import get_evaluation, get_run


def training_rows(evaluation: Evaluation) -> pa.Table:
    """Rows that the arm's run was trained on; of an arm without one, the train split of the same version."""
    if evaluation.spec.arm.run is None:
        return read_rows(evaluation.spec.dataset, evaluation.version, split="train")
    run = get_run(evaluation.spec.arm.run)
    return pa.concat_tables(
        [read_rows(use.dataset, use.version, split=use.split or None, limit=use.limit) for use in run.spec.data]
    )


class Nearest:
    """Finds training rows of an evaluation's arm; the index is built once."""

    def __init__(self, evaluation: Evaluation) -> None:
        self._shots = Shots(training_rows(evaluation).to_pylist(), "retrieved")

    def __call__(self, row: Mapping[str, Any], k: int = 5) -> Sequence[Mapping[str, Any]]:
        """The ``k`` training rows most like a row (what it asks), the nearest first; never the row itself or its duplicate."""
        return self._shots.choose(row, k)[::-1]


def nearest_rows(evaluation_id: str, row_id: str, k: int = 5) -> tuple[dict[str, Any], Sequence[Mapping[str, Any]]]:
    """A row of an evaluation (its question, gold answer and prediction), and the ``k`` training rows most like it.

    NotFoundError for a row that the evaluation doesn't have.
    """
    evaluation = get_evaluation(evaluation_id)
    names = ("row_id", "instruction", "input", "output", "prediction")
    asked = artefacts.read_predictions(evaluation.evaluation_id, names).to_pylist()
    row = next((line for line in asked if line["row_id"] == row_id), None)
    if row is None:
        raise NotFoundError(
            f"Evaluation {evaluation.name!r} has no row {row_id!r}",
            f"It has {len(asked):,}, e.g. {asked[0]['row_id']}." if asked else "",
        )
    return row, Nearest(evaluation)(row, k)
