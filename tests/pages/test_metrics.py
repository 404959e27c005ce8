"""Metrics: evaluations ranked and filtered, by element, by error, over time, down to rows."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from streamlit.testing.v1 import AppTest

from core.evaluation import decisions
from core.evaluation.rescore import rescore
from core.figures import tidy, tidy_rows
from core.store.datasets import read_rows
from core.store.runs import get_evaluation, list_evaluations, list_runs
from pages.ui import leaderboard
from tests.pages.conftest import check
from tests.pages.filled import fill

METRICS = "pages/6_Metrics.py"


def test_empty(open_page: Callable[..., AppTest]) -> None:
    app = open_page(METRICS)
    check(app)
    assert "Every evaluation, ranked" in app.header[0].value
    app.button(key="empty_metrics").click().run()  # without a dataset there is nothing to evaluate on Compare
    assert app.header[0].value.startswith("What is wrong with your data")


def test_the_best_is_named_with_its_interval(open_page: Callable[..., AppTest], tmp_path: Path) -> None:
    made = fill(tmp_path)
    app = open_page(METRICS)
    check(app)
    best = get_evaluation(made.tuned).scores
    low, high = best["intervals"]["micro_f1"]
    assert app.header[0].value == f"Best on notices: fine-tune, Micro-F1 {best['micro']['f1']:.2f} [{low:.2f}, {high:.2f}]."
    app.selectbox(key="metric").set_value("perplexity").run()
    assert "prompt alone, Perplexity" in app.header[0].value  # lower is better, and the prompt's is lower here


@pytest.mark.parametrize("view", ["By element", "Errors", "Trends", "Training", "Lengths", "Rows", "How it was counted"])
def test_views(open_page: Callable[..., AppTest], tmp_path: Path, view: str) -> None:
    fill(tmp_path)
    app = open_page(METRICS, metrics_view=view)
    check(app)
    if view == "Rows":
        assert any('class="predicted' in html.value or "gold predicted" in html.value for html in app.html)
    if view == "How it was counted":
        assert any("tw-table" in html.value and "resamples of rows" in html.value for html in app.html)


def test_filters_that_leave_nothing_say_so(open_page: Callable[..., AppTest], tmp_path: Path) -> None:
    fill(tmp_path)
    app = open_page(METRICS, by_adapter=["lora-r16"])
    check(app)
    assert "fine-tune reaches Micro-F1" in app.header[0].value
    app = open_page(METRICS, by_adapter=["lora-r16"], by_split=["test"], by_template=["chat@1"])
    check(app)


def test_frames_hold_every_evaluation(tmp_path: Path) -> None:
    made = fill(tmp_path)
    records = list_evaluations()
    frame = tidy.evaluations(records, list_runs())
    assert set(frame["key"]) == {made.base, made.tuned}
    assert dict(zip(frame["key"], frame["kind"], strict=True)) == {made.base: "base", made.tuned: "tuned"}
    assert frame["tokens"].tolist() == [84.0, 84.0]
    errors = tidy.errors(records)
    for record in records:
        assert errors.loc[errors["arm"] == record.name, "rows"].sum() == sum(record.scores["errors"].values())
    answers = tidy_rows.answers(get_evaluation(made.base))
    assert len(answers) == get_evaluation(made.base).rows
    assert (answers["errors"] > 0).sum() == sum(bool(kinds) for kinds in answers["kinds"])


def test_the_best_is_that_of_the_newest_gold_and_the_others_are_named(open_page: Callable[..., AppTest], tmp_path: Path) -> None:
    made = fill(tmp_path)
    [row_id] = read_rows(made.dataset, split="test")["row_id"].to_pylist()[:1]
    decisions.fix(made.dataset, {row_id: '{"person": ["x"]}'})
    again = rescore(made.base)  # the prompt alone, the worse of the two
    frame = tidy.evaluations(list_evaluations(), list_runs())
    assert frame["key"][leaderboard.newest_gold(frame, "micro_f1")].tolist() == [again.evaluation_id]
    app = open_page(METRICS)
    check(app)
    assert app.header[0].value.startswith(f"prompt alone, gold of v{again.version} reaches Micro-F1")
    said = "\n".join(text.value for text in app.markdown)
    assert f"Ranked by the gold of v{again.version}; 2 others are counted by that of v{made.version}" in said
    table = next(shown.value for shown in app.dataframe if "micro_f1" in shown.value and "version" in shown.value)
    assert table["version"].tolist() == [f"v{again.version}"] + [f"v{made.version}"] * 2
    app = open_page(METRICS, by_version=[f"v{made.version}"])
    assert app.header[0].value.startswith("Best on notices: fine-tune")
    assert "Ranked by the gold" not in "\n".join(text.value for text in app.markdown)


def test_each_dataset_is_ranked_by_its_own_newest_gold_that_has_the_metric() -> None:
    frame = pd.DataFrame(
        {
            "dataset": ["a", "a", "a", "b", "b"],
            "version": ["v2", "v10", "v9", "v1", "v3"],
            "bleu": [1.0, 2.0, 3.0, 4.0, None],
        }
    )
    assert leaderboard.newest_gold(frame, "bleu").tolist() == [False, True, False, True, False]
