"""Windows of found rows are the same rows that reading everything gives."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from core.data.importing import import_file
from core.data.windows import find_rows, read_window
from core.errors import UserError
from core.store.datasets import read_rows, version_folder
from tests.data.make import rows_of, save_rows


@pytest.fixture
def dataset() -> str:
    rows = [
        {"input": f"第{n}行 Text", "output": "甲" if n % 3 else "乙", "split": "dev" if n % 2 else "train"} for n in range(100)
    ]
    save_rows("d", rows_of(*rows))
    path = version_folder("d", 1) / "rows.parquet"
    pq.write_table(read_rows("d"), path, row_group_size=7)
    return "d"


def test_filters(dataset: str) -> None:
    assert find_rows(dataset).tolist() == list(range(100))
    assert find_rows(dataset, text="乙").tolist() == list(range(0, 100, 3))
    assert find_rows(dataset, text="乙", split="dev").tolist() == list(range(3, 100, 6))
    assert find_rows(dataset, text="text").tolist() == []
    assert len(find_rows(dataset, text="text", ignore_case=True)) == 100
    assert find_rows(dataset, text="乙", within=np.array([1, 3, 9])).tolist() == [3, 9]
    assert find_rows(dataset, text="乙", columns=["input"]).tolist() == []
    with pytest.raises(UserError, match="no column 'x'"):
        find_rows(dataset, text="a", columns=["x"])


@pytest.mark.parametrize("positions", [[0], [99, 0, 50, 51], [6, 7, 8, 13, 14], [], list(range(100))])
def test_windows(dataset: str, positions: list[int]) -> None:
    whole = read_rows(dataset)
    got = read_window(dataset, None, np.array(positions, dtype=np.int64), offset=1, limit=3)
    assert got.to_pylist() == whole.take(pa.array(positions[1:4], pa.int64())).to_pylist()
    some = read_window(dataset, 1, np.array(positions, dtype=np.int64), columns=["row_id", "input"], limit=1000)
    assert some.equals(whole.select(["row_id", "input"]).take(pa.array(positions, pa.int64())))


@pytest.mark.parametrize("text", [".*", "a\\b", "[x]", "(", "价款？", "two\nlines", "50%", "\\E", "e^x", "$"])
def test_a_text_is_looked_for_as_it_is_written(text: str, tmp_path: Path) -> None:
    rows = [{"question": f"row {n}: {mark}", "answer": "x"} for n, mark in enumerate([text, "nothing of it"])]
    path = tmp_path / "signs.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    import_file(path, "signs")
    assert find_rows("signs", text=text).tolist() == [0]
    assert find_rows("signs", text=text.upper(), ignore_case=True).tolist() == [0]
    assert find_rows("signs", text=text, within=np.array([1])).tolist() == []
