"""Codes group as Python's equality does."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from core.data.codes import first_of_group, group_codes, is_first

cells = st.one_of(st.none(), st.text("ab\x1f", max_size=2))


@given(st.lists(st.tuples(cells, cells), max_size=12), st.integers(0, 12))
def test_codes_group_like_equality(rows: list[tuple[str | None, str | None]], cut: int) -> None:
    halves = [
        pa.chunked_array([pa.array(part, pa.large_string()) for part in (column[:cut], column[cut:])])
        for column in ([r[0] for r in rows], [r[1] for r in rows])
    ]
    codes = group_codes(*halves)
    for i, left in enumerate(rows):
        for j, right in enumerate(rows):
            assert (codes[i] == codes[j]) == (left == right)
    assert first_of_group(codes).tolist() == [rows.index(row) for row in rows]
    assert list(is_first(codes)) == [row not in rows[:n] for n, row in enumerate(rows)]
    assert list(dict.fromkeys(codes.tolist())) == list(range(len(set(rows))))
    assert codes.dtype == np.int64
