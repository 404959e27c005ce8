"""Finds the LoRA layers of a peft model that can be computed fused, and sets their forward passes to it. A torch module.

Three forms: a feed-forward part (gate, up, down around silu), layers that share an input (query, key, value; gate and
up around another activation), and single layers. What they can't do stays peft's: DoRA, int8 bases, learnt biases, several
adapters at once; and so does every pass in eval mode, with the adapter switched off or merged. Weights, their names, saving and
loading are peft's as before.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch

from core.models.frozen import FrozenWeight, Workspace, block_number, join_scales
from core.training.fused_lora import LoraGroup, LoraLinear, LoraProducts
from core.training.fused_mlp import LoraMlp

_SHARING = (("q_proj", "k_proj", "v_proj"), ("gate_proj", "up_proj"))
_MLP = ("gate_proj", "up_proj", "down_proj")
_SILU = ("SiLU", "SiLUActivation")


class Fused:
    """The fused layers of a model. ``names`` are those of peft's modules that are computed here."""

    def __init__(self, workspace: Workspace) -> None:
        self.names: list[str] = []
        self.groups: list[LoraGroup] = []
        self.shared: list[_SharedInput] = []
        self.bases: dict[str, FrozenWeight] = {}
        self._workspace = workspace
        self._kept: list[FrozenWeight] = []

    def keep(self, layers: int, dtype: torch.dtype | None = None) -> int:
        """Have the 4-bit weights of the first so many decoder layers lie unpacked in the format of products; how many do.

        ``dtype``: none: the base's own. Where memory ends it ends too.
        """
        weights: dict[int, list[FrozenWeight]] = {}
        for name, base in self.bases.items():
            if base.quantised and (number := block_number(name)) is not None and number < layers:
                weights.setdefault(number, []).append(base)
        for done, number in enumerate(sorted(weights)):
            try:
                for base in weights[number]:
                    base.keep(dtype or base.dtype)
            except torch.OutOfMemoryError:
                for base in weights[number]:
                    base.let_go()
                return done
            self._kept += weights[number]
        return len(weights)

    def let_go(self) -> bool:
        """Unpack all weights anew each time again; whether any was kept."""
        kept, self._kept = self._kept, []
        for base in kept:
            base.let_go()
        return bool(kept)

    @contextmanager
    def held(self, autocast: torch.dtype | None = None) -> Iterator[None]:
        """Inside the block the matrices don't change, so that they are rounded to the format of products once.

        ``autocast``: that of the products; none: the base's own.
        """
        pairs = [group.hold(autocast or group.dtype) for group in self.groups]
        sources = [matrix for learnt, _ in pairs for matrix in learnt]
        places = [place for _, found in pairs for place in found]
        if places:
            torch._foreach_copy_(places, sources)
        try:
            yield
        finally:
            for group in self.groups:
                group.let_go()
            for shared in self.shared:
                shared.forget()
            self._workspace.clear()


def fuse(model: Any) -> Fused:
    """Compute what can be computed fused in a peft model; a second call does it anew. Nothing happens without LoRA."""
    unfuse(model)
    workspace = Workspace()
    fused = Fused(workspace)
    layers = {name: layer for name, module in model.named_modules() if (layer := _lora_linear(module, workspace))}
    fused.bases = {name: layer.base for name, layer in layers.items()}
    join_scales(fused.bases.items())
    for name, module in list(model.named_modules()):
        mlp = _of(layers, name, _MLP)
        if mlp and _is_silu(module) and _alike(mlp[:2]):
            _fuse_mlp(fused, module, mlp)
            _took(fused, layers, name, _MLP)
        for children in _SHARING:
            found = _of(layers, name, children)
            if found and _alike(found):
                _fuse_shared(fused, found)
                _took(fused, layers, name, children)
    for name, layer in list(layers.items()):
        _fuse_shared(fused, [layer])
        _took(fused, layers, "", (name,))
    return fused


def unfuse(model: Any) -> None:
    """Give the modules of a model their own forward passes again."""
    for module in model.modules():
        forward = vars(module).get("forward")
        if (before := getattr(forward, "before_fusing", None)) is not None:
            del module.forward
            if before != module.forward:
                module.forward = before


def _of(layers: dict[str, LoraLinear], parent: str, children: Sequence[str]) -> list[LoraLinear]:
    """The layers of a module's children; none unless all are there."""
    names = [f"{parent}.{child}" if parent else child for child in children]
    return [layers[name] for name in names] if all(name in layers for name in names) else []


def _took(fused: Fused, layers: dict[str, LoraLinear], parent: str, children: Sequence[str]) -> None:
    for child in children:
        name = f"{parent}.{child}" if parent else child
        fused.names.append(name)
        del layers[name]


def _lora_linear(module: Any, workspace: Workspace) -> LoraLinear | None:
    """What is needed to compute a peft module fused; none where it is something else or does more."""
    from peft.tuners.lora import layer as peft_layer

    kinds: tuple[type, ...] = (peft_layer.Linear,)
    try:
        from peft.tuners.lora.bnb import Linear4bit

        kinds += (Linear4bit,)
    except ImportError:
        pass
    if type(module) not in kinds or len(module.lora_A) != 1:
        return None
    adapter, base = next(iter(module.lora_A)), module.get_base_layer()
    quantised = type(base).__name__ == "Linear4bit" and getattr(base.weight, "quant_state", None) is not None
    if not (type(base) is torch.nn.Linear or quantised) or module.fan_in_fan_out:
        return None
    if any(p.requires_grad for p in base.parameters()) or module.lora_bias.get(adapter) or adapter in module.lora_variant:
        return None
    if module._forward_hooks or module._forward_pre_hooks or not module.lora_A[adapter].weight.requires_grad:
        return None
    return LoraLinear(module, adapter, workspace)


def _alike(layers: Sequence[LoraLinear]) -> bool:
    """Whether layers may share an input's products: equal ranks and one dropout."""
    return len({(layer.a.shape[0], layer.dropout, layer.a.dtype) for layer in layers}) == 1


def _is_silu(module: Any) -> bool:
    """Whether a feed-forward part is down(silu(gate(x)) · up(x)) as in Llama, by what it holds."""
    activation = getattr(module, "act_fn", None)
    return type(activation).__name__ in _SILU and {name for name, _ in module.named_children()} <= {*_MLP, "act_fn"}


def _set(module: Any, forward: Callable[..., Any]) -> None:
    forward.before_fusing = module.forward  # type: ignore[attr-defined]
    module.forward = forward


def _fuse_mlp(fused: Fused, module: Any, layers: Sequence[LoraLinear]) -> None:
    mlp = LoraMlp(LoraGroup(layers[:2]), LoraGroup(layers[2:]))
    before = module.forward

    def forward(x: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        if args or kwargs or not all(layer.ready for layer in layers):
            found: torch.Tensor = before(x, *args, **kwargs)
            return found
        return mlp(x)

    fused.groups += [mlp.gate_up, mlp.down]
    _set(module, forward)


def _fuse_shared(fused: Fused, layers: Sequence[LoraLinear]) -> None:
    shared = _SharedInput(LoraGroup(layers))
    fused.groups.append(shared.group)
    fused.shared.append(shared)
    for number, layer in enumerate(layers):
        _set(layer.module, shared.forward_of(number, layer.module.forward))


class _SharedInput:
    """Computes a group's layers when the first of them is called, and hands out the answers to those that come after."""

    def __init__(self, group: LoraGroup) -> None:
        self.group = group
        self._x: torch.Tensor | None = None
        self._answers: dict[int, torch.Tensor] = {}

    def forget(self) -> None:
        """Let go of answers that nobody fetched."""
        self._x, self._answers = None, {}

    def forward_of(self, number: int, before: Callable[..., Any]) -> Callable[..., Any]:
        """The forward pass of the group's layer of that number."""

        def forward(x: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
            if args or kwargs or not all(layer.ready for layer in self.group.layers):
                return before(x, *args, **kwargs)
            if x is not self._x or number not in self._answers:
                self._answers = dict(enumerate(LoraProducts.apply(x, self.group, *self.group.matrices)))
                self._x = x
            answer = self._answers.pop(number)
            if not self._answers:
                self._x = None
            return answer

        return forward
