"""Rows in which nothing is to be found, and answers that say nothing: scored and compared all the same."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from core.evaluation.compare import compare
from core.evaluation.rescore import import_predictions
from core.records import Dataset, Version
from core.store import schema
from core.store.datasets import save_version
from core.store.runs import get_evaluation
from tests.evaluation.toy import make_row


@pytest.mark.parametrize(("task", "said"), [("extraction", ("{}", "{broken")), ("classification", ("a", "b"))])
def test_rows_in_which_nothing_is(tmp_path: Path, task: Any, said: tuple[str, str]) -> None:
    gold = "{}" if task == "extraction" else ""
    rows = [{**make_row(n, "test", f"nothing {n}", {}), "output": gold} for n in range(8)]
    save_version(
        Dataset(name="nothing", task=task),
        Version(dataset="nothing", number=1, rows=8),
        pa.Table.from_pylist(rows, schema=schema.ROWS),
    )
    made = []
    for n, text in enumerate(said):
        path = tmp_path / f"{n}.jsonl"
        path.write_text("".join(json.dumps({"row_id": row["row_id"], "prediction": text}) + "\n" for row in rows), "utf-8")
        made.append(import_predictions(path, "nothing").evaluation_id)
    found = compare(made)
    primary = "micro_f1" if task == "extraction" else "accuracy"
    assert found.difference[primary]["value"] == 0
    assert found.difference[primary]["low"] < 0 < found.difference[primary]["high"]
    if task == "extraction":
        assert found.arms[0].scores["exact_match"] == 1
        assert found.difference["exact_match"]["high"] < 0
        assert found.arms[0].intervals["micro_f1"] == (0, 1)  # no value says anything of it
        assert {"normalised_micro_f1", "partial_micro_f1", "exact_match"} <= set(found.arms[0].intervals)
    assert found.verdict.startswith("No ")
    assert primary in get_evaluation(made[0]).scores["intervals"]
