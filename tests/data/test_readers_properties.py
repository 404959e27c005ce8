"""Text goes through every container unchanged, and a guess given back as a choice reads the same."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.data.readers.base import Limits
from core.data.readers.guessing import guess
from core.data.readers.reading import Parsed, parse
from core.records import SilentReporter

FIELDS = ("instruction", "input", "output")
TEXT = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\0"), max_size=40)
ROWS = st.lists(st.fixed_dictionaries(dict.fromkeys(FIELDS, TEXT)), min_size=1, max_size=6)


def read(path: Path, **options: Any) -> Parsed:
    chosen = {"mapping": None, "shape": None, "encoding": None} | options
    return parse(path, Limits.current(), reporter=SilentReporter(), **chosen)


def write(path: Path, rows: list[dict[str, str]], kind: str) -> None:
    if kind == "jsonl":
        path.write_bytes("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode())
    elif kind == "json":
        path.write_bytes(json.dumps(rows, ensure_ascii=len(rows) % 2 == 0, indent=len(rows) % 3 or None).encode())
    elif kind == "parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    else:
        with open(path, "w", encoding="utf-8-sig", newline="") as out:
            writer = csv.DictWriter(out, FIELDS, delimiter="\t" if kind == "tsv" else ",")
            writer.writeheader()
            writer.writerows(rows)


@pytest.mark.parametrize("kind", ["jsonl", "json", "parquet", "csv", "tsv"])
@settings(max_examples=40, deadline=None)
@given(rows=ROWS)
def test_texts_come_through_unchanged(kind: str, rows: list[dict[str, str]]) -> None:
    with TemporaryDirectory() as folder:
        path = Path(folder) / f"a.{kind}"
        write(path, rows, kind)
        parsed = read(path)
        assert parsed.faults == []
        assert parsed.rows.select(FIELDS).to_pylist() == rows


@settings(max_examples=60, deadline=None)
@given(content=st.binary(max_size=300), rows=ROWS)
def test_every_line_is_a_row_or_a_fault(content: bytes, rows: list[dict[str, str]]) -> None:
    """Whatever stands in a line, the lines around it are read and it is shown."""
    stray = b"!" + content.replace(b"\n", b" ").replace(b"\0", b" ")
    good = [json.dumps(row).encode() for row in [*rows, {"instruction": "x", "input": "中文", "output": "y"}]]
    with TemporaryDirectory() as folder:
        path = Path(folder) / "a.jsonl"
        path.write_bytes(b"\n".join([*good, stray, *good]))
        parsed = read(path, encoding="utf-8")
        assert parsed.rows.num_rows == 2 * len(good)
        assert [fault.line for fault in parsed.faults] == [len(good) + 1]


RECORDS: dict[str, list[dict[str, Any]]] = {
    "flat": [{"text": "x", "label": "y", "split": "test", "other": 1}],
    "conversation": [{"conversations": [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}] * 2, "tools": "t"}],
    "turns": [{"input": ["a", "b"], "output": ["c", "d"]}],
    "spans": [{"text": "Ann", "label": [[0, 3, "p"]]}],
    "fragments": [{"data": [{"text": "a"}, {"text": "b", "entity": "e"}]}, {"data": [{"text": "c"}]}],
    "tags": [{"tokens": ["a"], "ner_tags": ["B-x"]}],
}


@pytest.mark.parametrize("shape", RECORDS)
def test_a_guess_given_back_reads_the_same(tmp_path: Path, shape: str) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text("".join(json.dumps(record) + "\n" for record in RECORDS[shape]))
    first = guess(path)
    assert first.shape == shape
    again = guess(path, shape=first.shape, mapping=first.mapping, encoding=first.encoding)
    assert (again.mapping, again.preview, again.options) == (first.mapping, first.preview, first.options)
