"""A gated feed-forward part with LoRA on its three layers as one step of autograd: down(silu(gate(x)) · up(x)).

Kept for the backward pass: the input, gate and up (2 inner widths a token; peft's way keeps at least 4). What lies
between is computed again from them, in place. Under gradient checkpointing the second forward
pass leaves out the down product, which nothing but the layer's own answer needs. A torch module.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from importlib import import_module
from typing import Any

import torch
from torch.nn.functional import silu

from core.training.fused_lora import LoraGroup, flat_rows, like_rows, out_dtype

_state = threading.local()


@contextmanager
def _recomputing() -> Iterator[None]:
    before = getattr(_state, "recomputing", False)
    _state.recomputing = True
    try:
        yield
    finally:
        _state.recomputing = before


def checkpoint_contexts() -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
    """``context_fn`` of torch's checkpoint: around the first forward pass, and around the one that is repeated."""
    return nullcontext(), _recomputing()


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


def _kernels(x: torch.Tensor) -> tuple[Callable[..., Any], Callable[..., Any]] | None:
    """Liger's kernels, on a GPU where they are installed."""
    if x.device.type != "cuda":
        return None
    try:
        ops = import_module("liger_kernel.ops.swiglu")
    except ImportError:
        return None
    return ops.swiglu_forward, ops.swiglu_backward


class LoraMlp:
    """The layers of a feed-forward part: gate and up share their input, down has the product of both."""

    def __init__(self, gate_up: LoraGroup, down: LoraGroup) -> None:
        self.gate_up, self.down = gate_up, down
        self.matrices = (*gate_up.matrices, *down.matrices)
        self._unfinished: tuple[torch.Tensor, torch.Tensor, torch.Tensor | None] | None = None

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """The answer to ``x`` [..., width]."""
        try:
            answer: torch.Tensor = MlpProducts.apply(x, self, *self.matrices)
            if self._unfinished is not None:  # checkpointing goes on after us, so the answer is needed after all
                with torch.no_grad():  # by .data: for autograd the answer is what it has been from the first
                    answer.data.copy_(self.finish(*self._unfinished).view(answer.shape))
            return answer
        finally:
            self._unfinished = None

    def finish(self, gate: torch.Tensor, up: torch.Tensor, kept: torch.Tensor | None) -> torch.Tensor:
        """The down layer's answer; ``kept`` says what its dropout leaves."""
        inside = gated(gate, up)
        (answer,) = self.down.answers(inside, self.down.inner(inside, kept))
        return answer

    def leave(self, gate: torch.Tensor, up: torch.Tensor, kept: torch.Tensor | None) -> None:
        """Leave the answer open."""
        self._unfinished = gate, up, kept


class MlpProducts(torch.autograd.Function):  # type: ignore[misc]
    """``LoraMlp`` as one step of autograd. Its backward pass may be run once."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, mlp: LoraMlp, *matrices: torch.Tensor) -> torch.Tensor:
        dtype = mlp.gate_up.compute_dtype(x)
        rows = flat_rows(x, dtype)
        kept = mlp.gate_up.draw(rows)
        inner = mlp.gate_up.inner(rows, kept)
        gate, up = mlp.gate_up.answers(rows, inner)
        kept_down = mlp.down.draw(gate)
        if getattr(_state, "recomputing", False):
            answer = torch.empty(len(rows), mlp.down.width, dtype=dtype, device=x.device)
            mlp.leave(gate, up, kept_down)
        else:
            answer = mlp.finish(gate, up, kept_down)
        ctx.save_for_backward(rows, inner, gate, up, kept, kept_down, *matrices)
        ctx.mlp, ctx.shape, ctx.dtype = mlp, x.shape, x.dtype
        return like_rows(answer, x).to(out_dtype(x, dtype))

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        rows, inner, gate, up, kept, kept_down, *_ = ctx.saved_tensors
        mlp: LoraMlp = ctx.mlp
        inside = gated(gate, up)
        flat = [flat_rows(gradient, rows.dtype)]
        of_inner, of_down = mlp.down.matrix_gradients(inside, kept_down, mlp.down.inner(inside, kept_down), flat)
        del inside  # an inner width a token: what follows is the peak of a backward pass
        both = gated_gradients(mlp.down.row_gradients(kept_down, of_inner, flat), gate, up)
        of_inner, of_gate_up = mlp.gate_up.matrix_gradients(rows, kept, inner, both)
        if not ctx.needs_input_grad[0]:
            return None, None, *of_gate_up, *of_down
        of_rows = mlp.gate_up.row_gradients(kept, of_inner, both)
        return of_rows.view(ctx.shape).to(ctx.dtype), None, *of_gate_up, *of_down
