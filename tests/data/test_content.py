"""The content hash sees what it must and nothing else; codes group as Python's equality does."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from core.data.content import content_hash, group_codes, is_first, split_sizes
from core.store.schema import ROWS


def table(*rows: dict[str, object]) -> pa.Table:
    base = {"instruction": "", "input": "", "output": "", "messages": None, "split": "", "source": "f", "line": 1, "extra": None}
    return pa.Table.from_pylist([base | {"row_id": f"r-{n}"} | row for n, row in enumerate(rows)], schema=ROWS)


def test_hash_is_the_same_however_the_table_is_laid_out() -> None:
    whole = table({"input": "a"}, {"input": "张三", "messages": "[]"}, {"input": ""}, {"output": "x"})
    chunked = pa.concat_tables([whole.slice(0, 1), whole.slice(1, 2), whole.slice(3)])
    assert content_hash(whole) == content_hash(chunked)
    assert content_hash(whole.slice(1, 2)) == content_hash(pa.Table.from_pylist(whole.slice(1, 2).to_pylist(), schema=ROWS))


def test_hash_sees_every_content_column_and_the_order() -> None:
    base = table({"input": "a"}, {"input": "b"})
    others = [
        table({"input": "a", "row_id": "z"}, {"input": "b"}),
        table({"input": "ab"}, {"input": ""}),
        table({"instruction": "a"}, {"input": "b"}),
        table({"input": "a", "output": "o"}, {"input": "b"}),
        table({"input": "a", "messages": ""}, {"input": "b"}),
        table({"input": "a", "split": "dev"}, {"input": "b"}),
        base.take([1, 0]),
        base.slice(0, 1),
        base.slice(0, 0),
    ]
    hashes = {content_hash(other) for other in [base, *others]}
    assert len(hashes) == len(others) + 1


def test_hash_ignores_where_a_row_came_from() -> None:
    assert content_hash(table({"input": "a", "source": "g", "line": 9})) == content_hash(table({"input": "a"}))


def test_split_sizes() -> None:
    assert split_sizes(table({"split": "test"}, {"split": "train"}, {"split": "train"})) == {"train": 2, "test": 1}


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
    assert list(is_first(codes)) == [row not in rows[:n] for n, row in enumerate(rows)]
    assert list(dict.fromkeys(codes.tolist())) == list(range(len(set(rows))))
    assert codes.dtype == np.int64
