"""Keys and values that grow in place: room is made for many columns at once, so that a step writes one column and copies none.

transformers' own layer copies all keys and values at every step (67 GB a step for 512 rows of 1,152 columns at 7B shape). A torch
module; knows nothing of requests.
"""

from __future__ import annotations

from typing import Any

import torch
from transformers.cache_utils import DynamicLayer

from core.models.grouped import token_first

ROOM = 64
"""Columns that are made room for at once beyond those that are written."""


class GrowingLayer(DynamicLayer):  # type: ignore[misc]
    """One layer's ``keys`` and ``values`` [rows, heads, columns, size], views of the written part of larger buffers.

    Whoever sets other tensors in their place (rows picked, columns cut off) needn't know of the buffers.
    """

    def __init__(self) -> None:
        super().__init__()
        self._buffers: tuple[torch.Tensor, torch.Tensor] | None = None

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *_: Any, **__: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Add columns; all that are written are given back."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        used, more = self.get_seq_length(), int(key_states.shape[2])
        if not used and more > 1:  # prompts: a batch that ends with its first token needs no more room
            self.keys, self.values, self._buffers = key_states, value_states, None
            return self.keys, self.values
        buffers = self._room(used + more, key_states, value_states)
        for buffer, states in zip(buffers, (key_states, value_states), strict=True):
            buffer[:, :, used : used + more] = states
        self.keys, self.values = (buffer[:, :, : used + more] for buffer in buffers)
        return self.keys, self.values

    def _room(self, columns: int, keys: torch.Tensor, values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Buffers with so many columns at least, the written ones in their places."""
        if self._buffers is not None and self._ours() and self._buffers[0].shape[2] >= columns:
            return self._buffers
        self._buffers = None
        used, made = self.get_seq_length(), []
        for states, held in ((keys, self.keys), (values, self.values)):
            buffer = token_first((*states.shape[:2], columns + ROOM, states.shape[3]), states)
            if used:
                buffer[:, :, :used] = held
            made.append(buffer)
        self._buffers = made[0], made[1]
        return self._buffers

    def _ours(self) -> bool:
        """Whether keys and values still are the buffers' written part."""
        assert self._buffers is not None
        pairs = zip((self.keys, self.values), self._buffers, strict=True)
        return all(
            held is not None
            and held.data_ptr() == buffer.data_ptr()
            and held.stride() == buffer.stride()
            and held.shape[0] == buffer.shape[0]
            for held, buffer in pairs
        )


def growing_cache(config: Any) -> Any:
    """transformers' cache for a model's configuration, its plain layers growing in place (those with windows stay)."""
    from transformers import DynamicCache

    cache = DynamicCache(config=config)
    if not cache.layers:  # nothing is known of this model's layers: they come one by one, plain
        cache.layer_class_to_replicate = GrowingLayer
    cache.layers = [GrowingLayer() if type(layer) is DynamicLayer else layer for layer in cache.layers]
    return cache
