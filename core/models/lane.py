"""The fast lane of one row: keys and values in fixed buffers, and its decoding step captured once and replayed.

A decoding step of one row launches over a thousand small kernels, and launching them takes longer than running them. On
a GPU the step is therefore captured as a CUDA graph (one launch), one graph a width of the buffers and an adapter. Until
a graph is captured the same step runs uncaptured, at the plain speed, so that nobody waits for a warm-up. Where
capturing fails the rows go on without it, and ``state`` says why. A torch module; used by the thread that owns the
model; knows nothing of requests.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from typing import Any

import torch
from transformers.cache_utils import Cache, DynamicLayer

Select = Callable[[], tuple[Callable[..., Any], dict[str, Any]]]
"""Makes the adapter ready; the model to call, and its further arguments (``Adapters.select``)."""
WIDTHS = (256, 512, 1024, 2048, 4096, 8192, 16384)
"""Columns of the buffers that a graph reads: the smallest that holds the row, so that short rows don't pay for long ones."""
WARM_STEPS = 2
"""Uncaptured steps before the capture: libraries load their kernels and set up workspaces, which a capture forbids."""
MEMORY_SHARE = 0.08
"""Of the free memory, what the buffers may take."""


class FixedLayer(DynamicLayer):  # type: ignore[misc]
    """One layer's keys and values [1, heads, width, size], written in place at ``place`` (int64 [1], on the device)."""

    def __init__(self, keys: torch.Tensor, values: torch.Tensor, place: torch.Tensor) -> None:
        super().__init__()
        self.keys, self.values, self._place = keys, values, place
        self.device, self.dtype, self.is_initialized = keys.device, keys.dtype, True

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *_: Any, **__: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Write one column; all columns are given back, and the mask hides those to come."""
        assert self.keys is not None
        assert self.values is not None
        self.keys.index_copy_(2, self._place, key_states)
        self.values.index_copy_(2, self._place, value_states)
        return self.keys, self.values

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        """Columns, and the offset of the first."""
        assert self.keys is not None
        return int(self.keys.shape[2]), 0

    def get_seq_length(self) -> int:
        """Positions are always passed in."""
        return 0


class Lane:
    """Room for one row at a time. ``capture``: use CUDA graphs; otherwise every step runs as it is (to test, on a CPU)."""

    def __init__(self, device: torch.device, cache_name: str, *, capacity: int, bytes_per_token: int, capture: bool) -> None:
        self.device, self.capture = device, capture
        self.reason = ""  # why nothing is captured any more
        self._cache_name, self._capacity, self._bytes = cache_name, capacity, max(1, bytes_per_token)
        self._owner: weakref.ref[Any] | None = None
        self._layers: list[tuple[torch.Tensor, torch.Tensor]] = []
        self._warmed: dict[tuple[int, str | None], int] = {}
        self._graphs: dict[tuple[int, str | None], torch.cuda.CUDAGraph] = {}
        self._pool: Any = None
        self._stream: Any = None
        self._logits: torch.Tensor | None = None
        self._length = 0  # columns that are written

    @property
    def graphs(self) -> int:
        """How many are captured."""
        return len(self._graphs)

    @property
    def state(self) -> str:
        """How single rows are decoded, for people."""
        if self.reason:
            return f"plain steps: no CUDA graph ({self.reason})"
        if not self.capture:
            return "steps over fixed buffers, uncaptured"
        return f"CUDA graphs ({self.graphs} captured)" if self.graphs else "CUDA graphs, warming up while plain steps answer"

    @property
    def usable(self) -> bool:
        """Whether there is anything to win here."""
        return not self.reason and self._capacity > 0

    def holds(self, owner: object) -> bool:
        """Whether ``owner`` has the lane."""
        return self._owner is not None and self._owner() is owner

    def enter(self, owner: object, layers: Sequence[tuple[torch.Tensor, torch.Tensor]], length: int, most: int) -> bool:
        """Take over a row's keys and values ([1, heads, length, size] a layer); ``most``: columns it may come to need.

        False where another row is in the lane, or this one could become too long for it.
        """
        held = self._owner() if self._owner is not None else None
        if not self.usable or (held is not None and held is not owner) or most > self._room():
            return False
        if not self._layers and not self._allocated(layers):
            return False
        for (keys, values), (own_keys, own_values) in zip(layers, self._layers, strict=True):
            own_keys[:, :, :length].copy_(keys)
            own_values[:, :, :length].copy_(values)
        self._mask.zero_()
        self._mask[..., :length] = True
        self._place.fill_(length)
        self._length, self._owner = length, weakref.ref(owner)
        return True

    def leave(self) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """The row's keys and values, copied; the lane is free for another."""
        self._owner = None
        return [(keys[:, :, : self._length].clone(), values[:, :, : self._length].clone()) for keys, values in self._layers]

    def give_up(self) -> None:
        """The row has ended; nothing of it is needed any more."""
        self._owner = None

    def step(self, token: int, adapter: str | None, select: Select) -> torch.Tensor:
        """Logits [1, vocabulary] after ``token``; valid until the next step."""
        width = next(w for w in self._widths() if w > self._length)
        key = (width, adapter)
        self._ids.fill_(token)
        graph = self._graphs.get(key)
        if graph is None and self.capture and self._warmed.get(key, 0) >= WARM_STEPS:
            graph = self._captured(key, select)
        if graph is not None:
            with torch.cuda.device(self.device):
                graph.replay()
        else:
            self._run(width, *select())
            self._warmed[key] = self._warmed.get(key, 0) + 1
        self._length += 1
        assert self._logits is not None
        return self._logits

    def forget(self, adapter: str | None) -> None:
        """An adapter's weights went or came anew: its graphs read memory that isn't theirs."""
        for key in [key for key in self._graphs if key[1] == adapter]:
            self._graphs.pop(key).reset()
        self._warmed = {key: count for key, count in self._warmed.items() if key[1] != adapter}

    def clear(self) -> None:
        """Free all memory."""
        for graph in self._graphs.values():
            graph.reset()
        self._graphs.clear()
        self._warmed.clear()
        self._layers, self._pool, self._stream, self._logits, self._owner = [], None, None, None, None
        self._ids = self._place = self._mask = torch.empty(0)

    def _run(self, width: int, forward: Callable[..., Any], arguments: dict[str, Any]) -> None:
        layers = [FixedLayer(keys[:, :, :width], values[:, :, :width], self._place) for keys, values in self._layers]
        self._mask.index_fill_(3, self._place, True)
        output = forward(
            input_ids=self._ids,
            attention_mask=self._mask[..., :width],
            position_ids=self._place.unsqueeze(0),
            use_cache=True,
            logits_to_keep=1,
            **{self._cache_name: Cache(layers=layers)},
            **arguments,
        )
        last = output.logits[:, -1]
        if self._logits is None:
            self._logits = torch.empty_like(last)
        self._logits.copy_(last)
        self._place.add_(1)

    def _captured(self, key: tuple[int, str | None], select: Select) -> torch.cuda.CUDAGraph | None:
        """The step as a graph; none, with ``reason`` set, where it can't be captured. Nothing is computed here."""
        forward, arguments = select()
        try:
            with torch.cuda.device(self.device):
                graph = torch.cuda.CUDAGraph()
                if self._pool is None:
                    self._pool, self._stream = torch.cuda.graph_pool_handle(), torch.cuda.Stream(self.device)
                capture = torch.cuda.graph(graph, pool=self._pool, stream=self._stream, capture_error_mode="thread_local")
                with torch.cuda.stream(self._stream), capture:  # the outer one restores the stream where a capture breaks off
                    self._run(key[0], forward, arguments)
        except Exception as error:  # whatever a model does that can't be captured: it answers without
            self.reason = next((line for line in str(error).splitlines() if line.strip()), repr(error))[:200]
            error.__traceback__ = None
            return None
        self._graphs[key] = graph
        return graph

    def _widths(self) -> list[int]:
        return [*(w for w in WIDTHS if w < self._capacity), self._capacity]

    def _room(self) -> int:
        """Columns there are, or would be."""
        if self._layers:
            return self._capacity
        if self.device.type == "cuda":
            free = torch.cuda.mem_get_info(self.device)[0]
            self._capacity = min(self._capacity, int(free * MEMORY_SHARE) // self._bytes // 8 * 8)
        return self._capacity

    def _allocated(self, layers: Sequence[tuple[torch.Tensor, torch.Tensor]]) -> bool:
        """Make the buffers; False, with ``reason`` set, where there is no memory for them: rows go the plain way."""
        try:
            self._allocate(layers)
        except (torch.OutOfMemoryError, MemoryError):
            self._layers, self.reason = [], "no memory for its buffers"
            return False
        return True

    def _allocate(self, layers: Sequence[tuple[torch.Tensor, torch.Tensor]]) -> None:
        def room(like: torch.Tensor) -> torch.Tensor:
            return like.new_zeros((1, like.shape[1], self._capacity, like.shape[3]))

        self._layers = [(room(keys), room(values)) for keys, values in layers]
        self._mask = torch.zeros((1, 1, 1, self._capacity), dtype=torch.bool, device=self.device)
        self._place = torch.zeros(1, dtype=torch.long, device=self.device)
        self._ids = torch.zeros((1, 1), dtype=torch.long, device=self.device)


def lane_for(loaded: Any, config: Any, cache_name: str, bytes_per_token: int, *, capture: bool | None) -> Lane | None:
    """A lane where one can be used; ``capture`` none: on a GPU, unless the model is spread over devices or in int8.

    int8 looks for outliers on the host at each layer, which no graph can hold.
    """
    sdpa = getattr(config, "_attn_implementation", "") == "sdpa"
    auto = loaded.device.type == "cuda" and loaded.ref.quantisation != "int8"
    if is_spread(loaded.model) or not sdpa or (not auto if capture is None else False):
        return None
    capacity = min(WIDTHS[-1], int(getattr(config, "max_position_embeddings", 0) or WIDTHS[-1]))
    captures = auto if capture is None else capture
    return Lane(loaded.device, cache_name, capacity=capacity, bytes_per_token=bytes_per_token, capture=captures)


def is_spread(model: Any) -> bool:
    """Whether a model lies on more than one device."""
    return len(set((getattr(model, "hf_device_map", None) or {}).values())) > 1
