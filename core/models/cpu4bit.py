"""Keeps 4-bit layers on a CPU fit for training (a trap of bitsandbytes, seen in 0.50.2).

On a processor with AVX512-BF16, a 4-bit layer repacks its weights at its first forward pass in eval mode
(``quant_state.packing_format_for_cpu``), for speed. Training through it afterwards gives wrong gradients
without an error: the backward pass reads the packed bytes in the old order. bitsandbytes' own way back
rounds the scales to bf16 and quantises them anew, so here the originals are kept and put back as they were.
Everywhere else (GPU, other processors, no 4-bit layers, versions that don't pack) all of this does nothing.
A torch module.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

_SWITCH = "support_avx512bf16_for_cpu"
_PACKED = "packing_format_for_cpu"
_ROWS, _BLOCK = 32, 64
"""What the packed layout needs of a weight: bitsandbytes fails an assertion where the rows don't divide by 32."""


def forbid_packing(model: Any) -> None:
    """From now on no layer of ``model`` repacks itself: an accidental forward pass in eval mode does no harm."""
    for layer in _layers(model):
        setattr(layer, _SWITCH, False)


def forbid_impossible_packing(model: Any) -> None:
    """Spare layers whose shape can't be packed the attempt, which would end in an AssertionError."""
    for layer in _layers(model):
        shape = tuple(getattr(layer.weight.quant_state, "shape", ()))
        if len(shape) != 2 or shape[0] % _ROWS or shape[1] % _BLOCK:
            setattr(layer, _SWITCH, False)


def forbid_packing_under_dora(model: Any) -> None:
    """Keep layers as they are whose weights are read beside being multiplied with: DoRA takes their norms.

    It would read packed bytes in the old order (logits were wrong by a quarter to two thirds of their size).
    """
    bases = {id(m.get_base_layer()) for m in model.modules() if len(getattr(m, "lora_magnitude_vector", None) or ())}
    for layer in _layers(model):
        if id(layer) in bases:
            setattr(layer, _SWITCH, False)


def is_packed(model: Any) -> bool:
    """Whether any layer is in the layout that can't be trained through."""
    return any(getattr(layer.weight.quant_state, _PACKED, False) for layer in _layers(model))


def restore_training_layout(model: Any) -> int:
    """Unpack the layers of ``model`` that are packed; returns how many were.

    For a model that was used outside ``inference``, which restores exactly: the scales were rounded to bf16 when
    they were packed (0.2 %), and stay that, in float32. (bitsandbytes' inverse would quantise them a second time
    on top, and leaves them transposed where they weren't quantised before.)
    """
    import torch

    packed = [layer for layer in _layers(model) if getattr(layer.weight.quant_state, _PACKED, False)]
    if not packed:
        return 0
    from bitsandbytes.functional import _convert_weight_packed_for_cpu_inverse as unpack

    with torch.no_grad(), torch.inference_mode(False):
        for layer in packed:
            state = layer.weight.quant_state
            scales = state.absmax.T.reshape(-1).float().clone()
            data, state = unpack(layer.weight.data.clone(), state)
            state.absmax, state.nested, state.state2, state.offset = scales, False, None, None
            layer.weight.data = data
            layer.weight.quant_state = state
            layer.quant_state = state
    return len(packed)


@contextmanager
def inference(model: Any, *, pack: bool = True) -> Iterator[Any]:
    """Evaluate inside the block: eval mode, then exactly the weights, layout and modes of before.

    ``pack`` lets the layers repack for the block: quicker for generating, not worth it for a few losses.
    Costs a second copy of the 4-bit weights while it lasts, on a CPU that packs.
    """
    modes = [(module, module.training) for module in model.modules()]
    layers = _layers(model)
    kept = [(layer, getattr(layer, _SWITCH), layer.weight, layer.weight.data, layer.weight.quant_state) for layer in layers]
    states = [dict(vars(state)) for *_, state in kept]
    may_pack = pack and _processor_packs()
    for layer, *_ in kept:
        setattr(layer, _SWITCH, may_pack)
    forbid_impossible_packing(model)
    forbid_packing_under_dora(model)
    model.eval()
    try:
        yield model
    finally:
        for (layer, switch, weight, data, state), values in zip(kept, states, strict=True):
            vars(state).clear()
            vars(state).update(values)
            layer.weight = weight  # DoRA puts another in its place
            layer.weight.data = data
            layer.weight.quant_state = state
            layer.quant_state = state
            setattr(layer, _SWITCH, switch)
        for module, training in modes:
            module.training = training


def _layers(model: Any) -> list[Any]:
    """The 4-bit layers on the CPU that are quantised already and know of packing."""
    if "bitsandbytes" not in sys.modules:
        return []
    from bitsandbytes.nn import Linear4bit

    return [
        module
        for module in model.modules()
        if isinstance(module, Linear4bit)
        and hasattr(module, _SWITCH)
        and module.weight.device.type == "cpu"
        and getattr(module.weight, "quant_state", None) is not None
    ]


def _processor_packs() -> bool:
    try:
        from bitsandbytes.functional import has_avx512bf16
    except ImportError:
        return False
    return bool(has_avx512bf16())
