"""Slices, suspicious gold, leaks, learning curve and quick A/B on the pages Compare and Metrics."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from streamlit.testing.v1 import AppTest

from core.evaluation import decisions
from core.figures import evaluation as figures
from core.figures import style
from core.store.datasets import list_versions, read_ledger, read_rows
from core.store.jobs import list_jobs
from core.store.runs import get_evaluation, list_evaluations
from pages.ui import evidence
from tests.pages.conftest import check, texts
from tests.pages.filled import Filled, fill, make_evaluation

METRICS, COMPARE = "pages/6_Metrics.py", "pages/5_Compare.py"


@pytest.fixture
def filled(tmp_path: Path) -> Filled:
    return fill(tmp_path)


def shown(app: AppTest) -> str:
    frames = [str(frame.value.to_csv()) for frame in app.dataframe]
    return "\n".join([*texts(app), *frames])


def test_slices_are_ranked_and_open_their_rows(open_page: Callable[..., AppTest], filled: Filled) -> None:
    app = open_page(METRICS, metrics_view="Slices")
    check(app)
    assert "Rows of **" in shown(app)
    frame = next(f.value for f in app.dataframe if "p_adjusted" in f.value.columns)
    assert frame["difference"].is_monotonic_increasing
    assert set(frame["label"].str.split(":").str[0]) >= {"language"}


def test_the_finding_is_the_worst_slice_that_is_clear() -> None:
    frame = pd.DataFrame(
        {"label": ["few rows", "many rows", "more"], "difference": [-0.2, -0.1, 0.1], "p_adjusted": [0.4, 0.00002, 0.01]}
    )
    place, words = evidence.finding(frame.assign(clear=frame["p_adjusted"] < 0.05))
    assert (place, words) == (1, "many rows is −0.10 from the rest (p 0.001 corrected for 3 looks)")
    assert evidence.finding(frame.assign(clear=False)) == (0, "No slice is clearly apart from the rest")


def test_seconds_and_prices_stand_beside_the_verdict(
    open_page: Callable[..., AppTest], filled: Filled, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TUNEWISE_PRICE_IN", "10")
    monkeypatch.setenv("TUNEWISE_PRICE_OUT", "50")
    app = open_page(COMPARE, dataset=filled.dataset, compare_view="Scores and costs")
    check(app)
    assert "Half of the rows took fine-tune up to 0.40 s" in shown(app)
    table = next(f.value for f in app.dataframe if "score" in f.value.columns).set_index("score")
    assert table.loc["Seconds a row, median ↓", "fine-tune"] == "0.40 [0.40, 0.40]"
    assert table.loc["Seconds a row, 95 % of rows within ↓", "prompt alone"] == "0.40 [0.40, 0.40]"
    assert table.loc["Tokens a second, of a row ↑", "fine-tune"] == "60.0"  # 24 tokens in 0.4 s
    assert table.loc["1,000 requests cost ↓", "fine-tune"] == "1.80"  # 60 tokens in, 24 out
    assert "timed on a processor, 2 cores, here" in shown(app)


def test_a_suspicious_gold_answer_is_fixed_as_a_step(open_page: Callable[..., AppTest], filled: Filled) -> None:
    app = open_page(METRICS, metrics_view="Suspicious gold")
    check(app)
    if "looks wrong" not in shown(app) and "look wrong" not in shown(app):
        pytest.fail("no suspect shown")
    before = len(list_versions(filled.dataset))
    row = next(a for a in app.text_area if a.key.startswith("suspect_answer_"))
    row.set_value(json.dumps({"person": ["王建国"]}, ensure_ascii=False))
    app.button(key="suspect_fix").click().run()
    check(app)
    assert len(list_versions(filled.dataset)) == before + 1
    ledger = read_ledger(filled.dataset).to_pylist()
    assert [entry["reason"] for entry in ledger] == ["gold answer mended after evaluation"]
    app.button(key="suspects_rescore").click().run()
    check(app)
    again = [e for e in list_evaluations() if e.version == before + 1]
    assert len(again) == 2
    assert all(e.complete for e in again)
    table = next(f.value for f in app.dataframe if "micro_f1_after" in f.value.columns)
    (base,) = [e for e in again if e.name.startswith("prompt alone")]
    line = table.set_index("evaluation").loc["prompt alone"]
    assert line["micro_f1_after"].startswith(f"{base.scores['micro']['f1']:.2f} [")
    assert line["micro_f1_before"].startswith(f"{get_evaluation(filled.base).scores['micro']['f1']:.2f} [")
    assert not [b for b in app.button if b.key == "suspects_rescore"]  # nothing is left to score again


def test_a_mended_answer_is_written_as_it_was() -> None:
    tight, spaced = '{"甲方":["云海公司"],"金额":"5 元"}', '{"甲方": ["云海公司"], "金额": "5 元"}'
    assert evidence._written(spaced, '{"甲方":"海蓝公司"}') == tight
    assert evidence._written(tight, '{"甲方": "海蓝公司"}') == spaced
    assert evidence._written(spaced, "{}") == spaced
    assert evidence._written("no JSON", spaced) == "no JSON"


def test_a_gold_answer_is_fixed_on_compare_and_the_arms_scored_by_it(open_page: Callable[..., AppTest], filled: Filled) -> None:
    app = open_page(COMPARE, dataset=filled.dataset, result="all")
    check(app)
    before = len(list_versions(filled.dataset))
    app.button(key="compare_fix").click().run()
    assert len(list_versions(filled.dataset)) == before  # nothing was changed
    row = next(a for a in app.text_area if a.key.startswith("compare_gold_"))
    row_id = row.key.removeprefix("compare_gold_").rpartition("_")[0]
    row.set_value("no JSON")
    app.button(key="compare_fix").click().run()
    assert any("can't be read" in error.value and "as it was" in error.value for error in app.error)
    row = next(a for a in app.text_area if a.key.startswith("compare_gold_"))
    row.set_value(json.dumps({"person": ["王建国"]}, ensure_ascii=False))
    app.button(key="compare_fix").click().run()
    check(app)
    rows = read_rows(filled.dataset, before + 1).to_pylist()
    assert {r["output"] for r in rows if r["row_id"] == row_id} == {'{"person": ["王建国"]}'}
    assert next(a for a in app.text_area if a.key.startswith("compare_gold_")).value == '{"person": ["王建国"]}'
    app.button(key="suspects_rescore").click().run()
    app.button(key="compare_again").click().run()
    check(app)
    assert [get_evaluation(key).version for key in app.session_state["arms"]] == [before + 1] * 2
    gold = f", by the gold of v{before + 1}"
    verdict = next(text.value for text in app.markdown if f"on 20 rows{gold}" in text.value)
    assert app.header[0].value.startswith("fine-tune answers")
    assert [said.count("gold of") for said in (app.header[0].value, verdict)] == [1, 1]
    assert gold in app.header[0].value
    assert not [b for b in app.button if b.key in ("suspects_rescore", "compare_again")]


def test_an_accepted_answer_is_not_asked_again_until_it_changes(filled: Filled) -> None:
    from core.evaluation.adjudication import suspects

    found = suspects([filled.base, filled.tuned])
    assert decisions.still_open(filled.dataset, found).num_rows == found.num_rows > 0
    first = found.to_pylist()[0]
    decisions.accept(filled.dataset, first["row_id"], first["element"], first["output"])
    assert decisions.still_open(filled.dataset, found).num_rows == found.num_rows - 1
    other = found.to_pylist()[-1]
    decisions.fix(filled.dataset, {other["row_id"]: '{"person": ["x"]}'})
    left = decisions.still_open(filled.dataset, found)
    assert other["row_id"] not in left["row_id"].to_pylist()
    rows = {row["row_id"]: row["output"] for row in read_rows(filled.dataset).to_pylist()}
    assert rows[other["row_id"]] == '{"person": ["x"]}'


@pytest.mark.parametrize(
    ("view", "words"),
    [
        ("How sure", "McNemar"),
        ("Leaked rows", "in the training data"),
        ("Enough data?", "makes no curve"),
        ("Quick A/B", "Try it on 20 rows"),
        ("Another arm", "Answer 20 rows"),
    ],
)
def test_views_of_compare(open_page: Callable[..., AppTest], filled: Filled, view: str, words: str) -> None:
    app = open_page(COMPARE, compare_view=view)
    check(app)
    assert words in shown(app)


def test_rows_of_a_group_are_resampled_together(
    open_page: Callable[..., AppTest], filled: Filled, monkeypatch: pytest.MonkeyPatch
) -> None:
    from core.evaluation import artefacts

    row_ids = artefacts.read_predictions(filled.base, ("row_id",))["row_id"].to_pylist()
    documents = {row_id: f"d{n // 3}" for n, row_id in enumerate(row_ids)}
    monkeypatch.setattr("pages.ui.sureness.group_columns", lambda evaluation: {"document": documents})
    app = open_page(COMPARE, dataset=filled.dataset, compare_view="How sure")
    check(app)
    assert "By whole groups" not in shown(app)
    app.selectbox(key="compare_group").select("document").run()
    check(app)
    assert "**By whole groups**: " in shown(app)
    assert "whole groups of rows: 7 of them. So few groups make intervals too narrow" in shown(app)


def test_quick_ab_queues_the_prompt_and_takes_the_finished_arm(
    open_page: Callable[..., AppTest], filled: Filled, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("core.jobs.queue", "pages.ui.states"):
        monkeypatch.setattr(f"{module}.dispatch", lambda: None)
    before = {e.evaluation_id for e in list_evaluations()}
    app = open_page(COMPARE, compare_view="Quick A/B")
    next(a for a in app.text_area if a.key.startswith("ab_user_")).set_value("Who? {{ input }}")
    app.button(key="ab_start").click().run()
    check(app)
    (new,) = {e.evaluation_id for e in list_evaluations()} - before
    made = get_evaluation(new)
    assert (made.template.name, made.template.user, made.spec.limit) == ("quick", "Who? {{ input }}", 20)
    assert app.session_state["ab_pair"] == [new, filled.tuned]
    assert [job.subject for job in list_jobs(["queued"])] == [new]


def test_arms_keep_the_meaning_of_their_colours() -> None:
    frame = pd.DataFrame(
        [
            {"element": "date", "arm": f"{kind} {n}", "value": 0.5, "kind": kind, "key": f"{kind}-{n}", "low": 0.4, "high": 0.6}
            for kind in ("base", "tuned")
            for n in range(3)
        ]
    )
    colours = [bar.marker.color for bar in figures.element_bars(frame).data]
    assert colours == [*style.SHADES["base"][2], *style.SHADES["tuned"][2]]
    assert len(set(colours)) == 6
    assert not {style.GOLD, style.FAULT} & set(colours)


def test_what_counts_as_unlikely_is_said_and_that_few_rows_cannot_tell(
    open_page: Callable[..., AppTest], filled: Filled, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = shown(open_page(METRICS, metrics_view="Suspicious gold"))
    assert "a perplexity of 2 or more" in said
    assert "3.5 robust deviations" in said
    monkeypatch.setattr(evidence, "LEAST_ROWS", 21)
    assert "20 rows are too few to tell" in shown(open_page(METRICS, metrics_view="Suspicious gold"))


def test_a_cell_opens_all_its_rows_whatever_was_looked_at_before(open_page: Callable[..., AppTest], filled: Filled) -> None:
    app = open_page(COMPARE, dataset=filled.dataset)
    check(app)
    assert app.session_state["result"] == "won"  # among all rows, those that were gained
    app.selectbox(key="before").set_value("correct")
    app.selectbox(key="after").set_value("correct").run()
    check(app)
    assert app.session_state["result"] == "all"
    frame = next(f.value for f in app.dataframe if "change" in f.value.columns)
    told = next(text for text in texts(app) if " rows: " in text and " unchanged" in text)
    assert told.startswith(f":gray[{len(frame)} rows: ")
    app.session_state["result"] = "lost"  # chosen among these rows, it stays while they do
    app.run()
    assert app.session_state["result"] == "lost"
    app.selectbox(key="after").set_value(None).run()
    assert app.session_state["result"] == "all"


def test_an_element_that_stands_twice_keeps_both_values_when_gold_is_mended() -> None:
    assert evidence._written('{"a":"x",  "b": 1}', '{"a": "z"}') == '{"a": "x", "b": 1}'
    assert evidence._written('{"a": "x", "a": "y"}', '{"a":"z"}') == '{"a": "x", "a": "y"}'


def test_suspicious_gold_is_that_of_the_evaluation_that_is_looked_into(open_page: Callable[..., AppTest], filled: Filled) -> None:
    for n in range(3):
        make_evaluation(filled.version, None, f"later {n}", keep=3)
    app = open_page(METRICS, metrics_view="Suspicious gold", evaluation=filled.base)
    check(app)
    (told,) = [text for text in texts(app) if "wrong**, by " in text]
    assert "by prompt alone, " in told
