"""What an arm was trained on, and the rows of it that are most like a row that failed.

Likeness is that of retrieved worked examples (BM25 over words or pairs of characters). Knows nothing of scores.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from core.prompts.retrieval import Shots
from core.records import Evaluation
from core.store.datasets import read_rows
from core.store.runs import get_run


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
        """The ``k`` training rows most like a row (its ``input``), the nearest first; never the row itself or its duplicate."""
        return self._shots.choose(row, k)[::-1]
