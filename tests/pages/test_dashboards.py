"""Confusions, filters, trends over versions, exports, rows of a cell: what Metrics and Compare say is what the frames hold."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from streamlit.testing.v1 import AppTest

from core.data.importing import import_file
from core.evaluation import decisions, transitions
from core.evaluation.compare import compare
from core.evaluation.rescore import import_predictions, rescore
from core.evaluation.runner import finish
from core.figures import evaluation as figures
from core.figures import matrices, tidy, tidy_rows
from core.prompts.templates import find_template
from core.records import Arm, Evaluation, EvaluationSpec, new_id
from core.store.datasets import get_dataset, read_rows
from core.store.runs import get_evaluation, list_evaluations, list_runs
from pages.ui import charts, leaderboard
from tests.browser.prepared import answers_table
from tests.pages.conftest import check, texts
from tests.pages.filled import Filled, fill

METRICS, COMPARE = "pages/6_Metrics.py", "pages/5_Compare.py"
SAID = ["refund", "refund", "none of them", "greeting", "refund", "order"]
GOLD = ["refund", "order", "order", "greeting", "greeting", "order"]


@pytest.fixture
def filled(tmp_path: Path) -> Filled:
    return fill(tmp_path)


@pytest.fixture
def labelled(tmp_path: Path) -> Evaluation:
    """Six rows of three intents: three right, two confused, one without a label."""
    path = tmp_path / "intents.csv"
    pd.DataFrame(
        {"instruction": "Which intent?", "input": [f"text {n}" for n in range(6)], "output": GOLD, "split": "test"}
    ).to_csv(path, index=False)
    import_file(path, "intents", task="classification", elements=("refund", "order", "greeting"))
    return answered("by hand", SAID)


def answered(name: str, said: list[str]) -> Evaluation:
    """An evaluation of the intents in which these labels were said."""
    spec = EvaluationSpec(dataset="intents", version=1, split="test", arm=Arm(name=name))
    record = Evaluation(
        evaluation_id=new_id("evaluation"), name=name, spec=spec, task="classification", version=1,
        elements=get_dataset("intents").elements, template=find_template("chat"),
    )  # fmt: skip
    return finish(record, answers_table(read_rows("intents"), said, {}))


def test_confusions_and_their_rows(labelled: Evaluation) -> None:
    frame = tidy_rows.confusion(labelled)
    cells = {(line.gold, line.predicted): line.rows for line in frame.itertuples() if line.rows}
    assert cells == {
        ("refund", "refund"): 1, ("order", "refund"): 1, ("order", tidy_rows.NO_LABEL): 1, ("order", "order"): 1,
        ("greeting", "greeting"): 1, ("greeting", "refund"): 1,
    }  # fmt: skip
    found = tidy_rows.answers(labelled)
    assert found["label"].tolist() == ["refund", "refund", tidy_rows.NO_LABEL, "greeting", "refund", "order"]
    assert found["gold_label"].tolist() == GOLD
    assert found["errors"].tolist() == [0, 1, 1, 0, 1, 0]
    assert found["kinds"].tolist() == [(), ("wrong_label",), ("no_label",), (), ("wrong_label",), ()]
    made = matrices.confusion(frame, gold=["refund", "order", "greeting"], predicted=["refund", "order", "greeting"])
    assert sum(int(text) for text in made.data[0].text) == 6


@pytest.mark.parametrize(
    "view", ["By label", "Confusion", "Slices", "Trends", "Training", "Lengths", "Rows", "How it was counted"]
)
def test_views_of_a_classification(open_page: Callable[..., AppTest], labelled: Evaluation, view: str) -> None:
    app = open_page(METRICS, metrics_view=view)
    check(app)
    assert "by hand reaches Accuracy 0.50" in app.header[0].value
    if view == "Rows":
        app.selectbox(key="rows_kind").set_value("no_label").run()
        check(app)
        rows = next(f.value for f in app.dataframe if "said" in f.value.columns)
        assert rows["prediction"].tolist() == ["none of them"]


def test_what_is_looked_into_is_in_the_address_and_leads_the_views(open_page: Callable[..., AppTest], filled: Filled) -> None:
    app = open_page(METRICS, metrics_view="Rows")
    assert app.selectbox(key="evaluation").value == filled.tuned
    app.selectbox(key="evaluation").set_value(filled.base).run()
    check(app)
    assert any("Rows of **prompt alone**" in text for text in texts(app))
    app = open_page(METRICS, evaluation="evaluation-that-is-gone")
    check(app)
    assert app.selectbox(key="evaluation").value == filled.tuned


def test_a_comparison_without_elements_has_no_empty_half(open_page: Callable[..., AppTest], labelled: Evaluation) -> None:
    right = answered("all right", GOLD)
    app = open_page(COMPARE, dataset="intents", arms=[labelled.evaluation_id, right.evaluation_id])
    check(app)
    assert app.header[0].value.startswith("all right reaches Accuracy 1.00 against 0.50 by by hand: +0.50\N{NO-BREAK SPACE}[")
    heads = [head.value for head in app.subheader]
    assert "Where they differ" in heads
    assert "What became of each value" not in heads


def test_ranking_begins_with_the_metric_of_the_chosen_dataset(
    open_page: Callable[..., AppTest], filled: Filled, labelled: Evaluation
) -> None:
    for dataset, metric in ((filled.dataset, "micro_f1"), ("intents", "accuracy")):
        app = open_page(METRICS, dataset=dataset)
        check(app)
        assert app.selectbox(key="metric").value == metric


def test_trends_along_versions_runs_and_time(filled: Filled) -> None:
    table = read_rows(filled.dataset, split="test")
    decisions.fix(filled.dataset, {table["row_id"][1].as_py(): '{"person": ["x"]}'})
    for key in (filled.base, filled.tuned):
        rescore(key)
    runs = list_runs()
    frame = tidy.evaluations(list_evaluations(), runs)
    along = tidy.trend(frame, "micro_f1", "version", runs)
    assert along.groupby("group")["at"].agg(list).tolist() == [["v1", "v2"]] * 2
    assert set(along["group"]) == {"notices · lora-r16", "notices · prompt alone"}
    assert tidy.trend(frame, "micro_f1", "run", runs)["group"].nunique() == 2  # one a version
    assert sorted(tidy.trend(frame, "micro_f1", "time", runs)["place"]) == [0, 1, 2, 3]
    assert (along["low"] <= along["value"]).all()
    assert (along["value"] <= along["high"]).all()


def test_a_trend_is_of_one_way_to_answer_the_same_rows(filled: Filled) -> None:
    first = get_evaluation(filled.base)
    arm = first.spec.arm
    others = {
        "zero shot, another model": {"arm": arm.model_copy(update={"model": arm.model.model_copy(update={"name": "other"})})},
        "kept to JSON": {"arm": arm.model_copy(update={"constrained": True})},
        "on dev": {"split": "dev"},
    }
    records = [first] + [
        first.model_copy(update={"evaluation_id": name, "spec": first.spec.model_copy(update=changes)})
        for name, changes in others.items()
    ]
    along = tidy.trend(tidy.evaluations(records), "micro_f1", "version")
    assert len(along) == along["group"].nunique() == 4  # none hides another as an older point of its line
    assert set(along["group"]) == {
        "notices · prompt alone · other",
        f"notices · prompt alone · {arm.model.label} · dev",
        f"notices · prompt alone · {arm.model.label} · test",
        f"notices · prompt alone · {arm.model.label} · test · kept to JSON",
    }


def test_scores_on_other_rows_of_a_dataset_are_told_and_not_drawn_side_by_side(filled: Filled) -> None:
    first, second = get_evaluation(filled.base), get_evaluation(filled.tuned)

    def told(*records: Evaluation) -> str:
        frame = tidy.evaluations(records)
        return leaderboard.sentence(frame, tidy.ranked(frame, "micro_f1"), "micro_f1")[1]

    few = second.model_copy(update={"evaluation_id": "few", "rows": 7})
    dev = second.model_copy(update={"evaluation_id": "dev", "spec": second.spec.model_copy(update={"split": "dev"})})
    most = second.model_copy(update={"evaluation_id": "most", "rows": 19})
    assert "rows" not in told(first, second).replace("evaluations", "")
    assert f"They answered 7 to {first.rows} rows: Compare" in told(first, few)
    assert "rows of dev and test" in told(first, dev)
    everything = [first, second, few, dev, most]
    ranked = tidy.ranked(tidy.evaluations(everything), "micro_f1")
    assert {e.evaluation_id for e in leaderboard.peers(first, everything, ranked)} == {filled.base, filled.tuned, "most"}


def test_lengths_and_likelihoods_cover_every_row(filled: Filled) -> None:
    record = get_evaluation(filled.tuned)
    bins = tidy_rows.length_bins([record])
    assert bins["rows"].sum() == record.rows
    gold = tidy_rows.lengths(record)["gold"]
    assert [gold.between(first, last).sum() for first, last in zip(bins["first"], bins["last"], strict=True)] == list(
        bins["rows"]
    )
    assert (bins["gold"] * bins["rows"]).sum() == pytest.approx(gold.sum())
    likely = tidy_rows.likelihoods([record])
    assert len(likely) == record.rows
    assert likely["perplexity"].median() == pytest.approx(record.scores["perplexity"], rel=1e-9)  # all rows are alike here


def test_rows_of_a_cell_and_of_an_element_that_changed(open_page: Callable[..., AppTest], filled: Filled) -> None:
    found = compare([filled.base, filled.tuned])
    moves = found.versus[0].moves
    cell = transitions.rows_behind(moves, "missed", "correct")
    changed = transitions.rows_behind(moves, element="date")
    expected = {
        line["row_id"] for line in moves.to_pylist() if line["element"] == "date" and line["left_kind"] != line["right_kind"]
    }
    assert set(changed) == expected
    assert 0 < len(changed) < found.rows
    app = open_page(COMPARE)
    app.selectbox(key="before").set_value("missed").run()
    app.selectbox(key="after").set_value("correct").run()
    check(app)
    shown = next(f.value for f in app.dataframe if "change" in f.value.columns)
    assert set(shown["row_id"]) == set(cell) != set()


@pytest.mark.parametrize(("metric", "best"), [("micro_f1", 1), ("perplexity", 0)])
def test_the_best_come_first_whichever_way_is_better(filled: Filled, metric: str, best: int) -> None:
    ranked = tidy.ranked(tidy.evaluations(list_evaluations()[::-1]), metric)
    assert ranked["key"].iloc[0] == (filled.base, filled.tuned)[best]


def test_equal_names_are_told_apart(filled: Filled) -> None:
    records = [get_evaluation(filled.base), get_evaluation(filled.tuned)]
    same = [e.model_copy(update={"name": "same"}) for e in records]
    assert len(set(leaderboard.unique_names(same).values())) == 2
    assert list(leaderboard.unique_names(records).values()) == ["prompt alone", "fine-tune"]
    given = [e.model_copy(update={"name": f"{e.spec.dataset} {e.spec.split}: {e.name}"}) for e in records]
    assert list(leaderboard.unique_names(given).values()) == ["prompt alone", "fine-tune"]
    elsewhere = given[0].spec.model_copy(update={"split": "dev"})
    given[0] = given[0].model_copy(update={"spec": elsewhere})
    assert list(leaderboard.unique_names(given).values()) == [e.name for e in given]


def test_exports_hold_the_numbers_and_need_no_network() -> None:
    table = pd.DataFrame({"name": ["=1+1", "王"], "value": [0.25, None]})
    pd.testing.assert_frame_equal(pd.read_parquet(io.BytesIO(charts.to_parquet(table))), table)
    assert b"'=1+1" in charts.to_csv(table)
    made = figures.leaderboard(
        pd.DataFrame([{"name": "a", "value": 0.5, "low": 0.4, "high": 0.6, "kind": "base", "key": "k"}]), metric="F1"
    )
    page = charts.to_html(made, "Scores <of> arms").decode()
    assert "<title>Scores &lt;of&gt; arms</title>" in page
    assert "src=" not in page[: page.index("Plotly.newPlot")].split("<script", 1)[0]
    assert 'src="http' not in page


def test_no_element_is_called_weakest_where_all_are_alike(
    open_page: Callable[..., AppTest], filled: Filled, tmp_path: Path
) -> None:
    path = tmp_path / "perfect.jsonl"
    rows = read_rows(filled.dataset, split="test").to_pylist()
    path.write_text("".join(json.dumps({"row_id": r["row_id"], "prediction": r["output"]}) + "\n" for r in rows), "utf-8")
    perfect = import_predictions(path, filled.dataset)
    titles = []
    for key in (perfect.evaluation_id, filled.base):
        app = open_page(METRICS, metrics_view="By element", evaluation=key)
        check(app)
        layouts = [json.loads(chart.proto.spec)["layout"] for chart in app.get("plotly_chart")]
        titles += [layout.get("title", {}).get("text", "").replace("<br>", " ") for layout in layouts]
    assert any("Every element of perfect has F1 1.00" in title for title in titles)
    assert any("is the weakest element of prompt alone" in title for title in titles)
