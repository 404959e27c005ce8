"""Layers' inputs in the host's memory: the same gradients, and nothing else goes."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from core.training.offload import LayerInputs
from tests.training.test_fused import distance, look, make

DEVICES = ["cpu", pytest.param("cuda:0", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU"))]


@pytest.mark.parametrize("device", DEVICES)
def test_gradients_are_the_same_and_buffers_are_used_again(device: str) -> None:
    from core.training.fused import fuse
    from core.training.prepare import enable_checkpointing

    model = make("llama").to(device)
    enable_checkpointing(model)
    fuse(model)

    def look_away(inputs: LayerInputs | None) -> Any:
        model.zero_grad()
        ids = (torch.arange(2 * 24).view(2, 24) * 7 % 90).to(device)
        if inputs is None:
            loss = model(input_ids=ids, labels=ids).loss
        else:
            with inputs.away():
                loss = model(input_ids=ids, labels=ids).loss
        (10 * loss).backward()
        return loss.detach(), {name: p.grad.clone() for name, p in model.named_parameters() if p.requires_grad}

    wanted = look_away(None)
    inputs = LayerInputs(torch.device(device), 128, 2 * 24 * 128, torch.float32, least=1000)
    for _ in range(3):
        assert distance(look_away(inputs), wanted) < 1e-6
    assert len(inputs._away) >= 2  # two layers, and what the last norm keeps
    assert len(inputs._buffers) == len(inputs._away)
    assert all(kept.here is None for kept in inputs._away)


def test_without_checkpointing_and_for_small_or_other_tensors_nothing_goes() -> None:
    model = make("llama")
    wanted = look(model)
    for inputs in (
        LayerInputs(torch.device("cpu"), 128, 10**6, torch.float32, least=10**5),
        LayerInputs(torch.device("cpu"), 127, 10**6, torch.float32, least=1),
        LayerInputs(torch.device("cpu"), 128, 10**6, torch.bfloat16, least=1),
        LayerInputs(torch.device("cpu"), 128, 100, torch.float32, least=1),
    ):
        with inputs.away():
            found = look(model)
        assert distance(found, wanted) == 0
        assert len(inputs._away) == 0


def test_what_comes_next_is_fetched_ahead() -> None:
    inputs = LayerInputs(torch.device("cpu"), 4, 100, torch.float32, least=1)
    first, second, third = (torch.full((2, 4), float(n), requires_grad=True) for n in (2, 3, 4))
    with inputs.away():
        found = ((first.square() + 0) * 1).sum() + second.square().sum() + third.square().sum()
    assert len(inputs._away) == 3
    last = inputs._fetch(inputs._away[2])
    assert torch.equal(last, third.detach())
    assert [kept.here is not None for kept in inputs._away] == [False, True, False]
    found.backward()
    assert first.grad is not None
    assert torch.equal(first.grad, 2 * first.detach())
