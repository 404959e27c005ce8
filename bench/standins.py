"""Stand-ins of what runs on a GPU only: Liger's kernels, torch's variable-length attention, the one-kernel dropout.

Each has the inputs, outputs and kept tensors of what it stands for, and no numbers: only shapes are ever asked for. Knows nothing
of what is counted (``bench/train_ops.py``).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest.mock import patch

import torch


def _define() -> None:
    """Operations without a body: only their shapes are ever asked for."""
    library = torch.library.Library("tunewise_bench", "DEF")
    shapes: dict[str, Any] = {
        "norm(Tensor x, Tensor w) -> (Tensor, Tensor)": lambda x, w: (torch.empty_like(x), x.new_empty(x.shape[:-1]).float()),
        "norm_backward(Tensor(a!) g, Tensor x, Tensor w, Tensor r) -> ()": lambda g, x, w, r: None,
        "rope(Tensor(a!) q, Tensor(b!) k, Tensor cos, Tensor sin) -> ()": lambda q, k, cos, sin: None,
        "gated(Tensor a, Tensor b) -> Tensor": lambda a, b: torch.empty_like(a),
        "gated_backward(Tensor g, Tensor(a!) a, Tensor(b!) b) -> ()": lambda g, a, b: None,
        "attention(Tensor q, Tensor k, Tensor v) -> (Tensor, Tensor)": lambda q, k, v: (
            torch.empty_like(q, memory_format=torch.contiguous_format),
            torch.empty(q.shape[1], q.shape[0], dtype=torch.float32),
        ),
        "attention_backward(Tensor g, Tensor q, Tensor k, Tensor v, Tensor o, Tensor l) -> (Tensor, Tensor, Tensor)": (
            lambda g, q, k, v, *_: tuple(torch.empty(t.shape, dtype=t.dtype) for t in (q, k, v))
        ),
    }
    for schema, shape in shapes.items():
        library.define(schema)
        torch.library.register_fake(f"tunewise_bench::{schema.partition('(')[0]}", shape)
    _define.library = library  # type: ignore[attr-defined]


class _Norm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Any, w: Any) -> Any:
        y, r = torch.ops.tunewise_bench.norm(x, w)
        ctx.save_for_backward(x, w, r)
        return y

    @staticmethod
    def backward(ctx: Any, g: Any) -> Any:
        torch.ops.tunewise_bench.norm_backward(g, *ctx.saved_tensors)
        return g, None


class _Rope(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, q: Any, k: Any, cos: Any, sin: Any) -> Any:
        torch.ops.tunewise_bench.rope(q, k, cos, sin)
        ctx.save_for_backward(cos, sin)
        return q.view(q.shape), k.view(k.shape)

    @staticmethod
    def backward(ctx: Any, gq: Any, gk: Any) -> Any:
        torch.ops.tunewise_bench.rope(gq, gk, *ctx.saved_tensors)
        return gq, gk, None, None


class _Gated(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, a: Any, b: Any) -> Any:
        ctx.save_for_backward(a, b)
        return torch.ops.tunewise_bench.gated(a, b)

    @staticmethod
    def backward(ctx: Any, g: Any) -> Any:
        return _gated_backward(*ctx.saved_tensors, g)


class _Attention(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, q: Any, k: Any, v: Any) -> Any:
        out, logsumexp = torch.ops.tunewise_bench.attention(q, k, v)
        ctx.save_for_backward(q, k, v, out, logsumexp)
        return out

    @staticmethod
    def backward(ctx: Any, g: Any) -> Any:
        saved = ctx.saved_tensors
        q = saved[0]
        work = torch.empty(q.shape, dtype=torch.float32), torch.empty_like(q), torch.empty_like(q)  # dq, dk and dv a head
        found = torch.ops.tunewise_bench.attention_backward(g, *saved)
        del work
        return found


def _gated_backward(a: Any, b: Any, g: Any) -> Any:
    torch.ops.tunewise_bench.gated_backward(g, a, b)
    return a, b


def _varlen(q: Any, k: Any, v: Any, *_: Any, scale: Any = None, window_size: Any = None, enable_gqa: bool = False) -> Any:
    return _Attention.apply(q, k, v)


def _kept(x: torch.Tensor, p: float) -> torch.Tensor:
    return torch.empty(x.shape, dtype=torch.bool).bernoulli_(1 - p)


@contextmanager
def as_on_a_gpu(liger: bool) -> Iterator[None]:
    """The stand-ins in their places; those of Liger's kernels where it is asked for."""
    from transformers.models.qwen2 import modeling_qwen2 as qwen2

    from core.training import fused_lora, gated

    if not hasattr(torch.ops.tunewise_bench, "norm"):
        _define()
    with ExitStack() as stack:
        put = stack.enter_context
        put(patch("torch.nn.attention.varlen.varlen_attn", _varlen))
        put(patch.object(torch.nn.Dropout, "forward", lambda self, x: torch.native_dropout(x, self.p, True)[0]))
        put(patch.object(fused_lora, "draw_kept", _kept))
        if liger:
            kernels = (lambda a, b: (torch.ops.tunewise_bench.gated(a, b),)), _gated_backward
            put(patch.object(gated, "_kernels", lambda x: kernels))
            put(patch.object(qwen2, "apply_rotary_pos_emb", lambda q, k, cos, sin: _Rope.apply(q, k, cos, sin)))
            put(patch.object(qwen2.Qwen2RMSNorm, "forward", lambda self, x: _Norm.apply(x, self.weight)))
            plain_mlp = lambda self, x: self.down_proj(_Gated.apply(self.gate_proj(x), self.up_proj(x)))  # noqa: E731
            put(patch.object(qwen2.Qwen2MLP, "forward", plain_mlp))
        yield
