"""Tokens: lengths against a maximum length, one row's tokens with the mask, templates side by side."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from streamlit.testing.v1 import AppTest

from core.figures import budget
from core.models import catalogue
from pages.ui import marks
from tests.pages.conftest import check, texts
from tests.pages.filled import fill
from tests.tiny import make_tiny_tokenizer

TOKENS = "pages/2_Tokens.py"


@pytest.fixture
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A tiny model in the place of the default one, so that no cache is needed."""
    folder = make_tiny_tokenizer(tmp_path / "tiny")
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


@pytest.mark.parametrize("view", ["One row", "Templates side by side", "Padding and packing", "Longest rows"])
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


@given(st.lists(st.integers(1, 300), min_size=1, max_size=60), st.integers(300, 512), st.integers(1, 9))
def test_batches_and_packing_lose_no_token(lengths: list[int], limit: int, size: int) -> None:
    found = np.array(lengths)
    tokens, padding = budget.packed(found, limit)
    assert tokens == sum(lengths)
    assert (tokens + padding) % limit == 0
    shuffled, by_length = budget.padded(found, size), budget.padded(found, size, sort=True)
    assert shuffled[0] == by_length[0] == tokens
    assert by_length[1] >= 0


@given(st.lists(st.integers(1, 5000), min_size=1), st.floats(0.5, 1.0))
def test_a_sound_length_holds_its_share(lengths: list[int], share: float) -> None:
    limit = budget.sound(lengths, share)
    assert sum(length <= limit for length in lengths) >= share * len(lengths)


def test_pieces_join_the_tokens_of_one_character() -> None:
    text = "a中b".encode()
    made = marks.pieces(list(text), [-100, -100, -100, -100, 1], lambda ids: bytes(ids).decode("utf-8", "replace"))
    assert [(piece.text, piece.tokens, piece.learnt) for piece in made] == [("a", 1, False), ("中", 3, False), ("b", 1, True)]
