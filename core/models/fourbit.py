"""4-bit layers on a GPU for many rows at once: unpacked into one buffer and multiplied, where that is quicker there.

bitsandbytes unpacks a weight's doubly quantised scales anew at every product, and its kernels are made for one row (which keeps
them) or very many. ``core.models.frozen`` unpacks a decoder layer's scales together. Which way is quicker differs by
card, shape and rows: both are timed once for each, on the rows that came, and what differs in its answer is never taken. A
torch module; knows nothing of adapters and requests.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import torch
from torch.nn.functional import linear

from core.models.frozen import FrozenWeight, Workspace, join_scales

LEAST_ROWS = 16
TIMES = 3
_BOUND = 0.05
"""Relative error in 16 bits beyond which the other way is not taken."""


class FourBitLayers:
    """The 4-bit layers of a model, their forward passes set. ``clock`` gives seconds after all work is done (for tests)."""

    def __init__(self, model: Any, clock: Callable[[], float] | None = None) -> None:
        workspace = Workspace()
        found = [(name, module) for name, module in model.named_modules() if _is_packed(module)]
        frozen = [(name, FrozenWeight(module, workspace)) for name, module in found]
        join_scales(frozen)
        self._clock = clock or _device_clock
        self._quicker: dict[tuple[int, ...], bool] = {}
        self._layers = [weight.layer for _, weight in frozen]
        for _, weight in frozen:
            weight.layer.forward = self._forward_of(weight, weight.layer.forward)

    def undo(self) -> None:
        """Give the layers their own forward passes again: a model may go on to be trained."""
        for layer in self._layers:
            vars(layer).pop("forward", None)
        self._layers = []

    @property
    def count(self) -> int:
        """Layers that are computed here."""
        return len(self._layers)

    @property
    def unpacked(self) -> list[tuple[int, ...]]:
        """Shapes (in, out, magnitude of rows in bits) for which unpacking was found quicker."""
        return [key for key, quicker in self._quicker.items() if quicker]

    def _forward_of(self, weight: FrozenWeight, before: Callable[[torch.Tensor], torch.Tensor]) -> Callable[..., torch.Tensor]:
        wide, out = int(weight.layer.in_features), weight.width

        def unpacked(x: torch.Tensor) -> torch.Tensor:
            dtype = weight.compute_dtype(x)
            return linear(x.to(dtype), weight.weight(dtype), weight.bias(dtype)).to(x.dtype)

        def forward(x: torch.Tensor) -> torch.Tensor:
            rows = x.numel() // wide
            if rows < LEAST_ROWS or x.requires_grad:
                return before(x)
            key = (wide, out, rows.bit_length())
            if key not in self._quicker:
                self._quicker[key] = self._compare(before, unpacked, x)
            return unpacked(x) if self._quicker[key] else before(x)

        return forward

    def _compare(self, before: Callable[..., torch.Tensor], unpacked: Callable[..., torch.Tensor], x: torch.Tensor) -> bool:
        """Whether unpacking says the same and is quicker."""
        try:
            wanted, found = before(x).float(), unpacked(x).float()
            if not (found - wanted).norm() <= _BOUND * wanted.norm():  # also where it is no number
                return False
            del wanted, found
            taken = []
            for way in (before, unpacked):
                began = self._clock()
                for _ in range(TIMES):
                    way(x)
                taken.append(self._clock() - began)
            return taken[1] < taken[0]
        except torch.OutOfMemoryError:
            raise
        except Exception:  # whatever a kernel says on a card that it doesn't know: bitsandbytes' own way is there
            return False


def _is_packed(module: Any) -> bool:
    """Whether it is bitsandbytes' own layer (peft's around it has the same name), its weight in 4 bits, nobody's forward set."""
    if type(module).__name__ != "Linear4bit" or not hasattr(module, "compute_dtype") or "forward" in vars(module):
        return False
    return getattr(module.weight, "quant_state", None) is not None


def _device_clock() -> float:
    torch.cuda.synchronize()
    return time.perf_counter()
