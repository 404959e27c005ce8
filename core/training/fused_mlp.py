"""A gated feed-forward part with LoRA on its three layers as one step of autograd: down(silu(gate(x)) · up(x)).

Kept for the backward pass: the input, gate and up (2 inner widths a token; peft's way keeps at least 4). What lies
between is computed again from them, in place. Where ``core.training.gated`` has its kernels, gate and up are kept without their
low-rank products, which are added where they are used. Under gradient checkpointing the second forward
pass leaves out the down product, which nothing but the layer's own answer needs. A torch module.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any

import torch

from core.training.fused_lora import LoraGroup, flat_rows, like_rows, out_dtype
from core.training.gated import adds_on_the_way, gated, gated_gradients, gated_sum, gated_sum_gradients

_state = threading.local()


@contextmanager
def _in_pass(which: str) -> Iterator[None]:
    before = getattr(_state, "checkpointed", "")
    _state.checkpointed = which
    try:
        yield
    finally:
        _state.checkpointed = before


def checkpoint_contexts() -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
    """``context_fn`` of torch's checkpoint: around the first forward pass, and around the one that is repeated."""
    return _in_pass("first"), _in_pass("repeated")


@dataclass
class _Open:
    """A pass between its two halves. ``bare``: gate and up are without their low-rank products; ``kept``: of down's dropout."""

    inner: torch.Tensor
    gate: torch.Tensor
    up: torch.Tensor
    kept: torch.Tensor | None
    bare: bool


class LoraMlp:
    """The layers of a feed-forward part: gate and up share their input, down has the product of both."""

    def __init__(self, gate_up: LoraGroup, down: LoraGroup) -> None:
        self.gate_up, self.down = gate_up, down
        self.matrices = (*gate_up.matrices, *down.matrices)
        self._unfinished: _Open | None = None

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """The answer to ``x`` [..., width]."""
        try:
            answer: torch.Tensor = MlpProducts.apply(x, self, *self.matrices)
            if self._unfinished is not None:  # checkpointing goes on after us, so the answer is needed after all
                with torch.no_grad():  # by .data: for autograd the answer is what it has been from the first
                    answer.data.copy_(self.finish(self._unfinished)[0].view(answer.shape))
            return answer
        finally:
            self._unfinished = None

    def finish(self, half: _Open) -> tuple[torch.Tensor, torch.Tensor]:
        """The down layer's answer, and its low-rank inner product."""
        gate, up = half.gate, half.up
        inside = gated_sum(gate, up, *self.gate_up.products(half.inner)) if half.bare else gated(gate, up)
        inner = self.down.inner(inside, half.kept)
        (answer,) = self.down.answers(inside, inner)
        return answer, inner

    def leave(self, half: _Open) -> None:
        """Leave the answer open."""
        self._unfinished = half


class MlpProducts(torch.autograd.Function):  # type: ignore[misc]
    """``LoraMlp`` as one step of autograd. Its backward pass may be run once."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, mlp: LoraMlp, *matrices: torch.Tensor) -> torch.Tensor:
        dtype = mlp.gate_up.compute_dtype(x)
        rows = flat_rows(x, dtype)
        kept = mlp.gate_up.draw(rows)
        inner = mlp.gate_up.inner(rows, kept)
        bare = adds_on_the_way(rows, mlp.gate_up.rank)
        gate, up = mlp.gate_up.answers(rows, inner, add=not bare)
        half = _Open(inner, gate, up, mlp.down.draw(gate), bare)
        of_down: torch.Tensor | None = None
        checkpointed = getattr(_state, "checkpointed", "")
        if checkpointed == "repeated":
            answer = torch.empty(len(rows), mlp.down.width, dtype=dtype, device=x.device)
            mlp.leave(half)
        else:
            answer, of_down = mlp.finish(half)
        if checkpointed:  # both passes must keep as many tensors
            of_down = None
        ctx.save_for_backward(rows, inner, gate, up, kept, half.kept, of_down, *matrices)
        ctx.mlp, ctx.bare, ctx.shape, ctx.dtype = mlp, bare, x.shape, x.dtype
        return like_rows(answer, x).to(out_dtype(x, dtype))

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        rows, inner, gate, up, kept, kept_down, inner_down, *_ = ctx.saved_tensors
        mlp: LoraMlp = ctx.mlp
        flat = [flat_rows(gradient, rows.dtype)]
        of_inner = mlp.down.inner_gradients(flat)
        if ctx.bare:
            late = [mlp.down.row_product(of_inner)] if kept_down is None else []
            inside = mlp.down.row_gradients(kept_down, of_inner, flat, add=not late)  # its gradient, until the next line
            of_gate, of_up = mlp.gate_up.products(inner)
            gated_sum_gradients(inside, gate, up, of_gate, of_up, late[0] if late else None)
            both = gate, up
        else:
            inside = gated(gate, up)
        if inner_down is None:
            inner_down = mlp.down.inner(inside, kept_down)
        of_down = mlp.down.matrix_gradients(inside, kept_down, inner_down, of_inner, flat)
        del inside  # an inner width a token: what follows is the peak of a backward pass
        if not ctx.bare:
            both = gated_gradients(mlp.down.row_gradients(kept_down, of_inner, flat), gate, up)
        of_inner = mlp.gate_up.inner_gradients(both)
        of_gate_up = mlp.gate_up.matrix_gradients(rows, kept, inner, of_inner, both)
        if not ctx.needs_input_grad[0]:
            return None, None, *of_gate_up, *of_down
        of_rows = mlp.gate_up.row_gradients(kept, of_inner, both)
        return of_rows.view(ctx.shape).to(ctx.dtype), None, *of_gate_up, *of_down
