"""A step's attention says what transformers' says, and is given the very columns that rows have."""

from __future__ import annotations

import pytest
import torch
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from core.models import grouped
from core.models.growing import GrowingLayer

CUDA = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
LENGTHS = [30, 28, 21, 3, 1]


class Shared:
    """What transformers reads off an attention layer."""

    def __init__(self, groups: int) -> None:
        self.num_key_value_groups = groups
        self.is_causal = True


def mask_of(lengths: list[int], width: int) -> torch.Tensor:
    first = torch.tensor([width - length for length in lengths]).unsqueeze(1)
    return (torch.arange(width) >= first)[:, None, None, :]


@pytest.mark.parametrize("shared", [1, 2, 8])
def test_attends_as_transformers_does(shared: int) -> None:
    torch.manual_seed(0)
    query = torch.randn(5, 8, 1, 16)
    key, value = torch.randn(5, shared, 30, 16), torch.randn(5, shared, 30, 16)
    mask = mask_of(LENGTHS, 30)
    wanted, _ = sdpa_attention_forward(Shared(8 // shared), query, key, value, mask, scaling=0.3)  # type: ignore[arg-type]
    found = grouped.attend(query, key, value, mask, 0.3)
    assert found.shape == wanted.shape
    assert torch.allclose(found, wanted, atol=1e-5)
    added = torch.zeros(mask.shape).masked_fill(~mask, -1e9)
    assert torch.allclose(grouped.attend(query, key, value, added, 0.3), wanted, atol=1e-5)


def by_hand(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, one_each: torch.Tensor, starts: torch.Tensor, longest: int,
    used: torch.Tensor, scaling: float | None,
) -> torch.Tensor:  # fmt: skip
    """What the kernel does with the same arguments: row by row, plain."""
    assert one_each.tolist() == list(range(len(query) + 1))
    assert starts.dtype == used.dtype == one_each.dtype == torch.int32
    assert int(used.max()) <= longest
    assert starts.tolist() == sorted(starts.tolist())
    assert int(starts[-1]) == len(key)
    answers = []
    for row, (start, count) in enumerate(zip(starts.tolist(), used.tolist(), strict=False)):
        keys, values = key[start : start + count], value[start : start + count]  # [columns, shared, size]
        times = query.shape[1] // keys.shape[1]
        keys, values = keys.repeat_interleave(times, dim=1), values.repeat_interleave(times, dim=1)
        weights = (torch.einsum("hd,chd->hc", query[row], keys) * (scaling or query.shape[2] ** -0.5)).softmax(1)
        answers.append(torch.einsum("hc,chd->hd", weights, values))
    return torch.stack(answers)


def test_the_kernel_is_given_the_columns_that_rows_have(monkeypatch: pytest.MonkeyPatch) -> None:
    """Over steps, with the buffers of a cache that grow and rows that leave."""
    monkeypatch.setattr(grouped, "_varlen", by_hand)
    monkeypatch.setattr("core.models.growing.ROOM", 4)
    torch.manual_seed(0)
    layer, rows = GrowingLayer(), LENGTHS
    layer.update(torch.randn(5, 2, 30, 8), torch.randn(5, 2, 30, 8))
    columns = grouped.Columns(torch.tensor([30 - length for length in rows], dtype=torch.int32))
    for step in range(12):
        key, value = layer.update(torch.randn(len(rows), 2, 1, 8), torch.randn(len(rows), 2, 1, 8))
        assert grouped._lies_flat(key)
        assert grouped._lies_flat(value)
        rows = [length + 1 for length in rows]
        query = torch.randn(len(rows), 6, 1, 8)
        wanted = grouped.attend(query, key, value, mask_of(rows, key.shape[2]), None)
        assert torch.allclose(columns.attend(query, key, value, None), wanted, atol=1e-5)
        if step == 6:
            keep = torch.tensor([0, 2, 4])
            layer.batch_select_indices(keep)
            rows = [rows[int(place)] for place in keep]
            columns = grouped.Columns(columns.first[keep])


def test_columns_are_known_in_this_thread_and_block_only() -> None:
    columns = grouped.Columns(torch.zeros(2, dtype=torch.int32))
    with grouped.lying_in(columns):
        assert grouped._state.columns is columns
    assert grouped._state.columns is None


def test_other_layouts_are_told_apart() -> None:
    plain = torch.empty(3, 2, 10, 4)
    assert not grouped._lies_flat(plain)
    assert grouped._lies_flat(grouped.token_first((3, 2, 10, 4), plain)[:, :, :7])


@CUDA
@pytest.mark.parametrize("heads", [(8, 8, 64), (28, 4, 128), (9, 3, 64)])
def test_the_kernel_is_right_on_this_card(heads: tuple[int, int, int]) -> None:
    query = torch.empty(1, heads[0], 1, heads[2], device="cuda", dtype=torch.bfloat16)
    key = torch.empty(1, heads[1], 1, heads[2], device="cuda", dtype=torch.bfloat16)
    assert grouped._prove(query.device, query.dtype, *heads)
    assert grouped.proved(query, key)
    assert not grouped.proved(query.float(), key.float()), "it has no kernel for 32 bits"
