"""LoRA adapters computed beside their base: each row of a batch with its own, or none, in two products a layer.

peft computes a mixed batch adapter by adapter, with a gather and a scatter around each (as slow as passes one after another
where launches are what takes time). Here the matrices of all adapters of a layer lie side by side and one mask
puts out what isn't a row's own:

    y = x Wᵀ + b + ((x Aᵀ) · mask) Bᵀ      A [ranks of all, in], B [out, ranks of all] times each adapter's scaling, mask 0 or 1

so a batch costs the same whatever is mixed in it, and a row without an adapter gets the base's answer exactly. One
adapter for all rows goes without a mask. DoRA, biases, trained embeddings and the like stay peft's. A torch module; knows
nothing of folders and requests.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch.nn.functional import linear

_Matrices = tuple[torch.Tensor, torch.Tensor]
_Layout = tuple[tuple[str, int], ...]
"""Adapters of a layer and their ranks, in the order of their columns."""


class Mixing:
    """The adapters on the layers of one peft model, ``layers`` being peft's own. Sets these layers' forward passes."""

    def __init__(self, layers: Sequence[Any]) -> None:
        self._layers = [_Layer(layer, self) for layer in layers]
        self._unknown = {name for layer in self._layers for name in layer.unknown}
        self.masks: dict[_Layout, torch.Tensor] | None = None  # of the rows of a mixed batch
        self.name: str | None = None
        self.on = False
        self._rows: tuple[str | None, ...] = ()

    def knows(self, names: Sequence[str | None]) -> bool:
        """Whether all of these adapters can be computed here."""
        return self._unknown.isdisjoint(names)

    def use(self, names: Sequence[str | None]) -> None:
        """From now on rows have these adapters: one name for all rows, or a name a row."""
        self.on = True
        if len(set(names)) == 1:
            self.name, self.masks = names[0], None
            return
        rows = tuple(names)
        if self.masks is None or rows != self._rows:
            self._rows, self.masks = rows, {}
        self.name = None

    def off(self) -> None:
        """From now on peft computes."""
        self.on = False

    def mask(self, layout: _Layout, like: torch.Tensor) -> torch.Tensor:
        """[rows, 1, ranks]: 1 in the columns of a row's own adapter."""
        assert self.masks is not None
        if layout not in self.masks:
            owners = [name for name, rank in layout for _ in range(rank)]
            names = list(dict.fromkeys(self._rows))
            own = torch.tensor([[owner == name for owner in owners] for name in names], dtype=like.dtype)
            place = {name: number for number, name in enumerate(names)}
            rows = own[torch.tensor([place[name] for name in self._rows])]
            self.masks[layout] = rows.unsqueeze(1).to(like.device)
        return self.masks[layout]

    def undo(self) -> None:
        """Give the layers their own forward passes again."""
        for layer in self._layers:
            layer.undo()


class _Layer:
    """One of peft's linear layers."""

    def __init__(self, module: Any, mixing: Mixing) -> None:
        self._module, self._mixing = module, mixing
        self._before = module.forward
        self._own: dict[str, tuple[torch.Tensor, torch.Tensor, float]] = {}
        self._all: tuple[_Layout, _Matrices] | None = None
        self._base = module.get_base_layer()
        module.forward = self._forward

    @property
    def unknown(self) -> list[str]:
        """Adapters of the layer that do more than is computed here."""
        module = self._module
        turned = getattr(module, "fan_in_fan_out", False)
        return [name for name in module.lora_A if turned or name in module.lora_variant or module.lora_bias.get(name)]

    def undo(self) -> None:
        vars(self._module).pop("forward", None)

    def _forward(self, x: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        mixing = self._mixing
        if args or kwargs or not mixing.on:
            found: torch.Tensor = self._before(x, *args, **kwargs)
            return found
        answer: torch.Tensor = self._base(x)
        if mixing.masks is None:
            if mixing.name is None or (own := self._of(mixing.name)) is None:
                return answer
            a, b, scaling = own
            return _added(answer, linear(x.to(a.dtype), a), b, scaling)
        layout, (a, b) = self._together()
        if not layout:
            return answer
        inner = linear(x.to(a.dtype), a)
        return _added(answer, inner * mixing.mask(layout, inner), b, 1.0)

    def _of(self, name: str) -> tuple[torch.Tensor, torch.Tensor, float] | None:
        if name not in self._own and name in self._module.lora_A:
            module = self._module
            self._own[name] = module.lora_A[name].weight, module.lora_B[name].weight, float(module.scaling[name])
        return self._own.get(name)

    def _together(self) -> tuple[_Layout, _Matrices]:
        """The layout, and the matrices of all adapters."""
        if self._all is None:
            unknown = self.unknown
            names = [name for name in self._module.lora_A if name not in unknown]
            parts = [part for name in names if (part := self._of(name)) is not None]
            layout = tuple((name, int(part[0].shape[0])) for name, part in zip(names, parts, strict=True))
            nothing = torch.empty(0)
            a = torch.cat([part[0] for part in parts]) if parts else nothing
            b = torch.cat([part[1] * part[2] for part in parts], dim=1) if parts else nothing
            self._all = layout, (a, b)
        return self._all


def _added(answer: torch.Tensor, inner: torch.Tensor, b: torch.Tensor, scaling: float) -> torch.Tensor:
    """answer + scaling · inner bᵀ; ``answer`` [rows, tokens, out] is written over where it can be."""
    if answer.dtype != b.dtype or not answer.is_contiguous():
        return answer + scaling * linear(inner, b).to(answer.dtype)
    answer.view(-1, answer.shape[-1]).addmm_(inner.reshape(-1, inner.shape[-1]), b.T, alpha=scaling)
    return answer


def mixing_of(layers: Sequence[Any]) -> Mixing | None:
    """A mixing of these peft layers; none where one of them is of a kind that it doesn't compute."""
    from peft.tuners.lora import layer as peft_layer

    kinds: tuple[type, ...] = (peft_layer.Linear,)
    try:
        from peft.tuners.lora.bnb import Linear4bit, Linear8bitLt

        kinds += (Linear4bit, Linear8bitLt)
    except ImportError:
        pass
    return Mixing(layers) if layers and all(type(layer) in kinds for layer in layers) else None
