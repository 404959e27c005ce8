"""The panel of the Chat page: starting, the key in its own session only, stopping; the processes are stood in for."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from core.jobs.processes import process_start
from core.prompts.templates import find_template
from core.records import DatasetUse, Run, TrainSpec
from core.serving import registry
from core.serving.registry import Launched, Server, note
from core.store.runs import save_run

HERE = Server(os.getpid(), process_start(os.getpid()) or 0.0, "127.0.0.1", 8123, ("tuned", "base"), ("run-1",), "抽取要素")
LAUNCHED = Launched(os.getpid(), HERE.started, "tw-the-key")


def script() -> None:
    from core.store.runs import list_runs
    from pages.ui.servepanel import panel

    panel([None, *list_runs()])


@pytest.fixture
def app(monkeypatch: pytest.MonkeyPatch) -> Callable[[], AppTest]:
    monkeypatch.setattr(registry, "health", lambda *_: "ok")
    monkeypatch.setattr(registry, "launch", lambda run, also: LAUNCHED)
    spec = TrainSpec(data=(DatasetUse(dataset="d"),))
    save_run(Run(run_id="run-1", name="tuned", spec=spec, template=find_template("chat"), complete=True))
    return lambda: AppTest.from_function(script, default_timeout=180)


def words(app: AppTest) -> str:
    assert not app.exception, [e.value for e in app.exception]
    kinds: list[Any] = [*app.markdown, *app.caption, *app.code, *app.error]
    return "\n".join(str(element.value) for element in kinds)


def test_a_server_is_started_and_its_key_is_shown_in_this_session_only(app: Callable[[], AppTest]) -> None:
    mine = app().run()
    assert "Start a server" in [button.label for button in mine.button]
    mine.button(key="serve_start").click().run()
    assert "Loading" in words(mine)
    note(HERE)
    shown = words(mine.run())
    assert "tw-the-key" in shown
    assert "http://127.0.0.1:8123/v1" in shown
    assert "抽取要素" in shown
    other = words(app().run())
    assert "tw-the-key" not in other
    assert HERE.url in other


def test_a_server_that_fails_says_why(app: Callable[[], AppTest], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "launch", lambda run, also: replace(LAUNCHED, pid=2**22 + 1))
    monkeypatch.setattr(registry, "log_tail", lambda pid, lines=50: "Error: No room for it\nHint: Make some.\n")
    shown = app().run()
    shown.button(key="serve_start").click().run()
    assert "No room for it" in words(shown)
    assert "Make some." in words(shown)


def test_a_server_is_stopped(app: Callable[[], AppTest], monkeypatch: pytest.MonkeyPatch) -> None:
    stopped: list[Server] = []

    def stop(server: Server) -> None:
        stopped.append(server)
        registry.forget(server)

    monkeypatch.setattr(registry, "stop_server", stop)
    note(HERE)
    shown = app().run()
    assert "serve_start" not in [button.key for button in shown.button]  # it is served already
    shown.button(key=f"serve_stop_{HERE.pid}").click().run()
    assert stopped == [HERE]
    assert "serve_start" in [button.key for button in shown.button]


def test_a_server_of_another_run_is_listed_beside_the_button(app: Callable[[], AppTest]) -> None:
    note(replace(HERE, runs=("run-2",)))
    shown = app().run()
    assert {"serve_start", f"serve_stop_{HERE.pid}"} <= {button.key for button in shown.button}
