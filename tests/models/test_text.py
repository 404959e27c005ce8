"""Pieces of text put together are the whole text, no piece ends in half a character, and stop strings never show."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from core.models.text import TextStream, stop_tokens
from core.models.tokenizer import tokenizer_in
from tests.tiny import SPECIAL, make_tiny_tokenizer


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory):  # type: ignore[no-untyped-def]
    return tokenizer_in(make_tiny_tokenizer(tmp_path_factory.mktemp("tiny")))


def run(tokenizer, ids: list[int], stop: tuple[str, ...] = ()) -> tuple[list[str], TextStream]:  # type: ignore[no-untyped-def]
    stream = TextStream(tokenizer, stop)
    pieces = []
    for token in ids:
        pieces.append(stream.push(token))
        if stream.stopped:
            break
    return [*pieces, stream.finish()], stream


@settings(max_examples=150, deadline=None)
@given(text=st.text(alphabet=st.one_of(st.characters(codec="utf-8"), st.sampled_from("张三于2021年\U0001f600 é")), max_size=40))
def test_whole_characters_and_the_whole_text(tokenizer: Path, text: str) -> None:
    assume(not any(special in text for special in SPECIAL))  # they never show
    ids = tokenizer(text, add_special_tokens=False).input_ids  # type: ignore[operator]
    pieces, stream = run(tokenizer, ids)
    assert "".join(pieces) == stream.text == text
    if "\ufffd" not in text:
        assert all("\ufffd" not in piece for piece in pieces)


@settings(max_examples=100, deadline=None)
@given(ids=st.lists(st.integers(min_value=3, max_value=500), max_size=40))
def test_any_tokens_give_what_decoding_them_at_once_gives(tokenizer: Path, ids: list[int]) -> None:
    pieces, _ = run(tokenizer, ids)
    assert "".join(pieces) == tokenizer.decode(ids, skip_special_tokens=True)  # type: ignore[attr-defined]
    late = TextStream(tokenizer, ["<|im_end|>"])  # type: ignore[arg-type]
    assert late.lazy
    for token in ids:
        late.put(token)
    assert late.finish() == late.text == "".join(pieces)


@settings(max_examples=150, deadline=None)
@given(
    text=st.text(alphabet="ab<eoa>\n张", max_size=30),
    stop=st.lists(st.text(alphabet="ab<eoa>", min_size=1, max_size=5), max_size=3),
)
def test_the_text_ends_before_the_first_stop_string(tokenizer: Path, text: str, stop: list[str]) -> None:
    pieces, stream = run(tokenizer, tokenizer(text, add_special_tokens=False).input_ids, tuple(stop))  # type: ignore[operator]
    found = [text.index(s) for s in stop if s in text]
    if not found:
        assert "".join(pieces) == text
        assert not stream.stopped
    else:
        assert stream.stopped
        assert text.startswith("".join(pieces))
        assert not any(s in "".join(pieces) for s in stop)


def test_only_what_no_text_can_stop_is_decoded_late(tokenizer: Path) -> None:
    assert TextStream(tokenizer).lazy  # type: ignore[arg-type]
    assert not TextStream(tokenizer, ["<|im_end|>", "\n\n"]).lazy  # type: ignore[arg-type]


def test_special_tokens_are_stops_by_number_and_never_text(tokenizer: Path) -> None:
    end = tokenizer.convert_tokens_to_ids("<|im_end|>")  # type: ignore[attr-defined]
    assert stop_tokens(tokenizer, ["<|im_end|>\n", "<eoa>"]) == {end}  # type: ignore[arg-type]
    pieces, _ = run(tokenizer, [*tokenizer("a").input_ids, end, *tokenizer("b").input_ids])  # type: ignore[operator]
    assert "".join(pieces) == "ab"
