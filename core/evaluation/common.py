"""The rows that several evaluations share, and their statistics on the same footing. Knows nothing of differences."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from core.errors import UserError
from core.evaluation import artefacts
from core.evaluation.metrics.rows import Statistics
from core.evaluation.scoring import score_frame
from core.records import Evaluation

_NOT_COUNTING = frozenset({"perplexity", "intervals", "decoding", "batching", "endpoint", "passages", "machine", "seconds"})
"""Signatures of how answers came about, or of what needs no common footing."""


def common_rows(
    evaluations: Sequence[Evaluation], tables: Sequence[pa.Table], without: Collection[str] = ()
) -> tuple[tuple[str, ...], dict[str, tuple[str, ...]]]:
    """The rows that all arms have with the same gold answer, in the first arm's order, and each arm's other rows.

    Rows named in ``without`` count as other rows. UserError if none is left.
    """
    gold = [dict(zip(t["row_id"].to_pylist(), t["output"].to_pylist(), strict=True)) for t in tables]
    common = tuple(
        row_id
        for row_id, answer in gold[0].items()
        if row_id not in without and all(other.get(row_id) == answer for other in gold[1:])
    )
    if not common and without:
        raise UserError("No row is left to compare", "All rows that the arms share were taken out.")
    if not common:
        raise UserError(
            "These evaluations have no row in common with the same gold answer",
            "Evaluate both arms on the same dataset, version and split.",
        )
    kept = set(common)
    left_out = {
        e.evaluation_id: tuple(row_id for row_id in rows if row_id not in kept) for e, rows in zip(evaluations, gold, strict=True)
    }
    return common, left_out


def in_order(table: pa.Table, row_ids: Sequence[str]) -> pa.Table:
    """These rows of a table, in this order."""
    return table.take(pa.array(positions(table["row_id"].to_pylist(), row_ids)))


def positions(there: Sequence[str], wanted: Sequence[str]) -> npt.NDArray[np.int64]:
    """Where the wanted rows stand among those that are there. KeyError for one that isn't."""
    place = {row_id: i for i, row_id in enumerate(there)}
    return np.array([place[row_id] for row_id in wanted], np.int64)


def statistics_of(
    evaluations: Sequence[Evaluation], tables: Sequence[pa.Table], row_ids: Sequence[str]
) -> tuple[list[Statistics], list[pa.Table]]:
    """Statistics of the common rows, each arm's own columns, and the fate of each pair.

    Counted anew from the texts where signatures show that the arms were counted differently.
    """
    signatures = [{k: v for k, v in e.signature.items() if k not in _NOT_COUNTING} for e in evaluations]
    if any(signature != signatures[0] for signature in signatures):
        elements = next((e.elements for e in evaluations if e.elements), ())
        scored = [score_frame(table, evaluations[0].task, elements, with_intervals=False) for table in tables]
        named = [artefacts.name_pairs(s.pairs, t["row_id"]) for s, t in zip(scored, tables, strict=True)]
        return [s.statistics for s in scored], named
    found = []
    for evaluation in evaluations:
        ids, statistics = artefacts.read_statistics(evaluation.evaluation_id)
        found.append(statistics.take(positions(ids, row_ids)))
    return found, [artefacts.read_pairs(e.evaluation_id) for e in evaluations]
