"""How a training is laid out in a device's memory: how large its passes are and how many layers are computed again.

Formulas and fitted constants are those of ``costs``. No torch; knows nothing of datasets and finished runs.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache

import psutil

from core.models.memory import devices
from core.records import TrainSpec
from core.training.costs import (
    Basis,
    Work,
    activation_bytes,
    basis_for,
    constant_bytes,
    layer_bytes,
    processor,
    state_bytes,
    unpacked_bytes,
    weight_bytes,
)
from core.training.shape import ModelShape

PASS_TOKENS = 8192
"""Tokens of a forward pass on a GPU: enough that launching kernels costs little beside their work."""
KEPT_FREE = 0.98
"""Of the free memory, how far a pass with all layers recomputed grows beyond ``PASS_TOKENS``."""


HOST_SHARE = 0.25
"""Of the host's free memory, what inputs of layers may take."""


@dataclass(frozen=True)
class MemoryPlan:
    """Peak bytes by kind, and how passes are to be made: ``checkpointed`` layers recompute their activations.

    ``unpacked``: layers whose 4-bit weights lie beside in 16 bits, where memory is left for it (among ``weights``).
    ``offloaded``: inputs of recomputed layers lie in the host's memory, where passes would be small else.
    """

    weights: int
    learnt: int
    activations: int
    work: int
    checkpointed: int
    pass_tokens: int
    free: int
    unpacked: int = 0
    offloaded: bool = False

    @property
    def total(self) -> int:
        """Peak bytes."""
        return self.weights + self.learnt + self.activations + self.work

    @property
    def words(self) -> str:
        """What is done for memory, or with what is left of it, in a sentence; empty where nothing is."""
        parts = []
        if self.checkpointed:
            layers = "1 layer is" if self.checkpointed == 1 else f"{self.checkpointed} layers are"
            parts.append(f"{layers} computed twice, to keep less")
        if self.offloaded:
            parts.append("what is kept of them waits in the host's memory")
        if self.unpacked:
            layers = "1 layer" if self.unpacked == 1 else f"{self.unpacked} layers"
            parts.append(f"the 4-bit weights of {layers} lie unpacked beside, since there is room")
        return f"{'; '.join(parts)}.".capitalize() if parts else ""

    @property
    def fits(self) -> bool:
        """Whether it fits into what is free."""
        return self.total <= self.free


def plan_memory(
    spec: TrainSpec, shape: ModelShape, longest: int, step_tokens: int, device: str, free: int, learnt_share: float = 0.25
) -> MemoryPlan:
    """The largest passes and the fewest recomputed layers that fit into ``free`` bytes of a device.

    On a GPU a whole step is a pass where nothing need be recomputed for it. Else a pass has ``PASS_TOKENS``, and as few layers
    as possible are recomputed; where all of them are, it grows towards the step as far as memory goes. Before passes get smaller,
    inputs of recomputed layers go to the host's memory. Memory that is left goes to unpacked weights. What doesn't fit at all is
    planned as small as it gets. On a CPU ``step_tokens`` are those of the largest pass and ``longest`` its longest row, and
    nothing is recomputed unless the spec says so.
    """
    gpu = device.startswith("cuda")
    memory = device_basis(device).constants.memory
    state = 2 if spec.optimizer in ("adamw_8bit", "paged_adamw_8bit") else 8

    def plan(tokens: int, offloaded: bool = False) -> MemoryPlan:
        plain = work_of(spec, shape, tokens, min(longest, tokens), gpu, learnt_share)
        plain = replace(plain, offloaded=offloaded)
        weights = weight_bytes(shape, spec.method, quantisation_of(spec), spec.model.dtype in ("auto", "float32"))
        learnt, work = state_bytes(plain, state), constant_bytes(plain, memory)
        checkpointed = _checkpointed(spec, plain, memory, free - weights - learnt - work)
        activations = activation_bytes(replace(plain, recomputed=checkpointed), memory)
        parts = [int(part) for part in (weights, learnt, activations, work)]
        return MemoryPlan(parts[0], parts[1], parts[2], parts[3], checkpointed, tokens, free, offloaded=offloaded)

    if not gpu:
        return plan(max(longest, step_tokens))
    found = _passes_on_a_gpu(spec, shape, longest, step_tokens, free, plan)
    return _with_unpacked(found, work_of(spec, shape, found.pass_tokens, longest, gpu, learnt_share))


def _passes_on_a_gpu(
    spec: TrainSpec, shape: ModelShape, longest: int, step_tokens: int, free: int, plan: Callable[..., MemoryPlan]
) -> MemoryPlan:
    """The best of the plans for passes of so many tokens, their layers' inputs offloaded or not."""
    whole = max(longest, min(_largest_step(step_tokens, spec.batch_size // spec.gpus), 2 * PASS_TOKENS))
    usual = max(longest, min(whole, PASS_TOKENS))

    def grown(offloaded: bool) -> MemoryPlan:
        """All layers are recomputed: as far as memory goes."""
        within = bisect_left(
            range(usual, whole + 1), True, key=lambda tokens: plan(tokens, offloaded).total > KEPT_FREE * free
        )  # fmt: skip
        return plan(max(usual, usual + within - 1), offloaded)

    for tokens in (whole, usual):
        found = plan(tokens)
        if found.fits and (not found.checkpointed or tokens == usual):
            return found if found.checkpointed < shape.layers or tokens == whole else grown(False)
    away = found.checkpointed == shape.layers and _host_holds(shape, whole)
    if away and plan(usual, True).fits:
        return grown(True)
    fitting = bisect_left(range(longest, usual), True, key=lambda tokens: not plan(tokens, away).fits)
    return plan(max(longest, longest + fitting - 1), away)


def _host_holds(shape: ModelShape, tokens: int) -> bool:
    """Whether the host's memory has room for the inputs of all layers, in 16 bits."""
    return 2 * shape.layers * shape.width * tokens < HOST_SHARE * psutil.virtual_memory().available


def _with_unpacked(plan: MemoryPlan, work: Work) -> MemoryPlan:
    """A plan with the weights of as many layers unpacked as memory is left for, once nothing is recomputed any more."""
    if plan.checkpointed or not (work.nf4 and work.fused):
        return plan
    layer = unpacked_bytes(work.shape, 1)
    layers = max(0, min(work.shape.layers, int((KEPT_FREE * plan.free - plan.total) // layer)))
    return replace(plan, weights=plan.weights + int(layers * layer), unpacked=layers)


def _largest_step(step_tokens: int, rows: int) -> int:
    """Tokens that few steps of so many rows exceed, where lengths vary by about their mean."""
    return int(step_tokens * (1 + 2.5 / math.sqrt(max(1, rows))))


def quantisation_of(spec: TrainSpec) -> str:
    """The number format of the base."""
    return "nf4" if spec.method == "qlora" else spec.model.quantisation


def work_of(
    spec: TrainSpec, shape: ModelShape, tokens: float, row_tokens: float, gpu: bool, learnt_share: float, passes: float = 1
) -> Work:
    """A pass of a spec's training of which no layer is recomputed."""
    return Work(
        shape=shape,
        method=spec.method,
        tokens=tokens,
        row_tokens=row_tokens,
        passes=passes,
        learnt_share=learnt_share,
        lora_r=spec.lora_r,
        nf4=quantisation_of(spec) == "nf4",
        gpu=gpu,
        packed=gpu or bool(spec.packing),
        fused=spec.method != "full" and not spec.use_dora and quantisation_of(spec) != "int8",
        dropout=spec.lora_dropout > 0,
    )


def _checkpointed(spec: TrainSpec, plain: Work, memory: Mapping[str, float], room: float) -> int:
    """How many layers have to be recomputed."""
    layers = plain.shape.layers
    if spec.gradient_checkpointing is not None:
        return layers if spec.gradient_checkpointing else 0
    if not plain.gpu or activation_bytes(plain, memory) <= room:
        return 0
    every = activation_bytes(replace(plain, recomputed=layers), memory)
    saved = layer_bytes(plain, memory) - plain.tokens * 2 * plain.shape.width
    spare = max(0, math.floor((room - every) / saved)) if saved > 0 else layers
    return max(1, layers - spare)


def device_basis(device: str) -> Basis:
    """The fit that holds for a device (``cpu``, ``cuda:0``): its own card's, or the nearest."""
    if not device.startswith("cuda"):
        return basis_for(processor(), gpu=False)
    return basis_for(_card(device), gpu=True)


@lru_cache(maxsize=16)
def _card(device: str) -> str:
    return next((found.description for found in devices() if found.name == device), "")
