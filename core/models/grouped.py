"""Attention of a decoding step on a GPU: keys and values are read once, and only the columns that a row has.

Where a mask is given, older versions of transformers repeat keys and values for every query head that shares them (7 times at 7B
shape); here the heads that share them are taken for so many queries. And rows of a batch are padded to the longest on
the left: rows of like length lie together, so that they are taken in a few parts, each from its own first column on. A torch
module; takes the place of transformers' ``sdpa``, which still does everything else.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch

Part = tuple[int, int, int]
"""Rows from, to, and the first column that any of them has."""
CHUNK = 16
"""Rows that are never parted."""
MOST_PARTS = 4
ALIGNED = 8
"""Columns: first columns are multiples of it, as kernels want their masks."""
LEAST_SAVED = 0.15
_state = threading.local()


def parts_of(lengths: Sequence[int], width: int) -> list[Part]:
    """Runs of rows such that few columns are read in all; one where little would be saved. ``lengths``: columns a row has."""
    count = -(-len(lengths) // CHUNK)
    starts = [CHUNK * n for n in range(count)] + [len(lengths)]
    tallest = [max(lengths[starts[n] : starts[n + 1]]) for n in range(count)]
    if len(lengths) * width == 0 or len(lengths) <= CHUNK:
        return [(0, len(lengths), _column(max(lengths, default=0), width))]
    # best[k][n]: the fewest columns in which k parts hold the first n chunks, and where the last part begins
    best: list[list[tuple[int, int]]] = [[(0, 0)] + [(2**62, 0)] * count]
    for _ in range(MOST_PARTS):
        row = [(0, 0)]
        for end in range(1, count + 1):
            found, high = (2**62, 0), 0
            for begin in range(end - 1, -1, -1):
                high = max(high, tallest[begin])
                found = min(found, (best[-1][begin][0] + (starts[end] - starts[begin]) * high, begin))
            row.append(found)
        best.append(row)
    if best[MOST_PARTS][count][0] > (1 - LEAST_SAVED) * len(lengths) * max(lengths):
        return [(0, len(lengths), _column(max(lengths), width))]
    parts, end = [], count
    for level in range(MOST_PARTS, 0, -1):
        begin = best[level][end][1]
        if begin < end:
            parts.append((starts[begin], starts[end], _column(max(tallest[begin:end]), width)))
        end = begin
    return parts[::-1]


def _column(length: int, width: int) -> int:
    return max(0, width - length) // ALIGNED * ALIGNED


@contextmanager
def taken_in(parts: Sequence[Part], width: int) -> Iterator[None]:
    """Inside the block, steps over ``width`` columns in this thread take rows in these parts."""
    _state.parts, _state.width = parts, width
    try:
        yield
    finally:
        _state.parts = None


def attend(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, mask: torch.Tensor | None, scaling: float | None,
    parts: Sequence[Part] | None = None,
) -> torch.Tensor:  # fmt: skip
    """One query a row [rows, heads, 1, size] over keys and values [rows, shared heads, columns, size]: [rows, 1, heads, size].

    ``mask``: bool or added, [rows or 1, 1, 1, columns].
    """
    rows, heads, _, size = query.shape
    shared = key.shape[1]
    queries = query.reshape(rows, shared, heads // shared, size)
    if mask is not None and mask.shape[0] != rows:
        mask = mask.expand(rows, -1, -1, -1)
    found = [
        torch.nn.functional.scaled_dot_product_attention(
            queries[start:end],
            key[start:end, :, column:],
            value[start:end, :, column:],
            attn_mask=None if mask is None else mask[start:end, :, :, column:],
            scale=scaling,
        )
        for start, end, column in parts or [(0, rows, 0)]
    ]
    whole = found[0] if len(found) == 1 else torch.cat(found)
    return whole.reshape(rows, 1, heads, value.shape[-1])


def register() -> None:
    """Take the place of ``sdpa`` in transformers, for the whole process; a second call does nothing."""
    from transformers import AttentionInterface
    from transformers.integrations.sdpa_attention import sdpa_attention_forward

    if getattr(AttentionInterface._global_mapping.get("sdpa"), "takes_parts", False):
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
        parts = getattr(_state, "parts", None)
        if parts and (key.shape[2] != _state.width or parts[-1][1] != query.shape[0]):
            parts = None  # a layer that holds a window only
        return attend(query, key, value, attention_mask, kwargs.get("scaling"), parts), None

    attention.takes_parts = True  # type: ignore[attr-defined]
    AttentionInterface.register("sdpa", attention)
