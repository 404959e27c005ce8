"""Rows at positions: any positions, over row groups, in the order asked for."""

from __future__ import annotations

from unittest import mock

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from core.records import Dataset, Version
from core.store import schema
from core.store.datasets import read_rows, read_rows_at, save_version


@pytest.fixture
def ten(workspace: object) -> None:
    """Ten rows in row groups of three."""
    rows = [
        {"row_id": f"r{n}", "instruction": "", "input": str(n), "output": "", "split": "", "source": "", "line": n}
        for n in range(10)
    ]
    write = pq.write_table

    def small(table: pa.Table, path: object, **options: object) -> None:
        write(table, path, **{**options, "row_group_size": 3})

    with mock.patch("pyarrow.parquet.write_table", small):
        save_version(
            Dataset(name="ten"), Version(dataset="ten", number=1, rows=10), pa.Table.from_pylist(rows, schema=schema.ROWS)
        )


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.lists(st.integers(0, 9), max_size=12))
def test_positions_in_any_order(ten: None, positions: list[int]) -> None:
    assert read_rows_at("ten", None, positions)["line"].to_pylist() == positions


def test_all_rows_are_those_of_read_rows(ten: None) -> None:
    assert read_rows_at("ten", 1, range(10)).equals(read_rows("ten", 1))
