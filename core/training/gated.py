"""silu(gate) · up and its gradients, with low-rank products that are still to be added to gate and up. A torch module.

Plain torch everywhere; on a GPU Liger's kernels where they are installed, and kernels of our own (``gated_kernels``) that add a
LoRA layer's low-rank product to each number on the way, which else reads and writes the whole of gate and up once more. They
are proved once on the device before they are used. Knows nothing of layers and adapters.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import torch
from torch.nn.functional import silu

LARGEST_RANK = 128
_PROOF_BOUND = 0.02
"""Relative error in 16 bits beyond which the kernels aren't used."""


@dataclass(frozen=True)
class LowRank:
    """A product that is still to be added: ``scale`` · left [rows, rank] @ right [rank, width]."""

    left: torch.Tensor
    right: torch.Tensor
    scale: float = 1.0

    def added(self, base: torch.Tensor) -> torch.Tensor:
        """``base`` [rows, width] with the product, a new tensor."""
        return torch.addmm(base, self.left, self.right, alpha=self.scale)


def gated(gate: torch.Tensor, up: torch.Tensor) -> torch.Tensor:
    """silu(gate) · up; all are [rows, inner]."""
    if kernels := _kernels(gate):
        return kernels[0](gate, up)[-1]
    return silu(gate).mul_(up)


def gated_gradients(gradient: torch.Tensor, gate: torch.Tensor, up: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Gradients of gate and up. All three arguments are written over: nothing needs them afterwards."""
    if kernels := _kernels(gate):
        of_gate, of_up = kernels[1](gate, up, gradient)
        return of_gate, of_up
    of_up = silu(gate).mul_(gradient)
    return torch.ops.aten.silu_backward.grad_input(gradient.mul_(up), gate, grad_input=gate), of_up


def adds_on_the_way(rows: torch.Tensor, rank: int) -> bool:
    """Whether ``gated_sum`` and ``gated_sum_gradients`` run as one kernel each for rows like these."""
    if rows.device.type != "cuda" or rank > LARGEST_RANK or rows.dtype not in (torch.bfloat16, torch.float16):
        return False
    return _proved(rows.device, rows.dtype)


def gated_sum(gate: torch.Tensor, up: torch.Tensor, of_gate: LowRank, of_up: LowRank) -> torch.Tensor:
    """silu(gate + its product) · (up + its product); all are [rows, inner]."""
    if gate.device.type == "cuda":
        found: torch.Tensor = _own().forward(gate, up, of_gate, of_up)
        return found
    return gated(of_gate.added(gate), of_up.added(up))


def gated_sum_gradients(
    gradient: torch.Tensor, gate: torch.Tensor, up: torch.Tensor, of_gate: LowRank, of_up: LowRank, more: LowRank | None
) -> None:
    """What backward needs of ``gated_sum``, written over its arguments: its answer over ``gradient``, gradients over gate and up.

    ``more``: a product that is still to be added to ``gradient``.
    """
    if gate.device.type == "cuda":
        _own().backward(gradient, gate, up, of_gate, of_up, more)
        return
    whole = more.added(gradient) if more else gradient.clone()
    sums = of_gate.added(gate), of_up.added(up)
    gradient.copy_(gated(*sums))
    found = gated_gradients(whole, *sums)
    gate.copy_(found[0])
    up.copy_(found[1])


def _own() -> Any:
    return import_module("core.training.gated_kernels")


@functools.cache
def _proved(device: torch.device, dtype: torch.dtype) -> bool:
    """Whether our kernels are there and right on this device: asked once, on random rows."""
    try:
        with torch.no_grad(), torch.random.fork_rng([device]):
            torch.manual_seed(0)
            return _disagreement(device, dtype, _own()) < _PROOF_BOUND
    except Exception:  # whatever a compiler says on a card that it doesn't know: plain products and Liger's are there
        return False


def _disagreement(device: torch.device, dtype: torch.dtype, own: Any, rows: int = 70, width: int = 328, rank: int = 12) -> float:
    """The largest relative error of our kernels against plain torch in float32, with sizes that fill no block."""

    def drawn(*shape: int) -> torch.Tensor:
        return torch.randn(shape, device=device, dtype=dtype)

    inner = drawn(rows, 2 * rank)
    parts = [LowRank(inner[:, :rank], drawn(width, rank).T, 0.5), LowRank(inner[:, rank:], drawn(width, rank).T, 0.25)]
    more = LowRank(drawn(rows, rank), drawn(rank, width))
    gate, up, gradient = drawn(rows, width), drawn(rows, width), drawn(rows, width)
    plain = [LowRank(part.left.float(), part.right.float(), part.scale).added(base.float()) for part, base in zip(
        (*parts, more), (gate, up, gradient), strict=True
    )]  # fmt: skip
    sigmoid = torch.sigmoid(plain[0])
    inside = plain[0] * sigmoid * plain[1]
    wanted = [
        inside, inside, plain[2] * plain[1] * sigmoid * (1 + plain[0] * (1 - sigmoid)), plain[2] * plain[0] * sigmoid
    ]  # fmt: skip
    found = [own.forward(gate, up, *parts)]
    own.backward(gradient, gate, up, *parts, more)
    found += [gradient, gate, up]
    errors = [(ours.float() - theirs).norm() / theirs.norm() for ours, theirs in zip(found, wanted, strict=True)]
    return float(torch.stack(errors).nan_to_num(torch.inf).max())


def _kernels(x: torch.Tensor) -> tuple[Callable[..., Any], Callable[..., Any]] | None:
    """Liger's kernels, on a GPU where they are installed."""
    if x.device.type != "cuda":
        return None
    try:
        ops = import_module("liger_kernel.ops.swiglu")
    except ImportError:
        return None
    return ops.swiglu_forward, ops.swiglu_backward
