"""Sliding perplexity: every token is judged once, and the number is that of a plain loop over the model's loss."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.errors import SpecError
from core.evaluation.sliding import text_perplexity, windows
from core.records import ModelRef

TEXTS = ("张三 住在 Oslo1，于2021年离开。" * 6, "The hearing goes on in Oslo2 until May. " * 5, "a")


@given(st.integers(0, 300), st.integers(2, 40), st.data())
def test_every_token_but_the_first_is_judged_once(length: int, window: int, data: st.DataObject) -> None:
    stride = data.draw(st.integers(1, window - 1))
    found = list(windows(length, window, stride))
    assert [n for part in found for n in range(part.judged, part.end)] == list(range(1, length))
    for n, part in enumerate(found):
        assert 0 <= part.start < part.judged < part.end <= length
        assert part.end - part.start <= window
        assert n == 0 or part.end - part.judged <= stride
        assert n == 0 or part.judged - part.start >= window - stride


def test_a_stride_must_fit_its_window() -> None:
    for stride in (0, 8, 9):
        with pytest.raises(SpecError, match="doesn't fit"):
            list(windows(10, 8, stride))


def test_it_is_a_plain_loop_over_the_models_loss(tmp_path: Path) -> None:
    import torch

    from core.models.engine import Engine
    from core.models.load import load_model
    from tests.tiny import make_tiny_model

    loaded = load_model(ModelRef(source="path", name=str(make_tiny_model(tmp_path)), dtype="float32"), device="cpu")
    with Engine(loaded) as engine:
        found = text_perplexity(TEXTS, engine, window=24, stride=7)
        assert "window:24|stride:7" in found["signature"]
        begin = loaded.tokenizer.bos_token_id
        nll, tokens = 0.0, 0
        for text in TEXTS:
            ids = loaded.tokenizer(text, add_special_tokens=False)["input_ids"]
            ids = [begin, *ids] if begin is not None else ids
            last = 1
            for start in range(0, len(ids), 7):  # the loop of transformers' guide on perplexity
                end = min(start + 24, len(ids))
                labels = torch.tensor([ids[start:end]])
                labels[0, : max(last, 1) - start] = -100
                if end > last:
                    with torch.inference_mode():
                        loss = loaded.model(input_ids=torch.tensor([ids[start:end]]), labels=labels).loss
                    nll += float(loss) * (end - last)
                    tokens += end - last
                last = max(last, end)
                if end == len(ids):
                    break
        assert found["tokens"] == tokens
        assert found["perplexity"] == pytest.approx(math.exp(nll / tokens), rel=1e-6)
        assert found["interval"][0] < found["perplexity"] < found["interval"][1]
        assert text_perplexity(TEXTS, engine, window=24, stride=23)["perplexity"] != found["perplexity"]
        with pytest.raises(SpecError, match="no token"):
            text_perplexity([""], engine, window=24, stride=7)
        with pytest.raises(SpecError, match="reads fewer"):
            text_perplexity(TEXTS, engine, window=engine.context, stride=7)
