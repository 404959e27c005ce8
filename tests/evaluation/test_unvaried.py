"""Rows that are all alike still leave doubt, as much as their number allows."""

from __future__ import annotations

import pytest

from core.evaluation.metrics.rows import Statistics
from core.evaluation.scoring import score_frame
from core.evaluation.statistics import Difference, Interval, rate_difference, wilson
from core.evaluation.unvaried import evidence, widened, widened_differences

WRONG, RIGHT = '{"a": ["z"]}', '{"a": ["x", "y"]}'


def scored(predictions: list[str], gold: str = RIGHT) -> dict[str, tuple[float, float]]:
    found = score_frame({"output": [gold] * len(predictions), "prediction": predictions}).scores["intervals"]
    return {name: tuple(ends) for name, ends in found.items()}


@pytest.mark.parametrize("rows", [1, 5, 40])
def test_all_wrong_and_all_right_count_as_so_many_rows(rows: int) -> None:
    wrong, right = scored([WRONG] * rows), scored([RIGHT] * rows)
    for name in ("micro_f1", "micro_precision", "macro_f1", "f1:a", "recall:a", "normalised_micro_f1", "repaired_micro_f1"):
        assert wrong[name] == pytest.approx(wilson(0, rows))
        assert right[name] == pytest.approx(wilson(rows, rows))
    assert right["chrf"] == pytest.approx([100 * end for end in wilson(rows, rows)])


def test_rows_that_differ_keep_their_resamples() -> None:
    ends = scored([RIGHT, WRONG] * 20)
    assert 0 < ends["micro_f1"][0] < ends["micro_f1"][1] < 1
    assert widened({"micro_f1": Interval(0.2, 0.4)}, {"micro_f1": 0.3}, Statistics.from_rows([{}], [])) == {
        "micro_f1": Interval(0.2, 0.4)
    }


def test_an_element_has_the_doubt_of_its_own_rows() -> None:
    gold = ['{"a": ["x"]}'] * 36 + ['{"a": ["x"], "b": ["y"]}'] * 4
    table = score_frame({"output": gold, "prediction": gold}, with_intervals=False).statistics
    assert (evidence("f1:b", table), evidence("f1:a", table), evidence("micro_f1", table), evidence("bleu", table)) == (
        4,
        40,
        40,
        40,
    )
    none = score_frame({"output": gold, "prediction": ["?"] * 40}, with_intervals=False).statistics
    assert (evidence("precision:b", none), evidence("micro_precision", none), evidence("micro_recall", none)) == (0, 0, 40)
    assert widened({"micro_precision": Interval(0, 0)}, {"micro_precision": 0.0}, none) == {"micro_precision": Interval(0, 1)}
    assert evidence("micro_precision", none, table) == 40


def test_differences_and_groups() -> None:
    table = score_frame({"output": [RIGHT] * 40, "prediction": [WRONG] * 40}, with_intervals=False).statistics
    same, all_won = Difference(0.0, 0.0, 0.0, 1.0), Difference(1.0, 1.0, 1.0, 0.001)
    found = widened_differences({"micro_f1": same, "f1:a": all_won, "perplexity": same}, table, table)
    assert found["micro_f1"] == Difference(0.0, *rate_difference(0, 0, 40), 1.0)
    assert found["f1:a"] == Difference(1.0, *rate_difference(0, 40, 40), 0.001)
    assert found["perplexity"] == same  # no bounds, so nothing to say
    grouped = widened_differences({"micro_f1": same}, table, table, units=10)
    assert grouped["micro_f1"][1:3] == rate_difference(0, 0, 10)
