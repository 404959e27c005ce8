"""Home: an empty workspace offers two ways in; a filled one says where one stands and what comes next."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from streamlit.testing.v1 import AppTest

from core.data import recipes
from core.evaluation import decisions
from core.evaluation.rescore import rescore
from core.lengths import measure
from core.prompts.templates import find_template
from core.records import ModelRef, Step
from core.store.datasets import list_datasets, read_rows
from core.store.jobs import add_job, change_job
from core.store.runs import get_evaluation
from pages.ui import home
from tests.pages.conftest import check, texts
from tests.pages.filled import fill


def test_empty(open_page: Callable[..., AppTest]) -> None:
    app = open_page()
    check(app)
    assert "prompt enough" in app.header[0].value
    assert [button.label for button in app.button] == ["Open the sample", "Import a file"]


def test_open_the_sample_brings_the_samples_in_and_shows_them(open_page: Callable[..., AppTest]) -> None:
    app = open_page()
    app.button(key="empty_home").click().run()
    assert not app.exception
    assert {"samples", "samples-intents", "samples-chat"} <= {dataset.name for dataset in list_datasets()}


def test_filled(open_page: Callable[..., AppTest], tmp_path: Path) -> None:
    fill(tmp_path)
    app = open_page()
    check(app)
    assert app.header[0].value == "2 of 5 steps are taken for notices; next: look at the data."
    assert app.button(key="home_next").label == "Look at the data"
    assert {"Data", "Lengths", "Train", "Compare", "Chat"} <= {button.label for button in app.button}
    assert any(sub.value == "Last results on notices v1, test" for sub in app.subheader)
    assert any("GPU" in html.value for html in app.html)


def test_a_running_job_is_shown_with_rate_and_time_left(open_page: Callable[..., AppTest], tmp_path: Path) -> None:
    import os

    import psutil

    from core.records import Progress, now

    fill(tmp_path, evaluations=False)
    job = add_job("train", {}, title="Train slow-one")
    change_job(
        job.job_id, state="running", pid=os.getpid(), pid_started=psutil.Process().create_time(),
        heartbeat=now(), started_at=now(),
        progress=Progress(done=30, total=120, unit="steps", rate=2.0, eta_seconds=45.0),
    )  # fmt: skip
    app = open_page()
    assert not app.exception
    assert any("30 of 120 steps · 2.00 steps/s · 45 s left" in str(bar.text) for bar in app.progress)
    assert any("Train slow-one" in text for text in texts(app))


def words_of(app: AppTest) -> str:
    return "\n".join(texts(app))


def test_lengths_counted_for_an_earlier_version_are_said_and_not_asked_again(
    open_page: Callable[..., AppTest], tmp_path: Path
) -> None:
    made = fill(tmp_path)
    [row_id] = read_rows(made.dataset)["row_id"].to_pylist()[:1]
    decisions.fix(made.dataset, {row_id: '{"person": ["x"]}'})
    assert "Not measured yet" in words_of(open_page())
    app = open_page(template="chat@1")
    measure(made.dataset, made.version, find_template("chat@1"), ModelRef())
    app.run()
    check(app)
    assert f"Measured on v{made.version}, not yet on v{made.version + 1}" in words_of(app)
    assert app.button(key="home_next").label != "Measure the lengths"
    app.selectbox(key="template").set_value("json-en@1").run()
    assert "Not measured yet" in words_of(app)  # counted with another template
    app.selectbox(key="template").set_value("chat@1").run()
    measure(made.dataset, made.version + 1, find_template("json-en@1"), ModelRef())
    app.run()
    assert "Measured" in {caption.value for caption in app.caption}


def test_steps_that_changed_nothing_are_told_from_those_that_did(open_page: Callable[..., AppTest], tmp_path: Path) -> None:
    made = fill(tmp_path)
    recipes.apply(made.dataset, [Step(op="strip_markup"), Step(op="strip_markup")])
    assert "after 2 steps, 1 of which changed something" in words_of(open_page())


def test_results_by_other_gold_are_named_and_do_not_stand_beside_the_last(
    open_page: Callable[..., AppTest], tmp_path: Path
) -> None:
    made = fill(tmp_path)
    [row_id] = read_rows(made.dataset, split="test")["row_id"].to_pylist()[:1]
    decisions.fix(made.dataset, {row_id: '{"person": ["x"]}'})
    again = rescore(made.base)
    app = open_page()
    check(app)
    assert [sub.value for sub in app.subheader if "results" in sub.value] == [f"Last results on notices v{again.version}, test"]
    drawn = json.loads(app.get("plotly_chart")[0].proto.spec)["data"]
    assert sum(len(trace["y"]) for trace in drawn) == 1
    assert f"2 evaluations by other gold answers or on other rows (2 on v{made.version}, test)" in words_of(app)


def test_evaluations_on_fewer_rows_say_how_many(tmp_path: Path) -> None:
    made = fill(tmp_path)
    few, many = (get_evaluation(key) for key in (made.base, made.tuned))
    assert set(home._names([few, many]).values()) == {"prompt alone", "fine-tune"}
    named = home._names([few.model_copy(update={"rows": 8}), many])
    assert set(named.values()) == {"prompt alone · 8 rows", "fine-tune · 20 rows"}
    again = few.model_copy(update={"evaluation_id": "evaluation-again", "name": "prompt alone, gold of v1"})
    assert set(home._names([again, many]).values()) == {"prompt alone", "fine-tune"}
    assert set(home._names([again, few]).values()) == {"prompt alone", "prompt alone, gold of v1"}
