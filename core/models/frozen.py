"""Frozen linear layers' weights as matrices, out of NF4 where they are quantised. A torch module.

A double-quantised weight has a scale for each 64 numbers, itself in 8 bits. bitsandbytes unpacks those scales anew at every
product, in two kernels for each weight beside the one that unpacks the weight itself; to keep them all would take 0.4 GB at
7B. Here the scales of a whole decoder layer are unpacked in two kernels when its first weight is asked for, and last until
another layer's turn comes; and weights are unpacked into one buffer. Knows nothing of adapters.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

import torch

_BLOCK_NAME = re.compile(r"^(.*\.(\d+))\.")


class Workspace:
    """What the frozen weights of a model share: a buffer to unpack into, and the scales of the layer whose turn it is.

    A weight that was unpacked is good until the next one is: products are made in turn, on one stream.
    """

    def __init__(self) -> None:
        self.turn: BlockScales | None = None
        self._buffer: torch.Tensor | None = None

    def matrix(self, shape: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> torch.Tensor:
        """Room for a matrix of the shape, uninitialised."""
        count = shape[0] * shape[1]
        buffer = self._buffer
        if buffer is None or buffer.dtype != dtype or buffer.device != device or buffer.numel() < count:
            self._buffer = buffer = None  # frees the old one first
            with torch.inference_mode(False):  # it may be written to outside
                self._buffer = buffer = torch.empty(count, dtype=dtype, device=device)
        return buffer[:count].view(shape)

    def clear(self) -> None:
        """Let go of both."""
        self.turn = self._buffer = None


class FrozenWeight:
    """The weight [out, in] and bias of a linear layer that doesn't learn."""

    def __init__(self, layer: Any, workspace: Workspace) -> None:
        self.layer = layer
        self.width = int(layer.out_features)
        self.quantised = hasattr(layer, "compute_dtype")
        self.scales: BlockScales | None = None
        self._workspace = workspace
        self._kept: torch.Tensor | None = None

    @property
    def dtype(self) -> torch.dtype:
        """The number format of the layer's products where nothing else is asked for."""
        return (getattr(self.layer, "compute_dtype", None) if self.quantised else None) or self.layer.weight.dtype

    def compute_dtype(self, x: torch.Tensor) -> torch.dtype:
        """The number format that the layer's product with ``x`` is made in."""
        if torch.is_autocast_enabled(x.device.type):
            return torch.get_autocast_dtype(x.device.type)
        return (getattr(self.layer, "compute_dtype", None) if self.quantised else None) or x.dtype

    def weight(self, dtype: torch.dtype) -> torch.Tensor:
        """[out, in]; of a quantised layer that isn't kept good until the next weight of the workspace is asked for."""
        if not self.quantised:
            return self.layer.weight.detach().to(dtype)
        if self._kept is not None and self._kept.dtype == dtype:
            return self._kept
        packed, state = self.layer.weight.data, self.layer.weight.quant_state
        how = (state.blocksize, state.quant_type, state.shape, dtype)
        unpack = torch.ops.bitsandbytes.dequantize_4bit
        if packed.device.type != "cuda":  # the CPU's kernel knows no buffer
            return unpack.default(packed, self._absmax(state), *how)
        matrix = self._workspace.matrix(tuple(state.shape), dtype, packed.device)
        unpack.out(packed, self._absmax(state), *how, out=matrix)
        return matrix

    def keep(self, dtype: torch.dtype) -> None:
        """Have the weight of a quantised layer lie unpacked from now on, 2 bytes a number in 16 bits; the packed one stays."""
        self._kept = None
        if self.quantised:
            self._kept = self.weight(dtype).clone()

    def let_go(self) -> None:
        """Unpack it anew each time again."""
        self._kept = None

    def bias(self, dtype: torch.dtype) -> torch.Tensor | None:
        """[out], or none."""
        return None if self.layer.bias is None else self.layer.bias.detach().to(dtype)

    def trains(self) -> bool:
        """Whether the layer lies so that gradients through it are right (``core.models.cpu4bit``)."""
        return not self.quantised or not getattr(self.layer.weight.quant_state, "packing_format_for_cpu", False)

    def _absmax(self, state: Any) -> torch.Tensor:
        """The largest number of each block, float32."""
        if not state.nested:
            return state.absmax
        if self.scales is not None and (found := self.scales.of(state, self._workspace)) is not None:
            return found
        return _unpack_scales(state.absmax, state.state2) + state.offset


class BlockScales:
    """The doubly quantised scales of the weights of one decoder layer, laid end to end so that they are unpacked at once."""

    def __init__(self, states: Sequence[Any]) -> None:
        whole = torch.cat([state.absmax for state in states])
        second = torch.cat([state.state2.absmax for state in states])
        self._whole, self._second, self._state2 = whole, second, states[0].state2
        self._offsets = [float(state.offset) for state in states]
        self._views = whole.split([len(state.absmax) for state in states])
        seconds = second.split([len(state.state2.absmax) for state in states])
        for state, first, last in zip(states, self._views, seconds, strict=True):
            state.absmax, state.state2.absmax = first, last  # the same numbers, held once
            state.joined = self
        self._found: Sequence[torch.Tensor] = ()

    def of(self, state: Any, workspace: Workspace) -> torch.Tensor | None:
        """The float32 scales of a weight; none if it was quantised anew since."""
        place = next((number for number, view in enumerate(self._views) if view is state.absmax), None)
        if place is None:
            return None
        if workspace.turn is not self or not self._found:  # another workspace may have taken them since
            if workspace.turn is not None:
                workspace.turn._found = ()
            scales = _unpack_scales(self._whole, self._state2, self._second)
            self._found = scales.split([len(view) for view in self._views])
            torch._foreach_add_(list(self._found), self._offsets)
            workspace.turn = self
        return self._found[place]


def block_number(name: str) -> int | None:
    """Which decoder layer a module is in, by its name; none: in no such."""
    found = _BLOCK_NAME.match(name)
    return int(found[2]) if found else None


def join_scales(weights: Iterable[tuple[str, FrozenWeight]]) -> None:
    """Let the weights of each decoder layer, told by the number in their names, unpack their scales together."""
    blocks: dict[str, list[FrozenWeight]] = {}
    for name, weight in weights:
        if weight.quantised and (found := _BLOCK_NAME.match(name)):
            blocks.setdefault(found[1], []).append(weight)
    for found_weights in blocks.values():
        states = [weight.layer.weight.quant_state for weight in found_weights]
        joined = [weight for weight, state in zip(found_weights, states, strict=True) if _can_join(state, states[0])]
        if len(joined) > 1:
            states = [weight.layer.weight.quant_state for weight in joined]
            before = {id(getattr(state, "joined", None)): getattr(state, "joined", None) for state in states}
            known = next(iter(before.values())) if len(before) == 1 else None  # a training's, whose dev rows an engine answers
            scales = known or BlockScales(states)
            for weight in joined:
                weight.scales = scales


def _can_join(state: Any, first: Any) -> bool:
    """Whether scales may lie beside those of ``first``: whole blocks of the second level, the same code."""
    if not (state.nested and first.nested) or len(state.absmax) % state.state2.blocksize:
        return False
    one, other = state.state2, first.state2
    same = one.blocksize == other.blocksize and state.absmax.device == first.absmax.device
    return same and (one.code is other.code or torch.equal(one.code, other.code))


def _unpack_scales(absmax: torch.Tensor, second: Any, scales: torch.Tensor | None = None) -> torch.Tensor:
    """8-bit scales as float32, without the offset that was taken off them."""
    how = (second.code, second.blocksize, torch.float32)
    found: torch.Tensor = torch.ops.bitsandbytes.dequantize_blockwise.default(
        absmax, second.absmax if scales is None else scales, *how
    )
    return found
