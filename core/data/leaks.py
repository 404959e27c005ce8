"""Rows of dev and test whose question stands in train, exactly or nearly. Knows nothing of what is done about them."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from core.data.keys import Codes, question_codes


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
        from core.data.duplicates import compared_texts, near_pairs

        compared = compared_texts(rows)
        pairs = near_pairs(compared.texts, near, compared.groups)
        _add_near(out, back, compared.place, pairs.left, pairs.right, in_train, held)
    return dict(sorted(out.items())), dict(sorted(back.items()))


def _add_near(
    out: dict[int, int],
    back: dict[int, int],
    place: Codes,
    left: Codes,
    right: Codes,
    in_train: npt.NDArray[np.bool_],
    held: npt.NDArray[np.bool_],
) -> None:
    rows_of: dict[int, list[int]] = {}
    wanted = set(left.tolist()) | set(right.tolist())
    for row, text in enumerate(place.tolist()):
        if text in wanted:
            rows_of.setdefault(text, []).append(row)
    for one, other in [*zip(left.tolist(), right.tolist(), strict=True), *zip(right.tolist(), left.tolist(), strict=True)]:
        trained = [row for row in rows_of[one] if in_train[row]]
        tested = [row for row in rows_of[other] if held[row]]
        if trained and tested:
            for row in tested:
                out.setdefault(row, trained[0])
            for row in trained:
                back.setdefault(row, tested[0])
