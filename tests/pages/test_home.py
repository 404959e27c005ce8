"""Home: an empty workspace offers two ways in; a filled one says where one stands and what comes next."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from streamlit.testing.v1 import AppTest

from core.store.datasets import list_datasets
from core.store.jobs import add_job, change_job
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
    assert any("Last results on notices" in sub.value for sub in app.subheader)
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
