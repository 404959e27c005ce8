"""What the tests of pages share: opening a page the way Streamlit does, and what a page must never show."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
import streamlit as st
from streamlit.testing.v1 import AppTest

ROOT = Path(__file__).resolve().parents[2]
HOME = ROOT / "Home.py"
_BAD = re.compile(r"\bnan\b|\bNone\b|\bTraceback\b|\bundefined\b|\binf\b")


@pytest.fixture(autouse=True)
def _no_caches_between_tests() -> None:
    st.cache_data.clear()
    st.cache_resource.clear()


@pytest.fixture
def open_page() -> Callable[..., AppTest]:
    """``open_page("pages/1_Data.py", dataset="notices")`` runs the app, turns to the page and returns it."""

    def opened(path: str = "", **state: str) -> AppTest:
        app = AppTest.from_file(str(HOME), default_timeout=180)
        for key, value in state.items():
            app.session_state[key] = value
        app.run()
        if path:
            app.switch_page(path).run()
        return app

    return opened


def texts(app: AppTest) -> list[str]:
    """Every text that a page shows."""
    kinds = ("header", "subheader", "markdown", "caption", "html", "error", "warning", "button", "metric")
    found = [str(element.value if hasattr(element, "value") else "") for kind in kinds for element in getattr(app, kind)]
    return found + [str(element.label) for element in app.button]


def check(app: AppTest) -> None:
    """No exception, nothing that isn't for readers' eyes, one answer first, one primary action at most."""
    assert not app.exception, [str(e.value) for e in app.exception]
    assert app.header, "no answer sentence"
    bad = [text for text in texts(app) if _BAD.search(re.sub(r"<[^>]+>", " ", text))]
    assert not bad, bad
    assert sum(button.proto.type == "primary" for button in app.button) <= 1
