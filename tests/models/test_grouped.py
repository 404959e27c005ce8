"""A step's attention in parts says what transformers' says, and the parts hold what rows have."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from core.models.grouped import MOST_PARTS, attend, parts_of, taken_in


class Shared:
    """What transformers reads off an attention layer."""

    def __init__(self, groups: int) -> None:
        self.num_key_value_groups = groups
        self.is_causal = True


@pytest.mark.parametrize("shared", [1, 2, 8])
def test_attends_as_transformers_does(shared: int) -> None:
    lengths = [90, 88, 61, 60, 59, *([20] * 20), *([7] * 15)]
    rows, width, heads, size = len(lengths), 90, 8, 16
    torch.manual_seed(0)
    query = torch.randn(rows, heads, 1, size)
    key, value = torch.randn(rows, shared, width, size), torch.randn(rows, shared, width, size)
    padding = torch.tensor([width - length for length in lengths]).unsqueeze(1)
    mask = (torch.arange(width) >= padding)[:, None, None, :]
    wanted, _ = sdpa_attention_forward(Shared(heads // shared), query, key, value, mask, scaling=0.3)  # type: ignore[arg-type]
    parts = parts_of(lengths, width)
    assert len(parts) > 1
    for found in (attend(query, key, value, mask, 0.3), attend(query, key, value, mask, 0.3, parts)):
        assert found.shape == wanted.shape
        assert torch.allclose(found, wanted, atol=1e-5)
    added = torch.zeros(mask.shape).masked_fill(~mask, -1e9)
    assert torch.allclose(attend(query, key, value, added, 0.3, parts), wanted, atol=1e-5)


@given(st.lists(st.integers(1, 1200), min_size=1, max_size=200), st.integers(0, 100), st.booleans())
def test_parts_hold_every_row_whole(lengths: list[int], more: int, ordered: bool) -> None:
    lengths = sorted(lengths, reverse=True) if ordered else lengths
    width = max(lengths) + more
    parts = parts_of(lengths, width)
    assert [start for start, _, _ in parts] == [0, *(end for _, end, _ in parts[:-1])]
    assert parts[-1][1] == len(lengths)
    assert len(parts) <= MOST_PARTS
    for start, end, column in parts:
        assert column <= width - max(lengths[start:end])
        assert column % 8 == 0
    read = sum((end - start) * (width - column) for start, end, column in parts)
    assert read <= len(lengths) * (max(lengths) + 8)


def test_sorted_rows_of_unlike_length_are_parted_well() -> None:
    lengths = sorted([int(16 + (n / 511) ** 4 * 1000) for n in range(512)], reverse=True)
    parts = parts_of(lengths, 1024)
    read = sum((end - start) * (1024 - column) for start, end, column in parts)
    assert read < 0.5 * 512 * 1024


def test_parts_are_those_of_this_thread_and_block() -> None:
    from core.models import grouped

    with taken_in([(0, 4, 8)], 20):
        assert grouped._state.parts == [(0, 4, 8)]
    assert grouped._state.parts is None
