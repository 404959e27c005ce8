"""The question asked before a training on a GPU: do the fused layers say what peft's say on this device?"""

from __future__ import annotations

from typing import Any

import pytest

from tests.training.test_fused import QUANTISED, far, look, make


@pytest.mark.parametrize("quantised", QUANTISED)
@pytest.mark.parametrize("kind", ["qwen2", "gemma", "phi3"])
@pytest.mark.parametrize("dropout", [0.0, 0.1])
def test_layers_that_hold_stay_fused_and_untouched(kind: str, quantised: bool, dropout: float) -> None:
    import torch

    from core.training.fused_proof import fuse_what_holds

    model = make(kind, quantised=quantised, lora_dropout=dropout, init_lora_weights=True)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    state = torch.random.get_rng_state()
    fused, fault = fuse_what_holds(model, None, prove=True)
    assert fault == ""
    assert fused.names
    assert torch.equal(state, torch.random.get_rng_state())
    assert all(torch.equal(before[name], p) and p.grad is None for name, p in model.named_parameters())
    assert {group.dropout for group in fused.groups} == {dropout}


@pytest.mark.parametrize("quantised", QUANTISED)
def test_short_numbers_hold_too(quantised: bool) -> None:
    from core.training.fused_proof import fuse_what_holds

    fused, fault = fuse_what_holds(make(quantised=quantised, dtype="bfloat16"), None, prove=True)
    assert (fault, bool(fused.names)) == ("", True)


@pytest.mark.parametrize("where", ["answers", "inner_gradients", "matrix_gradients", "row_gradients"])
def test_layers_that_are_wrong_here_are_peft_s_again(monkeypatch: pytest.MonkeyPatch, where: str) -> None:
    from core.training.fused_lora import LoraGroup
    from core.training.fused_proof import fuse_what_holds

    right = look(make())
    model = make()
    real = getattr(LoraGroup, where)

    def wrong(*arguments: Any, **options: Any) -> Any:
        found = real(*arguments, **options)
        return [2 * part for part in found] if isinstance(found, list) else 2 * found

    monkeypatch.setattr(LoraGroup, where, wrong)
    fused, fault = fuse_what_holds(model, None, prove=True)
    assert fused.names == []
    assert "off by" in fault
    ours = look(model)
    assert far(ours[0], right[0]) < 1e-6
    assert all(far(ours[1][name], right[1][name]) < 1e-6 for name in right[1])


def test_a_kernel_that_fails_here_is_no_fault_of_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    from core.training.fused_lora import LoraGroup
    from core.training.fused_proof import fuse_what_holds

    def fails(*_arguments: Any, **_options: Any) -> Any:
        raise RuntimeError("no kernel image is available\nmore")

    monkeypatch.setattr(LoraGroup, "answers", fails)
    fused, fault = fuse_what_holds(make(), None, prove=True)
    assert fused.names == []
    assert "RuntimeError: no kernel image is available)" in fault
    with fused.held():
        pass
