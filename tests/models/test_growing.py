"""Keys and values that grow in place hold what transformers' own layers hold, whatever is done to them on the way."""

from __future__ import annotations

import torch
from transformers import LlamaConfig, MistralConfig
from transformers.cache_utils import DynamicLayer

from core.models.growing import ROOM, GrowingLayer, growing_cache


def states(rows: int, columns: int) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.randn(rows, 2, columns, 4), torch.randn(rows, 2, columns, 4)


def same(one: DynamicLayer, other: DynamicLayer) -> None:
    assert one.get_seq_length() == other.get_seq_length()
    assert one.keys is not None
    assert other.keys is not None
    assert torch.equal(one.keys, other.keys)
    assert torch.equal(one.values, other.values)


def test_holds_what_transformers_holds() -> None:
    plain, growing = DynamicLayer(), GrowingLayer()
    rows = 6
    for step in range(3 * ROOM):
        if step == 10:  # rows leave
            for layer in (plain, growing):
                layer.batch_select_indices(torch.tensor([0, 2, 3, 5]))
            rows = 4
        if step == 50:  # padding is cut off
            for layer in (plain, growing):
                layer.keys, layer.values = layer.keys[..., 7:, :], layer.values[..., 7:, :]
        if step == 90:  # rows join
            more = states(3, plain.get_seq_length())
            for layer in (plain, growing):
                layer.keys, layer.values = torch.cat([layer.keys, more[0]]), torch.cat([layer.values, more[1]])
            rows = 7
        fresh = states(rows, 12 if step == 0 else 1)
        given, wanted = growing.update(*fresh), plain.update(*fresh)
        assert torch.equal(given[0], wanted[0])
        assert torch.equal(given[1], wanted[1])
        same(growing, plain)


def test_a_step_copies_nothing_that_is_there() -> None:
    layer = GrowingLayer()
    layer.update(*states(3, 5))
    layer.update(*states(3, 1))
    assert layer.keys is not None
    place, moves = layer.keys.data_ptr(), 0
    for _ in range(ROOM - 1):
        layer.update(*states(3, 1))
        moves += layer.keys.data_ptr() != place
        place = layer.keys.data_ptr()
    assert not moves
    layer.update(*states(3, 1))
    layer.update(*states(3, 1))
    assert layer.get_seq_length() == 5 + ROOM + 2


def test_what_was_given_back_stays_as_it_was() -> None:
    layer = GrowingLayer()
    layer.update(*states(2, 4))
    keys, _ = layer.update(*states(2, 1))
    before = keys.clone()
    layer.update(*states(2, 1))
    assert torch.equal(keys, before)


def test_windows_stay_transformers_own() -> None:
    tiny = {"num_hidden_layers": 2, "hidden_size": 8, "intermediate_size": 8, "num_attention_heads": 2}
    assert {type(layer) for layer in growing_cache(LlamaConfig(**tiny)).layers} == {GrowingLayer}
    windowed = growing_cache(MistralConfig(**tiny, num_key_value_heads=2, sliding_window=4))
    assert GrowingLayer not in {type(layer) for layer in windowed.layers}
