"""Looking at a part of a version: totals and their interval, whole where that is quick or done."""

from __future__ import annotations

import numpy as np
import pytest

from core.lengths import sampling
from core.lengths.measuring import measure
from core.lengths.sampling import look
from core.prompts.templates import find_template
from core.records import Dataset, Version
from core.store.datasets import save_version
from tests.prompts.toys import byte_level
from tests.test_lengths import table


@pytest.fixture
def stored(monkeypatch: pytest.MonkeyPatch) -> str:
    """4,000 rows of uneven length."""
    for module in ("measuring", "sampling"):
        monkeypatch.setattr(f"core.lengths.{module}.load_tokenizer", lambda ref: byte_level())
    words = np.random.default_rng(3).lognormal(2, 0.8, 4_000).astype(int)
    rows = table([{"input": "ab " * int(n), "output": "" if n % 5 == 0 else "x"} for n in words])
    save_version(Dataset(name="d"), Version(dataset="d", number=1, rows=4_000, content_hash="h4"), rows)
    return "d"


def test_a_sample_tells_totals_with_an_interval_that_holds_them(stored: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sampling, "AT_ONCE", 1_000)
    monkeypatch.setattr(sampling, "SAMPLE", 800)
    chat, held = find_template("chat"), 0
    real = look(stored, None, chat, every=True)
    assert real.whole
    assert real.figures()["total_error"] == 0
    for seed in range(20):
        monkeypatch.setattr(sampling, "SEED", seed)
        monkeypatch.setattr(sampling, "is_measured", lambda *_: False)
        found = look(stored, None, chat)
        assert not found.whole
        told, true = found.figures(20), real.figures(20)
        held += abs(told["whole"]["total"] - true["whole"]["total"]) <= told["total_error"]
        assert told["rows"] == 4_000
        assert told["over_max_length"] == pytest.approx(true["over_max_length"], rel=0.2)
        assert told["empty_answers"] == pytest.approx(true["empty_answers"], rel=0.3)
    assert held >= 17  # 95 % of 20 are 19; fewer than 17 come once in 60 times with a right interval


def test_what_was_counted_before_is_not_sampled(stored: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sampling, "AT_ONCE", 1_000)
    monkeypatch.setattr(sampling, "SAMPLE", 800)
    chat = find_template("chat")
    assert not look(stored, None, chat).whole
    measure(stored, None, chat)
    assert look(stored, None, chat).whole
