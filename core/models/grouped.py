"""Attention of a decoding step on a GPU: keys and values are read once, and only the columns that a row has.

transformers masks the padding of rows that are shorter than the longest, and where there is a mask its older versions repeat
keys and values for every query head that shares them (7 times at 7B shape). Here rows go to torch's variable-length flash
attention with their own first columns and lengths, out of the very buffers that they lie in; where that kernel isn't, the
heads that share keys and values are taken for so many queries. A torch module; takes the place of transformers'
``sdpa``, which still does everything else.
"""

from __future__ import annotations

import functools
import inspect
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

_LEAST_CAPABILITY = (8, 0)
_LARGEST_HEAD = 256
_PROOF_BOUND = 0.02  # relative error in bf16
_state = threading.local()
_proved: dict[tuple[Any, ...], bool] = {}


class Columns:
    """Where rows lie in a cache that is padded on the left. ``first`` int32 [rows]: the first column of each."""

    def __init__(self, first: torch.Tensor) -> None:
        self.first = first
        self._rows = torch.arange(len(first), dtype=torch.int32, device=first.device)
        self._one_each = torch.arange(len(first) + 1, dtype=torch.int32, device=first.device)
        self._width = self._capacity = 0
        self._used = self._starts = first

    def hold(self, states: torch.Tensor) -> bool:
        """Whether these keys or values are of the rows and lie so that the kernel can read them."""
        return states.shape[0] == len(self.first) and _lies_flat(states)

    def attend(self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scaling: float | None) -> torch.Tensor:
        """One query a row [rows, heads, 1, size] over [rows, shared heads, columns, size] in ``GrowingLayer``'s buffers."""
        rows, heads, _, size = query.shape
        shared, width = key.shape[1:3]
        capacity = key.stride(0) // (shared * size)
        if width != self._width:
            self._width, self._used = width, width - self.first
        if capacity != self._capacity:
            self._capacity = capacity
            starts = self.first + self._rows * capacity
            self._starts = torch.cat([starts, starts.new_full((1,), rows * capacity)])
        keys, values = (
            part.as_strided((rows * capacity, shared, size), (shared * size, size, 1), part.storage_offset())
            for part in (key, value)
        )
        queries = query.reshape(rows, heads, size)
        found = _varlen(queries, keys, values, self._one_each, self._starts, width, self._used, scaling)
        return found.unsqueeze(1)


def _varlen(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, one_each: torch.Tensor, starts: torch.Tensor, longest: int,
    used: torch.Tensor, scaling: float | None,
) -> torch.Tensor:  # fmt: skip
    """torch's kernel by its public door where that takes lengths (torch 2.13), else by its operator."""
    from torch.nn.attention.varlen import varlen_attn

    found: torch.Tensor
    if _takes_lengths(varlen_attn):
        grouped = query.shape[1] != key.shape[1]
        found = varlen_attn(query, key, value, one_each, starts, 1, longest, scale=scaling, seqused_k=used, enable_gqa=grouped)
        return found
    forward = torch.ops.aten._flash_attention_forward.default
    found = forward(query, key, value, one_each, starts, 1, longest, 0.0, False, False, scale=scaling, seqused_k=used)[0]
    return found


@functools.cache
def _takes_lengths(varlen_attn: Any) -> bool:
    return "seqused_k" in inspect.signature(varlen_attn).parameters


@contextmanager
def lying_in(columns: Columns | None) -> Iterator[None]:
    """Inside the block, decoding steps in this thread know where rows lie; none: they don't."""
    _state.columns = columns
    try:
        yield
    finally:
        _state.columns = None


def attend(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, mask: torch.Tensor | None, scaling: float | None
) -> torch.Tensor:
    """One query a row [rows, heads, 1, size] over keys and values [rows, shared heads, columns, size]: [rows, 1, heads, size].

    ``mask``: bool or added, [rows or 1, 1, 1, columns].
    """
    rows, heads, _, size = query.shape
    shared = key.shape[1]
    queries = query.reshape(rows, shared, heads // shared, size)
    found = torch.nn.functional.scaled_dot_product_attention(queries, key, value, attn_mask=mask, scale=scaling)
    return found.reshape(rows, 1, heads, value.shape[-1])


def token_first(shape: tuple[int, ...], like: torch.Tensor) -> torch.Tensor:
    """An uninitialised buffer [rows, heads, columns, size] in which a column's heads lie together, as the kernel wants it."""
    rows, heads, columns, size = shape
    return like.new_empty((rows, columns, heads, size)).transpose(1, 2)


def register() -> None:
    """Take the place of ``sdpa`` in transformers, for the whole process; a second call does nothing."""
    from transformers import AttentionInterface
    from transformers.integrations.sdpa_attention import sdpa_attention_forward

    if getattr(AttentionInterface._global_mapping.get("sdpa"), "knows_columns", False):
        return

    def attention(
        module: Any, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, attention_mask: torch.Tensor | None,
        *args: Any, **kwargs: Any,
    ) -> tuple[torch.Tensor, None]:  # fmt: skip
        asked = kwargs.get("softcap") is not None or kwargs.get("position_bias") is not None or kwargs.get("dropout")
        masked = attention_mask is not None and attention_mask.shape[1:3] == (1, 1)
        if query.device.type != "cuda" or query.shape[2] != 1 or not masked or args or asked:
            found: tuple[torch.Tensor, None] = sdpa_attention_forward(module, query, key, value, attention_mask, *args, **kwargs)
            return found
        scaling, columns = kwargs.get("scaling"), getattr(_state, "columns", None)
        if columns is not None and columns.hold(key) and columns.hold(value) and proved(query, key):
            return columns.attend(query, key, value, scaling), None
        return attend(query, key, value, attention_mask, scaling), None

    attention.knows_columns = True  # type: ignore[attr-defined]
    AttentionInterface.register("sdpa", attention)


def _lies_flat(states: torch.Tensor) -> bool:
    """Whether a column's heads lie together (``token_first``)."""
    _, heads, _, size = states.shape
    strides = [int(stride) for stride in states.stride()]
    return strides[1:] == [size, heads * size, 1] and strides[0] % (heads * size) == 0


def proved(query: torch.Tensor, key: torch.Tensor) -> bool:
    """Whether the kernel is there and right on this device, for these shapes: asked once, on random rows."""
    heads, size, shared = query.shape[1], query.shape[3], key.shape[1]
    kind = (query.device, query.dtype, heads, shared, size)
    if kind not in _proved:
        _proved[kind] = _prove(query.device, query.dtype, heads, shared, size)
    return _proved[kind]


def _prove(device: torch.device, dtype: torch.dtype, heads: int, shared: int, size: int) -> bool:
    if dtype not in (torch.bfloat16, torch.float16) or size > _LARGEST_HEAD or size % 8:
        return False
    if torch.cuda.get_device_capability(device) < _LEAST_CAPABILITY:
        return False
    try:
        with torch.random.fork_rng([device]):
            query, whole = torch.randn(3, heads, 1, size, device=device, dtype=dtype), torch.randn(2, device=device, dtype=dtype)
            key, value = (token_first((3, shared, 90, size), whole).normal_()[:, :, :70] for _ in range(2))
        first = torch.tensor([0, 13, 69], dtype=torch.int32, device=device)
        mask = (torch.arange(70, device=device) >= first.unsqueeze(1))[:, None, None, :]
        wanted = attend(query.float(), key.float(), value.float(), mask, None)
        error = (Columns(first).attend(query, key, value, None).float() - wanted).norm() / wanted.norm()
        return bool(error < _PROOF_BOUND)
    except torch.OutOfMemoryError:  # says nothing of the kernel: the batch is made smaller, and it is asked again
        raise
    except Exception:  # a kernel that isn't there, or doesn't know this card: the masked way is
        return False
