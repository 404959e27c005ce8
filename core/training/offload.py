"""Inputs of recomputed layers lie in the host's memory between a forward pass and its backward pass. A torch module.

Under gradient checkpointing a layer's input is all that is kept of it: [tokens, width] a layer, which for long passes is what
fills a small GPU. Here each is copied away on a stream of its own while its layer computes, and fetched while the layer behind
it goes backward, so that the GPU hardly waits (as in Ren et al. 2021, ZeRO-Offload). Knows nothing of layers: what is kept in the
block and is of an input's kind goes.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch


class _Away:
    """A tensor in the host's memory; ``here``: on its way back, with what tells that it has come."""

    def __init__(self, host: torch.Tensor, number: int) -> None:
        self.host, self.number = host, number
        self.here: tuple[torch.Tensor, Any] | None = None


class LayerInputs:
    """What a pass keeps of at least ``least`` numbers with the last dimension ``width`` goes to the host and comes back.

    ``most``: numbers of the largest; buffers in the host's memory are made for so many of ``dtype`` when they are first needed,
    and used again by later passes.
    """

    def __init__(self, device: torch.device, width: int, most: int, dtype: torch.dtype, least: int = 2**18) -> None:
        self.device, self.width, self.most, self.dtype, self.least = device, width, most, dtype, least
        self._buffers: list[torch.Tensor] = []
        self._away: list[_Away] = []
        self._stream = torch.cuda.Stream(device) if device.type == "cuda" else None

    @contextmanager
    def away(self) -> Iterator[None]:
        """Around a forward pass alone: its backward pass fetches what it kept."""
        self._away = []
        with torch.autograd.graph.saved_tensors_hooks(self._send, self._fetch):
            yield

    def _send(self, tensor: torch.Tensor) -> Any:
        if not self._is_input(tensor):
            return tensor
        found = _Away(self._buffer(tensor), len(self._away))
        self._away.append(found)
        self._after_all_before()
        with self._beside():
            found.host.copy_(tensor, non_blocking=True)
        if self._stream is not None:
            tensor.record_stream(self._stream)
        return found

    def _fetch(self, kept: Any) -> torch.Tensor:
        if not isinstance(kept, _Away):
            return kept
        self._start(kept)
        assert kept.here is not None
        (found, come), kept.here = kept.here, None
        if kept.number and self._away[kept.number] is kept:
            self._start(self._away[kept.number - 1])  # the next to be asked for
        if come is not None:
            torch.cuda.current_stream(self.device).wait_event(come)
        return found

    def _start(self, kept: _Away) -> None:
        """Begin to fetch a tensor, unless it is on its way."""
        if kept.here is not None:
            return
        found = torch.empty(kept.host.shape, dtype=kept.host.dtype, device=self.device)
        self._after_all_before()
        with self._beside():
            found.copy_(kept.host, non_blocking=True)
        if self._stream is None:
            kept.here = found, None
            return
        found.record_stream(self._stream)
        kept.here = found, self._stream.record_event()

    def _is_input(self, tensor: torch.Tensor) -> bool:
        large = self.least <= tensor.numel() <= self.most and tensor.shape[-1:] == (self.width,)
        return bool(large and tensor.dtype == self.dtype and tensor.device == self.device)

    def _buffer(self, tensor: torch.Tensor) -> torch.Tensor:
        number = len(self._away)
        if number == len(self._buffers):
            pinned = self._stream is not None
            self._buffers.append(torch.empty(self.most, dtype=self.dtype, pin_memory=pinned))
        return self._buffers[number][: tensor.numel()].view(tensor.shape)

    def _after_all_before(self) -> None:
        if self._stream is not None:
            self._stream.wait_stream(torch.cuda.current_stream(self.device))

    def _beside(self) -> Any:
        return torch.cuda.stream(self._stream) if self._stream is not None else nullcontext()
