"""Tokens: lengths against a maximum length, one row's tokens with the mask, templates side by side."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from streamlit.testing.v1 import AppTest

from core.figures import budget
from core.models import catalogue
from pages.ui import tokencost
from tests.pages.conftest import check, texts
from tests.pages.filled import fill
from tests.tiny import make_tiny_tokenizer

TOKENS = "pages/2_Tokens.py"
VIEWS = (
    "One row", "Template studio", "Templates side by side", "Tokenizers", "Groups", "Padding and packing", "Longest rows",
)  # fmt: skip
CONFIG = {
    "hidden_size": 64, "num_attention_heads": 4, "num_hidden_layers": 2, "intermediate_size": 128, "vocab_size": 512,
}  # fmt: skip


@pytest.fixture
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A tiny model in the place of the default one, so that no cache is needed."""
    folder = make_tiny_tokenizer(tmp_path / "tiny")
    (folder / "config.json").write_text(json.dumps(CONFIG))
    monkeypatch.setattr(tokencost, "resolve", lambda ref: folder)
    monkeypatch.setattr(catalogue, "default_model_path", lambda progress=None: folder)
    return folder


def test_empty(open_page: Callable[..., AppTest]) -> None:
    app = open_page(TOKENS)
    check(app)
    assert "How long your rows are" in app.header[0].value


def test_all_fit_and_too_short(open_page: Callable[..., AppTest], tmp_path: Path, small: Path) -> None:
    fill(tmp_path, evaluations=False)
    app = open_page(TOKENS)
    check(app)
    assert "60 rows fit in" in app.header[0].value
    app.select_slider(key="max_length").set_value(64).run()
    assert "would be left out" in app.header[0].value or app.header[0].value.startswith("All 60 rows fit in 64")
    assert app.button(key="tokens_train").label == "Train with max length 64"


@pytest.mark.parametrize("view", VIEWS)
def test_views(open_page: Callable[..., AppTest], tmp_path: Path, small: Path, view: str) -> None:
    fill(tmp_path, evaluations=False)
    app = open_page(TOKENS, tokens_view=view)
    check(app)
    if view == "One row":
        assert any('class="learnt' in html.value and 'class="given' in html.value for html in app.html)
        assert any("are learnt" in text for text in texts(app))
    if view == "Templates side by side":
        assert len([text for text in texts(app) if text.startswith("**chat")]) >= 1


def test_a_model_that_is_none_is_told(open_page: Callable[..., AppTest], tmp_path: Path) -> None:
    fill(tmp_path, evaluations=False)
    app = open_page(TOKENS, model=str(tmp_path / "nothing"))
    assert not app.exception
    assert any("There is no folder" in error.value for error in app.error)


@given(st.lists(st.integers(1, 5000), min_size=1), st.floats(0.5, 1.0))
def test_a_sound_length_holds_its_share(lengths: list[int], share: float) -> None:
    limit = budget.sound(lengths, share)
    assert sum(length <= limit for length in lengths) >= share * len(lengths)
