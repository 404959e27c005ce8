"""Judges, code tasks and texts on Metrics; passages and endpoints in the form of an arm; a learning curve's jobs on Compare."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from core.records import CodeSpec, JudgeSpec, Measurement, ModelRef, NamedEndpoint, TextSpec
from core.store.endpoints import save_endpoint
from core.store.jobs import list_jobs
from core.store.measurements import list_measurements, save_measurement
from core.store.runs import get_evaluation, list_evaluations
from tests.pages.conftest import check, texts
from tests.pages.filled import Filled, fill

METRICS, COMPARE = "pages/6_Metrics.py", "pages/5_Compare.py"


@pytest.fixture
def filled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Filled:
    """A filled workspace whose jobs are queued but not started."""
    monkeypatch.setattr("core.jobs.queue.dispatch", lambda: [])
    monkeypatch.setattr("pages.ui.states.dispatch", lambda: [])
    return fill(tmp_path)


def metrics(open_page: Callable[..., AppTest], kind: str) -> AppTest:
    app = open_page(METRICS, metrics_view="Judges, code, text", other_kind=kind)
    check(app)
    return app


def test_a_judge_is_started(open_page: Callable[..., AppTest], filled: Filled) -> None:
    save_endpoint(NamedEndpoint(name="wise", url="http://127.0.0.1:9/v1", model="m"))
    app = metrics(open_page, "judge")
    app.multiselect(key="judge_evaluations").set_value([filled.base, filled.tuned]).run()
    app.selectbox(key="judge_model").set_value("wise").run()
    app.button(key="other_start").click().run()
    check(app)
    (made,) = list_measurements()
    assert isinstance(made.spec, JudgeSpec)
    assert made.spec.evaluations == (filled.base, filled.tuned)
    assert made.spec.endpoint is not None
    (job,) = [job for job in list_jobs() if job.kind == "measure"]
    assert (job.state, job.device) == ("queued", "network")
    assert any("Measure" in text for text in texts(app))


def test_results_are_read(open_page: Callable[..., AppTest], filled: Filled) -> None:
    judge = JudgeSpec(evaluations=(filled.base, filled.tuned))
    pair = {
        "kind": "pair", "left": 3, "right": 9, "ties": 2, "flips": 1, "first": 0.5, "rate": 0.75, "interval": [0.4, 0.9],
        "p": 0.14, "unreadable": 1, "choices": {"r1": "left", "r2": None}, "names": ["prompt alone", "fine-tune"], "rows": 16,
        "signature": "judge:m|pair", "agreement": {"rows": 5, "equal": 0.8, "kappa": 0.6, "interval": [0.1, 1.0]},
    }  # fmt: skip
    single = {
        "kind": "single", "mean": 3.5, "interval": [3.1, 3.9], "unreadable": 0, "scores": {"r1": 4.0}, "names": ["a"], "rows": 1,
        "signature": "judge:m|single",
    }  # fmt: skip
    code = {
        "tasks": 164, "samples": 164, "pass_at_k": {"1": 0.043}, "intervals": {"1": [0.021, 0.085]},
        "results": {"passed": 7, "AssertionError": 157}, "signature": {"pass_at_k": "unbiased"},
    }  # fmt: skip
    text = {
        "perplexity": 12.5, "interval": None, "tokens": 900, "texts": 1, "bits_per_character": 1.2, "signature": "plain text",
    }  # fmt: skip
    results = [(judge, pair), (judge, single), (CodeSpec(), code), (TextSpec(files=("a.txt",)), text)]
    for n, (spec, result) in enumerate(results):
        save_measurement(Measurement(measurement_id=f"m-{n}", name=f"m{n}", spec=spec, result=result, complete=True))
    said = " ".join(texts(metrics(open_page, "judge")))
    assert "fine-tune better in 9 rows, prompt alone in 3; 2 ties, 1 flip with the order; p 0.14." in said
    assert "mean score 3.50 [3.10, 3.90] of 1 to 5." in said
    assert "Cohen's κ 0.60 [0.10, 1.00]" in said
    assert "pass@1 0.04" in " ".join(texts(metrics(open_page, "code")))
    assert "perplexity 12.50 on 900 tokens." in " ".join(texts(metrics(open_page, "text")))


def test_code_and_text_are_started(open_page: Callable[..., AppTest], filled: Filled, tmp_path: Path) -> None:
    from tests.evaluation.test_measuring import needs_sandbox

    needs_sandbox()
    app = metrics(open_page, "code")
    app.number_input(key="code_limit").set_value(5).run()
    app.button(key="other_start").click().run()
    check(app)
    app = metrics(open_page, "text")
    app.text_area(key="text_files").set_value(str(tmp_path / "none.txt")).run()
    app.button(key="other_start").click().run()
    assert "can't be read" in app.error[0].value
    (tmp_path / "a.txt").write_text("Words of a text.")
    app.text_area(key="text_files").set_value(str(tmp_path / "a.txt")).run()
    app.button(key="other_start").click().run()
    check(app)
    assert [m.spec.kind for m in list_measurements()] == ["text", "code"]
    assert {m.spec.limit for m in list_measurements("code")} == {5}


def test_without_an_evaluation(open_page: Callable[..., AppTest]) -> None:
    app = open_page(METRICS, other_kind="code")
    check(app)
    assert "other_start" in [button.key for button in app.button]


def test_an_arm_with_passages_and_an_endpoint(open_page: Callable[..., AppTest], filled: Filled, tmp_path: Path) -> None:
    save_endpoint(NamedEndpoint(name="wise", url="http://127.0.0.1:9/v1", model="m", price_in=1, price_out=2))
    folder = tmp_path / "docs"
    folder.mkdir()
    (folder / "a.txt").write_text("华远律师事务所位于北京。", "utf-8")
    app = open_page(COMPARE, dataset=filled.dataset, compare_view="Another arm")
    check(app)
    app.selectbox(key="arm_who").set_value("wise · endpoint").run()
    app.text_input(key="arm_folder").set_value(str(folder)).run()
    app.selectbox(key="arm_template").set_value("rag-zh@1").run()
    app.slider(key="arm_shots").set_value(2).run()
    app.selectbox(key="arm_how").set_value("retrieved").run()
    check(app)
    start = app.button(key="arm_start")
    assert start.label == "Answer 20 rows with wise"
    start.click().run()
    check(app)
    arm = list_evaluations()[0].spec.arm
    assert (arm.model, arm.template, arm.shots, arm.shots_how) == (
        ModelRef(source="endpoint", name="wise"), "rag-zh@1", 2, "retrieved",
    )  # fmt: skip
    assert arm.passages is not None
    assert arm.passages.content
    assert arm.endpoint is not None
    assert list_jobs()[-1].device == "network"


def test_a_learning_curve_is_started(open_page: Callable[..., AppTest], filled: Filled, monkeypatch: pytest.MonkeyPatch) -> None:
    queued: list[str] = []
    monkeypatch.setattr("pages.ui.curvejobs.enqueue_curve", queued.append)
    app = open_page(COMPARE, dataset=filled.dataset, compare_view="Enough data?")
    check(app)
    button = app.button(key="enough_train")
    assert button.label == "Train and evaluate on 9 and 18 rows"
    button.click().run()
    check(app)
    assert queued == [get_evaluation(filled.tuned).evaluation_id]


def test_a_curve_says_whether_seeds_are_in_it_and_trains_more(
    open_page: Callable[..., AppTest], filled: Filled, monkeypatch: pytest.MonkeyPatch
) -> None:
    from core.evaluation import artefacts
    from core.evaluation.runner import finish
    from core.store.runs import get_run, save_run

    whole, tuned, base = get_run(filled.run), get_evaluation(filled.tuned), get_evaluation(filled.base)

    def another(name: str, rows: int, seed: int, answers: str) -> None:
        save_run(
            whole.model_copy(
                update={"run_id": name, "trained_rows": rows, "spec": whole.spec.model_copy(update={"seed": seed, "name": name})}
            )
        )
        arm = tuned.spec.arm.model_copy(update={"run": name})
        made = tuned.model_copy(update={"evaluation_id": f"e-{name}", "spec": tuned.spec.model_copy(update={"arm": arm})})
        finish(made, artefacts.read_predictions(answers))

    another("half", 18, 7, base.evaluation_id)
    queued: list[tuple[object, ...]] = []
    monkeypatch.setattr("pages.ui.curvejobs.enqueue_curve", lambda *asked: queued.append(asked))
    app = open_page(COMPARE, dataset=filled.dataset, compare_view="Enough data?", arms=[filled.base, filled.tuned])
    check(app)
    assert any("Each size was trained with one seed" in text for text in texts(app))
    button = app.button(key="enough_seeds")
    assert button.label == "Train each size with 3 seeds: 4 more trainings, about 2 min 24 s of training"
    button.click().run()
    check(app)
    assert queued == [(filled.tuned, [0.5], 3)]
    another("half-8", 18, 8, filled.tuned)
    app = open_page(COMPARE, dataset=filled.dataset, compare_view="Enough data?", arms=[filled.base, filled.tuned])
    check(app)
    assert any("The spread between training seeds is in these intervals" in text for text in texts(app))
    table = next(f.value for f in app.dataframe if "trainings" in f.value.columns)
    assert len(table["trainings"].iloc[0].split(", ")) == 2


def test_an_arm_whose_training_failed_is_shown_with_its_way_out(open_page: Callable[..., AppTest], filled: Filled) -> None:
    from core.jobs import dispatcher, queue
    from core.store.jobs import add_job, change_job, get_job
    from core.store.runs import save_evaluation

    training = add_job("train", {}, title="Train small", subject="run-small")
    change_job(training.job_id, state="failed", error="The disk is full.")
    asking = queue.enqueue("evaluate", title="Evaluate small", subject="evaluation-small", after=training.job_id)
    old = get_evaluation(filled.tuned)
    save_evaluation(
        old.model_copy(
            update={
                "evaluation_id": "evaluation-small",
                "name": "small",
                "complete": False,
                "job_id": asking.job_id,
                "scores": {},
            }
        )
    )
    dispatcher.dispatch()
    app = open_page(COMPARE, dataset=filled.dataset)
    check(app)
    assert any("1 arm without scores" in text and "The disk is full" in text for text in texts(app))
    app.button(key="unfinished_look").click().run()
    check(app)
    assert any("Train small" in element.value for element in app.warning)
    button = app.button(key=f"resume_{asking.job_id}")
    assert button.label == "Take up “Train small” again, and then this"
    button.click().run()
    check(app)
    assert [get_job(job.job_id).state for job in (training, asking)] == ["queued", "queued"]
    assert not any("without scores" in text for text in texts(app))


def test_what_was_retrieved_is_shown(open_page: Callable[..., AppTest], filled: Filled) -> None:
    from core.evaluation.documents import Passage
    from core.evaluation.passages import Retrieved, found_table
    from core.store.files import write_parquet
    from core.store.runs import evaluation_folder, save_evaluation

    told = {
        "documents": 2, "passages": 9, "rows": 20, "with_passages": 18, "withheld_rows": 1, "withheld_passages": 1,
        "text_in_passages": 0,
    }  # fmt: skip
    found = {"r-1": [Retrieved(Passage("加班工资", "劳动", "劳动.txt", 0, 4), 1.5)]}
    for key in (filled.base, filled.tuned):
        evaluation = get_evaluation(key)
        save_evaluation(evaluation.model_copy(update={"scores": {**evaluation.scores, "passages": told}}))
        write_parquet(evaluation_folder(key) / "passages.parquet", found_table(found))
    app = open_page(METRICS, metrics_view="How it was counted")
    check(app)
    said = " ".join(texts(app))
    assert "9 passages of 2 documents; 18 of 20 rows got some. Rows from which a passage was withheld" in said
    assert any("加班工资" in str(frame.value.to_dict()) for frame in app.dataframe)
