"""What a forward and backward pass costs in seconds and bytes: formulas that count, constants that were fitted.

The terms are numbers of a model's shape and of a pass; the constants, by card, stand in ``fitted.json``, which
``bench/fit_estimates.py`` writes from ``measured.json`` together with the error of runs that it left out. No torch.
"""

from __future__ import annotations

import importlib.util
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import psutil

from core.models.machine import processor as processor
from core.records import Method
from core.training.shape import ModelShape

FITTED = Path(__file__).with_name("fitted.json")
WIDTHS_KEPT, INNER_KEPT = 11, 4
"""Activations that a layer keeps for its backward pass, in widths of the model and of its feed-forward part a token."""
CHUNK_BYTES = 2**28
"""Float32 logits that the loss makes at once (``core.training.loss``)."""
INPUTS_HERE = 3
"""Inputs of recomputed layers that are on the GPU at once when they lie in the host's memory (``core.training.offload``)."""
TIME_TERMS = ("launches", "products", "attention", "head", "unpacking", "optimiser")
"""Thousand layer passes; 1e12 operations of the blocks, of attention and of the head; 1e9 4-bit and 1e9 learnt numbers."""
FUSED_LAUNCHES = 0.65
"""Kernels of a step with fused LoRA layers, of those with peft's own (torch's profiler, H100: 6,061 of 9,262)."""
MEMORY_TERMS = ("activations", "scores", "logits", "constant")
"""Kept activations, attention's weights and logits (each a factor of what is counted), and GB that are always there."""
TFLOPS = {
    "H200": 989, "H100": 989, "A100": 312, "L40S": 362, "L40": 181, "A40": 150, "A30": 165, "A10": 125, "L4": 121,
    "RTX 4090": 165, "RTX 3090": 71, "V100": 125, "T4": 65,
}  # fmt: skip
"""Dense bf16 (older ones fp16) TFLOP/s with float32 sums, from the makers' data sheets: to scale from one card to another."""


@dataclass(frozen=True)
class Work:
    """One pass: ``tokens`` with padding, rows of ``row_tokens``, ``recomputed`` layers, ``passes`` of a step.

    ``unpacked``: layers whose 4-bit weights lie unpacked beside. ``offloaded``: inputs of recomputed layers lie in the host's
    memory.
    """

    shape: ModelShape
    method: Method
    tokens: float
    row_tokens: float
    passes: float = 1
    recomputed: int = 0
    learnt_share: float = 0.25
    lora_r: int = 16
    nf4: bool = False
    gpu: bool = False
    packed: bool = False
    fused: bool = False
    dropout: bool = False
    unpacked: int = 0
    offloaded: bool = False


@dataclass(frozen=True)
class Constants:
    """What was fitted for one card, and how well. Errors are root mean squares of relative errors of left-out runs."""

    card: str
    gpu: bool
    cores: int = 0
    seconds: Mapping[str, float] = field(default_factory=dict)
    seconds_runs: int = 0
    seconds_error: float = 0.0
    memory: Mapping[str, float] = field(default_factory=dict)
    memory_runs: int = 0
    memory_error: float = 0.0


@dataclass(frozen=True)
class Basis:
    """Which fit an estimate stands on. ``same``: the device is the measured card; else seconds were scaled by ``scale``."""

    constants: Constants
    card: str
    same: bool
    scale: float

    @property
    def words(self) -> str:
        """What an estimate by this fit stands on."""
        fit = self.constants
        time, place = f"± {100 * fit.seconds_error:.0f} %", _place(fit)
        runs = f"{fit.seconds_runs} measured runs on {place}"
        if self.same:
            return f"Time {time} over {runs}; memory ± {100 * fit.memory_error:.0f} % over {fit.memory_runs}."
        how = "scaled by the makers' data sheets" if self.scale != 1 else "as they are"
        return (
            f"No run on {self.card or 'this device'} is measured. The time is that of {runs} ({time} there), "
            f"{how}: it may be off severalfold. {self.memory_words}"
        )

    @property
    def memory_words(self) -> str:
        """The same of memory alone, which hardly depends on the card."""
        fit = self.constants
        return f"Memory ± {100 * fit.memory_error:.0f} % over {fit.memory_runs} measured runs on {_place(fit)}."


def _place(fit: Constants) -> str:
    return fit.card if fit.gpu else f"{'one core' if fit.cores == 1 else f'{fit.cores} cores'} of {fit.card}"


def learnt_numbers(shape: ModelShape, method: Method, lora_r: int) -> int:
    """Numbers that are learnt: all, or r · (in + out) for each linear layer of the blocks (Hu et al. 2021, section 4.1)."""
    if method == "full":
        return shape.in_blocks + shape.outside
    return shape.layers * sum(lora_r * (a + b) for a, b in shape.linear)


def time_terms(work: Work) -> tuple[float, ...]:
    """``TIME_TERMS`` of one pass with its share of the optimiser's step; their scalar product with constants is seconds.

    A product costs two operations a number and token forward, as many for its input's gradient, as many for its
    weights' (Kaplan et al. 2020, section 2.1); a recomputed layer goes forward twice.
    """
    shape = work.shape
    share = work.recomputed / shape.layers
    times = (6 if work.method == "full" else 4) + 2 * share
    long = work.tokens if work.packed and not work.gpu else work.row_tokens  # packed on a CPU: all against all, masked
    numbers = learnt_numbers(shape, work.method, work.lora_r)
    launched = FUSED_LAUNCHES if work.gpu and work.fused else 1.0
    return (
        launched * shape.layers * (3 + share) / 1e3,
        times * work.tokens * shape.in_blocks / 1e12,
        (12 + 4 * share) * work.tokens * long * shape.query * shape.layers / 1e12,
        (6 if work.method == "full" else 4) * work.learnt_share * work.tokens * shape.vocabulary * shape.width / 1e12,
        (2 + share) * (1 - work.unpacked / shape.layers) * shape.in_blocks / 1e9 if work.nf4 else 0.0,
        numbers / work.passes / 1e9,
    )


def pass_seconds(work: Work, basis: Basis, cores: int = 1) -> float:
    """Seconds of a pass and its share of the step, on so many cores where it is a CPU."""
    terms = zip(TIME_TERMS, time_terms(work), strict=True)
    seconds = sum(basis.constants.seconds.get(name, 0.0) * term for name, term in terms) * basis.scale
    return seconds if work.gpu else seconds * max(1, basis.constants.cores) / max(1, cores)


def layer_bytes(work: Work, memory: Mapping[str, float]) -> float:
    """Bytes that one layer keeps of a pass for its backward pass."""
    long = work.tokens if work.packed else work.row_tokens
    scores = 0.0 if work.gpu else memory.get("scores", 0.0) * 4 * work.tokens * long * work.shape.heads
    return work.tokens * memory.get("activations", 1.0) * kept_bytes(work) + scores


def kept_bytes(work: Work) -> float:
    """Bytes a token that one layer keeps, counted (``bench/train_ops.py``).

    Fused on a GPU: in 16 bits the inputs of both norms and of query and gate, query, key, value, attention's answer, gate
    and up; a byte for each number that dropout draws for.
    """
    shape = work.shape
    if not (work.fused and work.gpu):
        return 2.0 * (WIDTHS_KEPT * shape.width + INNER_KEPT * shape.inner)
    kept = 4 * shape.width + 2 * shape.query + 2 * shape.key + 2 * shape.inner + (0 if liger() else 2 * shape.width)
    return 2.0 * kept + (2 * shape.width + shape.query + shape.inner if work.dropout else 0)


@lru_cache(maxsize=1)
def liger() -> bool:
    """Whether Liger's kernels are installed."""
    return importlib.util.find_spec("liger_kernel") is not None


def backward_bytes(work: Work) -> float:
    """Bytes that a fused layer's backward pass needs beside what is kept: gradients of the inner width, more with dropout."""
    if not (work.fused and work.gpu):
        return 0.0
    return 2.0 * work.tokens * work.shape.inner * ((1 if liger() else 2) + (2 if work.dropout else 0))


def logits_bytes(work: Work, memory: Mapping[str, float]) -> float:
    """Bytes of the logits that are there at once: all of a pass where the head learns, else a part."""
    every = 4.0 * work.learnt_share * work.tokens * work.shape.vocabulary
    return memory.get("logits", 3.0) * (every if work.method == "full" else CHUNK_BYTES if work.gpu else min(every, CHUNK_BYTES))


def activation_bytes(work: Work, memory: Mapping[str, float]) -> float:
    """Bytes of a pass beside weights and what is learnt: kept layers, inputs of recomputed ones, logits."""
    layer, layers = layer_bytes(work, memory), work.shape.layers
    if not work.recomputed:
        return layer * layers + max(logits_bytes(work, memory), backward_bytes(work))
    inputs = work.tokens * 2 * work.shape.width * (min(INPUTS_HERE, work.recomputed) if work.offloaded else work.recomputed)
    return layer * (layers - work.recomputed) + inputs + max(layer + backward_bytes(work), logits_bytes(work, memory))


def state_bytes(work: Work, optimiser_bytes: int = 8) -> float:
    """Bytes of what is learnt: its gradients and the optimiser's state, and the numbers themselves where they are new."""
    numbers = learnt_numbers(work.shape, work.method, work.lora_r)
    short = 2 * numbers if work.fused and work.gpu else 0  # the copy that products are made with
    return numbers * (4 + optimiser_bytes) + (0 if work.method == "full" else 4 * numbers) + short


def weight_bytes(shape: ModelShape, method: Method, quantisation: str = "none", long: bool = True) -> float:
    """Bytes of the base's weights. ``long``: full tuning keeps them in float32 beside a copy in short format."""
    if method == "full":
        return 4.0 * (shape.in_blocks + shape.outside) * (2 if long else 1)
    share = {"nf4": 0.53, "int8": 1.05, "none": 2.0}[quantisation]
    return share * shape.in_blocks + shape.dtype_bytes * shape.outside


def unpacked_bytes(shape: ModelShape, layers: int) -> float:
    """Bytes of the weights of so many layers in 16 bits."""
    return 2.0 * shape.in_blocks * layers / shape.layers


def constant_bytes(work: Work, memory: Mapping[str, float]) -> float:
    """Bytes that are there whatever a pass holds: the program, the allocator's rounding, one layer's weights unpacked."""
    matrices = (1 if work.fused else 2) if work.gpu else 0
    unpacked = 2.0 * matrices * work.shape.width * work.shape.inner
    return 1e9 * memory.get("constant", 0.4) + unpacked


def peak_bytes(work: Work, memory: Mapping[str, float]) -> float:
    """Peak bytes of a training with passes like this one, without quantisation but that of its method."""
    weights = weight_bytes(work.shape, work.method, "nf4" if work.nf4 else "none") + unpacked_bytes(work.shape, work.unpacked)
    return weights + state_bytes(work) + activation_bytes(work, memory) + constant_bytes(work, memory)


def basis_for(card: str, gpu: bool) -> Basis:
    """The fit of a card; else that of the nearest kind of device, scaled by what data sheets say where both are known."""
    fits = [found for found in fitted() if found.gpu == gpu]
    own = next((found for found in fits if found.card == card), None)
    if own is not None:
        return Basis(own, card, True, 1.0)
    if not fits:
        raise LookupError(f"no {'GPU' if gpu else 'CPU'} was measured")
    best = max(fits, key=lambda found: found.seconds_runs)
    here, there = tflops(card), tflops(best.card)
    return Basis(best, card, False, there / here if here and there else 1.0)


def tflops(card: str) -> float | None:
    """What a card's data sheet promises; none for one that isn't listed."""
    return next((rate for name, rate in TFLOPS.items() if re.search(rf"\b{name}\b", card)), None)


def cores() -> int:
    """Physical cores of this machine."""
    return psutil.cpu_count(logical=False) or 1


@lru_cache(maxsize=1)
def fitted() -> tuple[Constants, ...]:
    """All fits."""
    content: dict[str, Any] = json.loads(FITTED.read_text("utf-8"))
    return tuple(Constants(card=card, **values) for card, values in content["cards"].items())
