"""Ledger entries: made from what a step did to rows, and read back to do it again.

An entry is one dropped, changed or added row with its reason. ``before`` and ``after`` hold the changed
columns as JSON (the whole row when it was dropped or added), so a version's ledger alone rebuilds the
version from its parent. Knows nothing of operations or of how a ledger is stored.

``before`` only: dropped. Both: changed. ``after`` only: added; its ``"_at"`` is the row's place in the
table after the step, and rows without one stand at the end.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from itertools import groupby

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from core.store import schema

Positions = npt.NDArray[np.int64]
CHANGES = pa.schema([field for field in schema.LEDGER if field.name != "version"])
"""Columns of entries that belong to no version yet."""
COMPARED = ("instruction", "input", "output", "messages", "split", "extra")
"""Columns whose change makes an entry; ``source`` and ``line`` never change."""
PLACE = "_at"


def _table(step_id: str, op: str, row_ids: pa.Array, reasons: str | Sequence[str], before: object, after: object) -> pa.Table:
    size = len(row_ids)
    told = pa.array([reasons] * size if isinstance(reasons, str) else list(reasons), pa.large_string())
    nothing = pa.nulls(size, pa.large_string())
    return pa.Table.from_arrays(
        [
            pa.array([step_id] * size, pa.large_string()),
            pa.array([op] * size, pa.large_string()),
            row_ids,
            told,
            nothing if before is None else pa.array(before, pa.large_string()),
            nothing if after is None else pa.array(after, pa.large_string()),
        ],
        schema=CHANGES,
    )


def _as_json(rows: pa.Table) -> list[str]:
    return [json.dumps(row, ensure_ascii=False, separators=(",", ":")) for row in rows.to_pylist()]


def _ids(rows: pa.Table, positions: Positions) -> pa.Array:
    taken = rows["row_id"].take(pa.array(positions)).combine_chunks()
    return taken if isinstance(taken, pa.Array) else pa.concat_arrays(taken.chunks)


def dropped(rows: pa.Table, positions: Positions, *, step_id: str, op: str, reasons: str | Sequence[str]) -> pa.Table:
    """Entries of rows that a step takes out."""
    texts = _as_json(rows.take(pa.array(positions)))
    return _table(step_id, op, _ids(rows, positions), reasons, texts, None)


def added(
    rows: pa.Table, positions: Positions, *, step_id: str, op: str, reasons: str | Sequence[str], at: Positions | None = None
) -> pa.Table:
    """Entries of rows that a step brings in; ``at`` are their places in the new table (none: at the end)."""
    taken = rows.take(pa.array(positions)).to_pylist()
    if at is not None:
        taken = [{**row, PLACE: int(place)} for row, place in zip(taken, at, strict=True)]
    texts = [json.dumps(row, ensure_ascii=False, separators=(",", ":")) for row in taken]
    return _table(step_id, op, _ids(rows, positions), reasons, None, texts)


def changed_positions(old: pa.Table, new: pa.Table, columns: Iterable[str] = COMPARED) -> Positions:
    """Places at which two tables of the same rows differ."""
    differs: npt.NDArray[np.bool_] = np.zeros(old.num_rows, dtype=np.bool_)
    for name in columns:
        left, right = old[name], new[name]
        if left is right or left.equals(right):
            continue
        unequal = pc.fill_null(pc.not_equal(left, right), False)
        nulls = pc.xor(pc.is_null(left), pc.is_null(right))
        differs |= pc.or_(unequal, nulls).to_numpy()
    return np.flatnonzero(differs)


def changed(
    old: pa.Table, new: pa.Table, *, step_id: str, op: str, reasons: str | Sequence[str], columns: Sequence[str] = COMPARED
) -> pa.Table:
    """Entries of rows whose cells a step changes; ``old`` and ``new`` are the same rows in the same order.

    ``reasons``: one for all, or one for each row that differs, in order (see ``changed_positions``).
    """
    places = changed_positions(old, new, columns)
    take = pa.array(places)
    before, after = (side.select(list(columns)).take(take).to_pylist() for side in (old, new))
    texts: tuple[list[str], list[str]] = ([], [])
    for left, right in zip(before, after, strict=True):
        names = [name for name in columns if left[name] != right[name]]
        for side, cells in zip(texts, (left, right), strict=True):
            side.append(json.dumps({name: cells[name] for name in names}, ensure_ascii=False, separators=(",", ":")))
    return _table(step_id, op, _ids(old, places), reasons, texts[0], texts[1])


def diff(old: pa.Table, new: pa.Table, *, step_id: str, op: str, reason: str) -> pa.Table:
    """Entries that lead from one table to another, rows matched by ``row_id``. Rows in both keep their order."""
    gone = np.flatnonzero(pc.is_null(pc.index_in(old["row_id"], new["row_id"])).to_numpy())
    place_in_old = pc.index_in(new["row_id"], old["row_id"])
    come = np.flatnonzero(pc.is_null(place_in_old).to_numpy())
    stay = np.flatnonzero(pc.is_valid(place_in_old).to_numpy())
    kept_old = old.take(place_in_old.drop_null())
    kept_new = new.take(pa.array(stay))
    return pa.concat_tables(
        [
            dropped(old, gone, step_id=step_id, op=op, reasons=reason),
            changed(kept_old, kept_new, step_id=step_id, op=op, reasons=reason),
            added(new, come, step_id=step_id, op=op, reasons=reason, at=come),
        ]
    )


def with_version(changes: pa.Table, number: int) -> pa.Table:
    """Entries as they are stored: each with the version that it led to."""
    return changes.add_column(0, schema.LEDGER.field("version"), pa.array([number] * changes.num_rows, pa.int64())).cast(
        schema.LEDGER
    )


def rebuild(old: pa.Table, ledger: pa.Table) -> pa.Table:
    """The version that ``ledger`` led to, made from its parent's rows and nothing else."""
    rows = {row["row_id"]: row for row in old.to_pylist()}
    entries = ledger.select(["step_id", "row_id", "before", "after"]).to_pylist()
    for _, step in groupby(entries, key=lambda entry: entry["step_id"]):
        placed: list[tuple[int, dict[str, object]]] = []
        for entry in step:
            row_id, after = entry["row_id"], entry["after"]
            if after is None:
                del rows[row_id]
            elif entry["before"] is not None:
                rows[row_id] = {**rows[row_id], **json.loads(after)}
            else:
                row = json.loads(after)
                place = row.pop(PLACE, None)
                if place is None:
                    rows[row_id] = row
                else:
                    placed.append((place, row))
        if placed:
            rows = {str(row["row_id"]): row for row in _inserted(list(rows.values()), placed)}
    return pa.Table.from_pylist(list(rows.values()), schema=schema.ROWS)


def _inserted(rows: list[dict[str, object]], placed: list[tuple[int, dict[str, object]]]) -> list[dict[str, object]]:
    kept, taken = iter(rows), dict(placed)
    return [taken[place] if place in taken else next(kept) for place in range(len(rows) + len(placed))]
