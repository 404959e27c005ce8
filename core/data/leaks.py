"""Rows of dev and test whose question stands in train, exactly or nearly. Knows nothing of what is done about them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from core.data.keys import question_codes
from core.data.near import near_leaks, near_rows


def leaking_rows(rows: pa.Table, *, near: float | None = None) -> tuple[dict[int, int], dict[int, int]]:
    """Positions of dev and test rows whose question stands in train, and of the train rows they stand in.

    Each with the position of one row on the other side. ``near``: also rows whose text is at least that similar.
    """
    split = rows["split"]
    in_train = pc.equal(split, "train").to_numpy()
    held = pc.is_in(split, pa.array(["dev", "test"], pa.large_string())).to_numpy()
    codes = question_codes(rows)
    first_train: dict[int, int] = {}
    first_held: dict[int, int] = {}
    for place in np.flatnonzero(in_train).tolist():
        first_train.setdefault(int(codes[place]), place)
    for place in np.flatnonzero(held).tolist():
        first_held.setdefault(int(codes[place]), place)
    out = {place: first_train[code] for place in np.flatnonzero(held).tolist() if (code := int(codes[place])) in first_train}
    back = {place: first_held[code] for place in np.flatnonzero(in_train).tolist() if (code := int(codes[place])) in first_held}
    if near is not None:
        more_out, more_back = near_leaks(near_rows(rows, near), codes, in_train, held)
        out, back = more_out | out, more_back | back
    return dict(sorted(out.items())), dict(sorted(back.items()))


@dataclass(frozen=True, slots=True)
class LeakReport:
    """Rows of dev and test that stand in train, and those that do so nearly."""

    exact: int
    near: int


def leak_report(rows: pa.Table, threshold: float = 0.8) -> LeakReport:
    """How many rows of dev and test leak."""
    exact, _ = leaking_rows(rows)
    both, _ = leaking_rows(rows, near=threshold) if rows.num_rows else ({}, {})
    return LeakReport(len(exact), len(both) - len(exact))
