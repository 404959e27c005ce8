"""Rows that hang together (of one document, one conversation, one author): by which columns, and the group of each row.

Rows of a group are no independent evidence, so whole groups are resampled (clusters in ``core.evaluation.statistics``).
Knows nothing of scores.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

import pyarrow.compute as pc

from core.errors import NotFoundError, UserError
from core.evaluation import artefacts
from core.records import Evaluation
from core.store.datasets import read_rows

LEAST = 6
"""With fewer groups no difference could be clear: swapping whole groups gives no p under 2 / 2^5."""
FEW = 20
"""With fewer groups bootstrap intervals are known to be too narrow (Cameron, Gelbach & Miller 2008)."""


def group_columns(evaluation: Evaluation) -> dict[str, dict[str, str]]:
    """The columns that put rows of an evaluation together, into ``LEAST`` groups or more: of each the group of every row that
    has one."""
    asked = artefacts.read_predictions(evaluation.evaluation_id, ("row_id", "source", "instruction", "input"))
    row_ids = asked["row_id"].to_pylist()
    rows = read_rows(evaluation.spec.dataset, evaluation.version, columns=("row_id", "extra"))
    rows = rows.filter(pc.and_(pc.is_in(rows["row_id"], asked["row_id"].combine_chunks()), pc.is_valid(rows["extra"])))
    extra = dict(zip(rows["row_id"].to_pylist(), map(json.loads, rows["extra"].to_pylist()), strict=True))
    found: dict[str, dict[str, str]] = {}
    for line in asked.to_pylist():
        row_id = line.pop("row_id")
        for name, value in (line | extra.get(row_id, {})).items():
            if value not in (None, ""):
                text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, sort_keys=True)
                found.setdefault(name, {})[row_id] = text
    return {name: groups for name, groups in found.items() if LEAST <= _count(groups, row_ids) < len(row_ids)}


def groups_by(evaluation: Evaluation, column: str) -> dict[str, str]:
    """The group of each row by a column. NotFoundError names the columns there are."""
    there = group_columns(evaluation)
    if column not in there:
        names = ", ".join(there) or "none"
        raise NotFoundError(f"Rows of {evaluation.name!r} can't be put together by {column!r}", f"Columns that can: {names}.")
    return there[column]


def grouped(row_ids: Sequence[str], groups: Mapping[str, str]) -> list[str]:
    """A group for each row; one that has none is a group of its own. UserError for fewer than ``LEAST`` groups."""
    found = [f"group {groups[row_id]}" if row_id in groups else f"row {row_id}" for row_id in row_ids]
    if len(set(found)) < LEAST:
        raise UserError(
            f"The rows that are compared make {len(set(found))} groups, and {LEAST} are the least that can show a difference",
            "Choose another column, or compare row by row.",
        )
    return found


def grouping_sentence(groups: int) -> str:
    """What intervals were drawn from, with a warning where that is little."""
    few = " So few groups make intervals too narrow: take them as a lower bound of the doubt." if groups < FEW else ""
    return f"Intervals and p come from whole groups of rows: {groups:,} of them.{few}"


def _count(groups: Mapping[str, str], row_ids: Sequence[str]) -> int:
    return len(set(groups.values())) + sum(row_id not in groups for row_id in row_ids)
