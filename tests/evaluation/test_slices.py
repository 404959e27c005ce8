"""A slice that is worse by making is found first; slices at random seldom look significant."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from core.errors import UserError
from core.evaluation import slices as module
from core.evaluation.runner import run_evaluation
from core.evaluation.slices import language, slice_columns, slices, slices_table
from core.records import Evaluation, SilentReporter
from tests.evaluation.toy import right_answer


def bad_on_odd(prompt: str) -> str:
    """Wrong for most rows of file-1 (odd numbers)."""
    answer = json.loads(right_answer(prompt))
    n = int(answer["人"][0][2:])
    return json.dumps({"人": answer["人"]}) if n % 2 and n % 6 != 1 else right_answer(prompt)


@pytest.fixture
def evaluation(make_evaluation: Callable[..., Evaluation], engine: Callable[..., Any]) -> Evaluation:
    return run_evaluation(make_evaluation("e"), SilentReporter(), engine(bad_on_odd))


def test_worst_first(evaluation: Evaluation) -> None:
    found = slices("e", "micro_f1")
    worst = found[0]
    assert (worst.column, worst.value, worst.rows) == ("source", "file-1.jsonl", 20)
    assert worst.rest == 1
    assert worst.low < worst.score < worst.high < 1
    assert worst.p < 0.001
    assert worst.p <= worst.p_adjusted < 0.01
    assert all(int(row_id[-1]) % 2 for row_id in worst.row_ids)
    assert slices_table(found).num_rows == len(found)


def test_pairs_of_columns_and_given_columns(evaluation: Evaluation) -> None:
    rows = 40
    given = {"half": ["a"] * 20 + ["b"] * 20, "parity": ["even", "odd"] * 20}
    found = slices("e", "exact_match", columns=given, depth=2, min_rows=5)
    assert {s.column for s in found} == {"half", "parity", "half, parity"}
    assert sum(s.rows for s in found if s.column == "half") == rows
    assert found[0].value.endswith("odd")


def test_default_columns(evaluation: Evaluation) -> None:
    columns = slice_columns(evaluation)
    assert {"source", "language", "input characters", "gold values"} <= set(columns)
    assert set(columns["gold values"]) == {"2"}
    assert all(len(values) == 40 for values in columns.values())


def test_rows_are_in_the_slice_of_every_element_that_gold_has(evaluation: Evaluation) -> None:
    assert set(slice_columns(evaluation)["gold has"]) == {("人", "地")}
    given = {"gold has": [("a",), ("a", "b"), (), ("b",)] * 10}
    found = slices("e", "exact_match", columns=given)
    assert {s.value: s.rows for s in found} == {"a": 20, "b": 20}
    row_ids, _ = module.artefacts.read_statistics("e")
    held = {s.value: set(s.row_ids) for s in found}
    assert held["a"] & held["b"] == set(row_ids[1::4])


def test_unknown_metric(evaluation: Evaluation) -> None:
    with pytest.raises(UserError, match="no metric 'f2'"):
        slices("e", "f2")


def test_random_slices_seldom_look_significant(evaluation: Evaluation) -> None:
    rng = np.random.default_rng(3)
    columns = {f"coin {i}": rng.choice(["a", "b"], 40).tolist() for i in range(60)}
    found = slices("e", "micro_f1", columns=columns)
    share = np.mean([s.p < 0.05 for s in found])
    assert share < 0.12
    assert min(s.p_adjusted for s in found) > 0.05


@pytest.mark.parametrize(
    ("text", "name"), [("张三住在", "zh"), ("Anna lives", "en"), ("张三 lives in Oslo", "mixed"), ("12", "other")]
)
def test_language(text: str, name: str) -> None:
    assert language(text) == name


def test_bins_cover_all_and_name_their_ends() -> None:
    names = module._binned([3, 5, 8, 13, 21, 34, 55, 89])
    assert len(set(names)) == 4
    assert names[0].startswith("3 to")
    assert names[-1].endswith("89")
    assert module._binned([7, 7, 7]) == ["7", "7", "7"]


def test_nearest_training_rows(evaluation: Evaluation) -> None:
    from core.evaluation.nearest import Nearest

    found = Nearest(evaluation)({"row_id": "r-0050", "input": "张三50 住在 Oslo3"}, 3)
    assert len(found) == 3
    assert all(row["split"] == "train" and "Oslo3" in row["input"] for row in found)


def test_nearest_training_rows_of_a_row_by_its_identifier(evaluation: Evaluation) -> None:
    from core.evaluation.nearest import nearest_rows

    row, found = nearest_rows("e", "r-0031", 3)
    assert (row["input"], row["output"]) == ("张三31 住在 Oslo3", '{"人": ["张三31"], "地": ["Oslo3"]}')
    assert len(found) == 3
    assert all("Oslo3" in line["input"] and line["split"] == "train" for line in found)
    with pytest.raises(UserError, match="has no row 'r-9999'"):
        nearest_rows("e", "r-9999")


def test_rows_without_gold_values_are_no_slice_of_an_f1(monkeypatch: pytest.MonkeyPatch, evaluation: Evaluation) -> None:
    row_ids, statistics = module.artefacts.read_statistics("e")
    bare = statistics.values.copy()
    gold = [place for place, name in enumerate(statistics.names) if name.startswith("gold:")]
    bare[:10, gold] = 0
    monkeypatch.setattr(module.artefacts, "read_statistics", lambda key: (row_ids, module.Statistics(statistics.names, bare)))
    given = {"gold": ["none"] * 10 + ["some"] * 30}
    assert {s.value for s in slices("e", "exact_match", columns=given)} == {"none", "some"}
    assert slices("e", "micro_f1", columns=given) == []
