"""What became of each pair from one arm to another: the error-transition matrix and the rows behind each of its cells.

A gold pair has a fate in both arms. A pair that only a prediction has (spurious, hallucinated, duplicate, unknown element)
is ``absent`` from an arm that doesn't say it. So the matrix's margins are the arms' own counts, ``absent`` aside.
Knows nothing of scores or intervals.
"""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from core.evaluation.metrics.error_kinds import OUTCOME_KINDS

ABSENT = "absent"
STATES = (*OUTCOME_KINDS, ABSENT)
MOVES = pa.schema(
    [
        pa.field("row_id", pa.large_string()),
        pa.field("element", pa.large_string()),
        pa.field("gold", pa.large_string()),  # null: no gold pair, only predictions
        pa.field("left_kind", pa.large_string()),
        pa.field("left", pa.large_string()),
        pa.field("right_kind", pa.large_string()),
        pa.field("right", pa.large_string()),
    ]
)
Key = tuple[str, str, str, bool, int]


def moves(left: pa.Table, right: pa.Table, row_ids: set[str]) -> pa.Table:
    """One line a pair (columns of ``MOVES``) from two arms' pair tables; of equal pairs of a row the n-th meets the n-th."""
    ours, theirs = _keyed(left, row_ids), _keyed(right, row_ids)
    lines: list[tuple[Any, ...]] = []
    for key in dict.fromkeys([*ours, *theirs]):
        row_id, element, value, is_gold, _ = key
        kind, said = ours.get(key, (ABSENT, None))
        other_kind, other_said = theirs.get(key, (ABSENT, None))
        lines.append((row_id, element, value if is_gold else None, kind, said, other_kind, other_said))
    columns = [list(column) for column in zip(*lines, strict=True)] if lines else [[] for _ in MOVES]
    return pa.table(columns, schema=MOVES)


def matrix(table: pa.Table) -> dict[str, dict[str, int]]:
    """Counts by kind in the left arm, then in the right one; kinds that occur in neither are left out."""
    counts: dict[tuple[str, str], int] = {}
    for pair in zip(table["left_kind"].to_pylist(), table["right_kind"].to_pylist(), strict=True):
        counts[pair] = counts.get(pair, 0) + 1
    seen = {kind for pair in counts for kind in pair}
    kinds = [kind for kind in STATES if kind in seen]
    return {a: {b: counts.get((a, b), 0) for b in kinds} for a in kinds}


def rows_behind(table: pa.Table, left_kind: str = "", right_kind: str = "", element: str = "") -> list[str]:
    """The rows with a pair of these kinds in the left and the right arm, of this element; each row once, in order.

    ``""`` stands for any; of an element alone, any fate that differs between the arms.
    """
    columns = (table[name].to_pylist() for name in ("row_id", "element", "left_kind", "right_kind"))
    moved = not left_kind and not right_kind
    return list(
        dict.fromkeys(
            row
            for row, name, a, b in zip(*columns, strict=True)
            if left_kind in ("", a) and right_kind in ("", b) and element in ("", name) and not (moved and a == b)
        )
    )


def _keyed(pairs: pa.Table, row_ids: set[str]) -> dict[Key, tuple[str, str | None]]:
    """Fate and predicted text of each pair, by row, element, value, side and number among equals."""
    found: dict[Key, tuple[str, str | None]] = {}
    seen: dict[tuple[str, str, str, bool], int] = {}
    names = ("row_id", "element", "gold", "predicted", "kind")
    for row_id, element, gold, predicted, kind in zip(*(pairs[n].to_pylist() for n in names), strict=True):
        if row_id not in row_ids:
            continue
        base = (row_id, element, gold if gold is not None else predicted, gold is not None)
        seen[base] = seen.get(base, 0) + 1
        found[(*base, seen[base])] = (kind, predicted)
    return found
