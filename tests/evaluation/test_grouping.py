"""Comparisons by whole groups of rows, from a column of the data."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from core.__main__ import main
from core.errors import NotFoundError, SpecError, UserError
from core.evaluation.compare import compare
from core.evaluation.grouping import group_columns, grouped, groups_by
from core.evaluation.metrics.modes import FOLDED, read_normaliser
from core.evaluation.runner import run_evaluation
from core.evaluation.statistics import wilson
from core.records import Dataset, Evaluation, SilentReporter, Version
from core.store import schema
from core.store.datasets import save_version
from tests.evaluation.toy import FakeEngine, make_row, right_answer


@pytest.fixture
def dataset(workspace: Path) -> str:
    """``toy`` with 40 test rows of 10 documents of 4 rows each; one row names none."""
    rows = []
    for n in range(40):
        row = make_row(n, "test", f"张三{n} 住在 Oslo{n // 4}", {"人": [f"张三{n}"], "地": [f"Oslo{n // 4}"]})
        extra = {"document": f"d{n // 4}", "one": "same", "each": n} if n else {"one": "same", "each": n}
        rows.append(row | {"extra": json.dumps(extra)})
    save_version(
        Dataset(name="toy", elements=("人", "地")),
        Version(dataset="toy", number=1, rows=40, split_sizes={"test": 40}),
        pa.Table.from_pylist(rows, schema=schema.ROWS),
    )
    return "toy"


@pytest.fixture
def pair(make_evaluation: Callable[..., Evaluation], engine: Callable[..., FakeEngine]) -> list[str]:
    """Answers that are wrong for whole documents: four rows are no more than one piece of evidence."""

    def by_document(prompt: str) -> str:
        return right_answer(prompt) if int(prompt.strip().rpartition("Oslo")[2]) % 3 else "{}"

    run_evaluation(make_evaluation("base"), SilentReporter(), engine(by_document))
    run_evaluation(make_evaluation("tuned"), SilentReporter(), engine())
    return ["base", "tuned"]


def test_whole_groups_are_resampled(pair: list[str], make_evaluation: Callable[..., Evaluation]) -> None:
    evaluation = make_evaluation("base")
    assert set(group_columns(evaluation)) == {"document"}  # source makes two, each row has its own number
    groups = groups_by(evaluation, "document")
    assert len(groups) == 39
    rows, whole = compare(pair), compare(pair, clusters=groups)
    assert (rows.groups, whole.groups) == (0, 11)
    for metric in ("micro_f1", "exact_match"):
        one, other = rows.difference[metric], whole.difference[metric]
        assert other["value"] == one["value"]
        assert other["high"] - other["low"] > 1.4 * (one["high"] - one["low"])
        assert other["p"] > one["p"]
    assert rows.arms[0].intervals["exact_match"] == tuple(wilson(rows.arms[0].scores["exact_match"] * 40, 40))
    assert whole.arms[0].intervals["exact_match"] != rows.arms[0].intervals["exact_match"]
    assert rows.versus[0].mcnemar is not None
    assert whole.versus[0].mcnemar is None
    assert whole.notes[0].startswith("Intervals and p come from whole groups of rows: 11 of them. So few groups")


def test_the_command(pair: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", *pair, "--group", "document", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["groups"] == 11
    assert main(["compare", *pair, "--group", "chapter"]) == 2
    assert "Columns that can: document" in capsys.readouterr().err


def test_faults(pair: list[str], make_evaluation: Callable[..., Evaluation]) -> None:
    with pytest.raises(NotFoundError, match="one"):
        groups_by(make_evaluation("base"), "one")  # all rows have the same
    with pytest.raises(UserError, match="make 2 groups"):
        grouped(["a", "b", "c"], {"a": "x", "b": "x"})
    named = dict.fromkeys("ab", "c")
    assert grouped(list("abcdefg"), named) == ["group c", "group c", "row c", "row d", "row e", "row f", "row g"]


def test_what_the_normalised_score_overlooks_is_chosen(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines: list[dict[str, Any]] = [{"input": "", "output": '{"a": "Ｘ y"}', "prediction": '{"a": "xy"}'}]
    path = tmp_path / "p.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")

    def normalised(*options: str) -> tuple[float, str]:
        assert main(["score", str(path), "--json", *options]) == 0
        found = json.loads(capsys.readouterr().out)
        return found["normalised"]["micro"]["f1"], found["signature"]["normalised"]

    assert normalised()[0] == 1
    assert normalised("--normalise", "width, case,space") == (1, f"width,case,space|width:{FOLDED['width']}|version:3")
    assert normalised("--normalise", "width,case")[0] == 0
    assert normalised("--normalise", "none") == (0, "none|version:3")
    assert main(["score", str(path), "--normalise", "colour"]) == 2
    assert "colour" in capsys.readouterr().err
    with pytest.raises(SpecError):
        read_normaliser("width,colour")
