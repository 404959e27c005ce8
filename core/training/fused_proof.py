"""Are the fused layers right on this device? Asked once before a training on a GPU, on the model's own layers.

Kernels differ between cards and library versions, and a gradient that is wrong there is seen by nobody. So one layer of each
name is computed fused and by peft, on random rows, and answers and gradients are compared; where they differ, or where a kernel
fails, the training goes peft's way and says so. Costs two passes over 64 rows of a layer. A torch module.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from core.training.fused import Fused, fuse, unfuse

ROWS = 64
SHORT_TOLERANCE, FULL_TOLERANCE = 0.05, 1e-3  # relative error, in numbers of 16 and of 32 bits


def fuse_what_holds(model: Any, autocast: torch.dtype | None, *, prove: bool) -> tuple[Fused, str]:
    """The model's fused layers, and why it has none although it could; ``prove`` compares them with peft's first."""
    fused = fuse(model)
    if not (prove and fused.names):
        return fused, ""
    try:
        fault = disagreement(model, fused, autocast)
    except Exception as error:  # whatever a kernel says on a card it doesn't know: peft's path is there
        fault = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else 'no reason given'}"
    if not fault:
        return fused, ""
    unfuse(model)
    return fuse_nothing(), f"the fused LoRA layers don't hold on this device ({fault}); peft's own are used, slower"


def fuse_nothing() -> Fused:
    """No fused layers."""
    return fuse(torch.nn.Module())


def disagreement(model: Any, fused: Fused, autocast: torch.dtype | None) -> str:
    """The first layer whose fused answer or gradients are not peft's, in words; empty when all agree."""
    device = next(model.parameters()).device
    training = model.training
    with torch.random.fork_rng([device] if device.type == "cuda" else []), _undropped(model, fused):
        torch.manual_seed(0)
        try:
            model.train()
            return next((found for name, module in _one_of_each(model) if (found := _compare(name, module, fused, autocast))), "")
        finally:
            model.train(training)


def _one_of_each(model: Any) -> Iterator[tuple[str, Any]]:
    """The first fused module of each name, with that name."""
    seen: set[str] = set()
    for name, module in model.named_modules():
        leaf = name.rpartition(".")[2]
        if leaf not in seen and hasattr(vars(module).get("forward"), "before_fusing"):
            seen.add(leaf)
            yield leaf, module


def _compare(name: str, module: Any, fused: Fused, autocast: torch.dtype | None) -> str:
    learnt = [parameter for parameter in module.parameters() if parameter.requires_grad]
    first = getattr(module, "gate_proj", module)
    base = first.get_base_layer()
    dtype = autocast or getattr(base, "compute_dtype", None) or base.weight.dtype
    x = torch.randn(1, ROWS, first.in_features, device=learnt[0].device, dtype=dtype, requires_grad=True)
    with _stirred(learnt), fused.held(autocast):
        results = [_asked(forward, x, learnt, autocast) for forward in (module.forward, module.forward.before_fusing)]
    bound = FULL_TOLERANCE if dtype == torch.float32 else SHORT_TOLERANCE
    for what, ours, theirs in zip(("answer", "gradient", *["gradient of its matrices"] * len(learnt)), *results, strict=True):
        error = float((ours - theirs).norm() / theirs.norm().clamp_min(1e-12))
        if not error <= bound:  # also when it is no number
            return f"{name}: {what} off by {error:.2g}"
    return ""


def _asked(forward: Any, x: torch.Tensor, learnt: list[Any], autocast: torch.dtype | None) -> list[torch.Tensor]:
    """Answer and gradients of a forward pass, in float32."""
    with torch.autocast(x.device.type, autocast, enabled=autocast is not None):
        answer = forward(x)
    weights = torch.linspace(-1, 1, answer.numel(), device=x.device).view_as(answer)
    return [answer.detach().float(), *(g.float() for g in torch.autograd.grad((answer.float() * weights).sum(), [x, *learnt]))]


@contextmanager
def _stirred(learnt: list[Any]) -> Iterator[None]:
    """B matrices begin as zeros, which would hide A's faults: other numbers inside the block."""
    before = [parameter.detach().clone() for parameter in learnt]
    try:
        with torch.no_grad():
            for parameter in learnt:
                parameter.normal_(std=0.02)
        yield
    finally:
        with torch.no_grad():
            for parameter, value in zip(learnt, before, strict=True):
                parameter.copy_(value)


@contextmanager
def _undropped(model: Any, fused: Fused) -> Iterator[None]:
    """No dropout inside the block: its draws are not the same on both ways."""
    drops = [(m, m.p) for name, m in model.named_modules() if "lora_dropout" in name and isinstance(m, torch.nn.Dropout)]
    groups = [(group, group.dropout) for group in fused.groups]
    try:
        for drop, _ in drops:
            drop.p = 0.0
        for group, _ in groups:
            group.dropout = 0.0
        yield
    finally:
        for drop, p in drops:
            drop.p = p
        for group, p in groups:
            group.dropout = p
