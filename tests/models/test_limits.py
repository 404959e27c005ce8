"""How many rows go together: by free memory, rows that hold theirs already counted once, and prompts in bounded passes."""

from __future__ import annotations

import pytest

from core.models import limits
from core.models.limits import BatchLimits

GB = 2**30
PER_TOKEN = 2 * 2 * 28 * 4 * 128 * 2
"""Twice the cache of a token at Qwen2.5-7B's shape in bf16."""


@pytest.mark.parametrize(
    ("free", "widest", "held", "rows"),
    [
        (63 * GB, 288, 0, 512),  # an H100 with the weights in it, prompts of 160 and 128 new
        (63 * GB, 1152, 0, 409),
        (32 * GB, 288, 0, 512),
        (5 * GB, 1152, 0, 32),
        (5 * GB, 1152, 300, 332),  # what runs has taken its memory already
        (1, 1152, 0, 1),  # one is always tried
    ],
)
def test_rows_follow_free_memory_and_length(
    monkeypatch: pytest.MonkeyPatch, free: int, widest: int, held: int, rows: int
) -> None:
    monkeypatch.setattr(limits, "free_memory", lambda device: free)
    assert BatchLimits("cuda:0", 512, PER_TOKEN, None, 16_384).rows(widest, held) == rows


def test_tokens_bound_rows_on_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "free_memory", lambda device: 64 * GB)
    cpu = BatchLimits("cpu", 64, PER_TOKEN, 16_384, 4_096)
    assert (cpu.rows(128, 0), cpu.rows(1024, 0)) == (64, 16)
    assert cpu.fits_pass(4, 1024)
    assert not cpu.fits_pass(5, 1024)
