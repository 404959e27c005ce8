"""Attention over rows that lie end to end, without padding and without one row seeing another. A torch module.

torch's own variable-length kernel (``torch.nn.attention.varlen``, flash attention inside) is registered with
transformers under ``NAME``; the borders of rows come in as ``cu_seq_lens_q``. Where it isn't there, sdpa does the same
through a block mask that transformers makes from positions: right, but several times slower.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from core.models.load import LoadedModel

NAME = "tunewise_varlen"
EAGER_TOKENS = 512
_LEAST_CAPABILITY = (8, 0)
_LARGEST_HEAD = 256
_PROOF_BOUND = 0.02
"""Relative error in 16 bits."""
_shares_heads: dict[tuple[Any, ...], bool] = {}


def choose_attention(loaded: LoadedModel, longest: int, packing: bool | None) -> tuple[str, bool]:
    """Set the attention that a training computes with; returns its name and whether rows are packed.

    On a GPU rows are packed where the kernel is there. On a CPU short rows get plain products: the backward pass of
    torch's fused kernel is slow there (SmolLM2-135M, 130 tokens, one core: 1.2 of 4 s a step).
    """
    if packing is not False and has_varlen(loaded):
        register()
        prove_shared_heads(loaded)
        name, packed = NAME, True
    elif loaded.device.type == "cpu" and longest <= EAGER_TOKENS:
        name, packed = "eager", bool(packing)
    else:
        name, packed = fused_or_eager(loaded.model), bool(packing)
    loaded.model.set_attn_implementation(name)
    return name, packed


def fused_or_eager(model: Any) -> str:
    """``sdpa`` where the architecture may use it, else ``eager`` (Gemma 2's capped scores, attention sinks)."""
    return "sdpa" if getattr(model, "_supports_sdpa", False) else "eager"


def has_varlen(loaded: LoadedModel) -> bool:
    """Whether torch's variable-length kernel works on the model's device and shape."""
    try:
        from torch.nn.attention.varlen import varlen_attn  # noqa: F401
    except ImportError:
        return False
    config = loaded.model.config.get_text_config()
    size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    plain = not getattr(config, "attn_logit_softcapping", None) and not getattr(config, "attn_logit_softcap", None)
    return (
        loaded.device.type == "cuda"
        and torch.cuda.get_device_capability(loaded.device) >= _LEAST_CAPABILITY
        and size <= _LARGEST_HEAD
        and size % 8 == 0
        and plain
        and fused_or_eager(loaded.model) == "sdpa"
    )


def register() -> None:
    """Make the kernel known to transformers. The masks it asks for are none: borders are in ``cu_seq_lens_q``."""
    from transformers import AttentionInterface, AttentionMaskInterface

    AttentionInterface.register(NAME, packed_attention)
    AttentionMaskInterface.register(NAME, _no_mask)


def packed_attention(
    module: Any,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    *,
    scaling: float | None = None,
    sliding_window: int | None = None,
    cu_seq_lens_q: torch.Tensor | None = None,
    max_length_q: int | None = None,
    **_: Any,
) -> tuple[torch.Tensor, None]:
    """Causal attention inside each row. States are [1, heads, tokens, size]; the answer is [1, tokens, heads, size]."""
    from torch.nn.attention.varlen import varlen_attn

    if cu_seq_lens_q is None or max_length_q is None:
        raise ValueError("packed attention needs the borders of the rows")
    dtype = query.dtype if query.dtype in (torch.bfloat16, torch.float16) else torch.bfloat16
    states = [part.squeeze(0).transpose(0, 1).to(dtype) for part in (query, key, value)]  # squeeze: its gradient is a view
    options = _options(scaling, sliding_window, states[0].shape[-1], query.shape[1] != key.shape[1])
    kind = (states[0].device, dtype, query.shape[1], key.shape[1], query.shape[3])
    if options.pop("repeat", False) and not _shares_heads.get(kind, False):
        times = query.shape[1] // key.shape[1]
        states[1:] = [part.repeat_interleave(times, dim=1) for part in states[1:]]
    if factor := options.pop("factor", None):
        states[0] = states[0] * factor
    found = varlen_attn(*states, cu_seq_lens_q, cu_seq_lens_q, max_length_q, max_length_q, **options)
    return found.unsqueeze(0).to(query.dtype), None


def _options(scaling: float | None, window: int | None, size: int, grouped: bool) -> dict[str, Any]:
    """Arguments of this torch's ``varlen_attn`` (they differ between 2.10 and 2.13), and what must be done before it."""
    from torch.nn.attention.varlen import varlen_attn

    known = inspect.signature(varlen_attn).parameters
    options: dict[str, Any] = {}
    if "window_size" in known:
        options["window_size"] = (window - 1 if window else -1, 0)
    else:
        options["is_causal"] = True
    if scaling is not None:
        if "scale" in known:
            options["scale"] = scaling
        else:
            options["factor"] = scaling * size**0.5
    if grouped:
        options["enable_gqa" if "enable_gqa" in known else "repeat"] = True
    return options


def prove_shared_heads(loaded: LoadedModel) -> None:
    """Find out whether the kernel takes fewer keys and values than queries although it has no argument to say so.

    torch 2.11's does. Asked before a training, once for a device and shape: inside a pass that is recomputed, what the question
    keeps would be taken for the pass's own.
    """
    config = loaded.model.config.get_text_config()
    heads = int(config.num_attention_heads)
    shared = int(getattr(config, "num_key_value_heads", None) or heads)
    size = int(getattr(config, "head_dim", None) or config.hidden_size // heads)
    dtype = loaded.dtype if loaded.dtype in (torch.bfloat16, torch.float16) else torch.bfloat16
    kind = (loaded.device, dtype, heads, shared, size)
    if shared != heads and "repeat" in _options(None, None, size, grouped=True) and kind not in _shares_heads:
        _shares_heads[kind] = _takes_shared_heads(*kind)


def _takes_shared_heads(device: torch.device, dtype: torch.dtype, heads: int, shared: int, size: int) -> bool:
    """Answers and gradients of two random rows against those of repeated keys and values."""
    from torch.nn.attention.varlen import varlen_attn

    lengths = (40, 24)
    with torch.enable_grad(), torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(0)
        states = [
            torch.randn(sum(lengths), count, size, device=device, dtype=dtype, requires_grad=True)
            for count in (heads, shared, shared)
        ]
        weights = torch.randn(sum(lengths), heads, size, device=device, dtype=dtype)
        ends = torch.tensor([0, lengths[0], sum(lengths)], dtype=torch.int32, device=device)
        options = _options(None, None, size, grouped=False)
        try:
            found = []
            for times in (1, heads // shared):
                key, value = (part.repeat_interleave(times, dim=1) if times > 1 else part for part in states[1:])
                answer = varlen_attn(states[0], key, value, ends, ends, max(lengths), max(lengths), **options)
                found.append([answer, *torch.autograd.grad((answer * weights).sum(), states)])
        except Exception:  # whatever the kernel says to shapes that it doesn't take
            return False
        return all(bool((a - b).norm() <= _PROOF_BOUND * b.norm()) for a, b in zip(*found, strict=True))


def _no_mask(*_: Any, **__: Any) -> None:
    return None


@contextmanager
def generating_attention(model: Any) -> Iterator[None]:
    """Inside the block the model attends by sdpa (eager where it can't), as generating needs."""
    before = model.config._attn_implementation
    model.set_attn_implementation(fused_or_eager(model))
    try:
        yield
    finally:
        model.set_attn_implementation(before)
