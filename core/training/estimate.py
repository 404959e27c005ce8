"""What a training will cost before it is started: steps, time, peak memory, whether it fits, and what to change if not.

Also decides for a run how much of the activations it keeps. Formulas count numbers from a model's config; their
constants were measured (``docs/benchmarks.md``), and finished runs on the same device correct the time. No torch.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import psutil

from core.models.catalogue import resolve
from core.models.memory import devices
from core.models.tokenizer import load_tokenizer
from core.prompts.templates import find_template
from core.records import Run, TrainSpec
from core.settings import get_settings
from core.store.jobs import list_jobs
from core.store.runs import list_runs
from core.training.batches import best_fit, split_step
from core.training.data import TrainingData, training_data
from core.training.shape import ModelShape, read_shape, shape_of

__all__ = ["PASS_TOKENS", "Estimate", "MemoryPlan", "ModelShape", "read_shape", "shape_of"]

PASS_TOKENS = 8192
"""Tokens of a forward pass on a GPU: enough that launching kernels costs little beside their work."""
WIDTHS_KEPT, INNER_KEPT = 11, 4
"""Activations that a layer keeps for its backward pass, in widths of the model and of its feed-forward part a token."""
LOGITS_BYTES = 3 * 2**28
CONTEXT_BYTES = 4e8
"""The allocator's rounding and work space (CUDA's own context isn't counted by torch, nor here)."""
SHARE_USED = 0.92
_FLOPS = {"cpu": 6e10, "cuda": 1.2e14}
"""A second: of one CPU core with AVX512-BF16, and of a GPU of the A100's kind. Only until a run has measured it."""


@dataclass(frozen=True)
class MemoryPlan:
    """Peak bytes by kind, and how passes are to be made: ``checkpointed`` layers recompute their activations."""

    weights: int
    learnt: int
    activations: int
    work: int
    checkpointed: int
    pass_tokens: int
    free: int

    @property
    def total(self) -> int:
        """Peak bytes."""
        return self.weights + self.learnt + self.activations + self.work

    @property
    def fits(self) -> bool:
        """Whether it fits into what is free."""
        return self.total <= self.free


@dataclass(frozen=True)
class Estimate:
    """What a training will cost. ``seconds`` is rough where ``measured_runs`` is 0. ``advice``: what to change to make it fit."""

    device: str
    memory: MemoryPlan
    steps: int
    examples: int
    dropped: int
    tokens: int
    padding: float
    seconds: float
    measured_runs: int
    advice: tuple[str, ...] = ()


def adapter_numbers(spec: TrainSpec, shape: ModelShape) -> int:
    """Numbers that are learnt: all, or r · (in + out) for each linear layer of the blocks (Hu et al. 2021, section 4.1)."""
    if spec.method == "full":
        return shape.in_blocks + shape.outside
    return shape.layers * sum(spec.lora_r * (a + b) for a, b in shape.linear)


def plan_memory(spec: TrainSpec, shape: ModelShape, longest: int, step_tokens: int, device: str, free: int) -> MemoryPlan:
    """The largest passes and the fewest recomputed layers that fit into ``free`` bytes of a device.

    Passes are halved only when recomputing every layer is not enough. What doesn't fit at all is planned as small as it gets.
    """
    gpu = device.startswith("cuda")
    weights = _weight_bytes(spec, shape, gpu)
    learnt = adapter_numbers(spec, shape)
    state = 2 if spec.optimizer in ("adamw_8bit", "paged_adamw_8bit") else 8
    learnt_bytes = learnt * (4 + state) + (0 if spec.method == "full" else 4 * learnt)
    work = int(CONTEXT_BYTES + 4 * shape.width * shape.inner if gpu else 5e8)
    layer = 2 * (WIDTHS_KEPT * shape.width + INNER_KEPT * shape.inner) * (1 if gpu else 2)
    tokens = max(longest, min(step_tokens, PASS_TOKENS))
    while True:
        room = free - weights - learnt_bytes - work
        recomputed = tokens * 2 * shape.width * shape.layers + max(tokens * layer, LOGITS_BYTES)
        kept = tokens * layer
        saved = kept - tokens * 2 * shape.width
        spare = max(0, math.floor((room - recomputed) / saved)) if saved > 0 else shape.layers
        checkpointed = _checkpointed(spec, shape, spare, gpu)
        activations = recomputed + (shape.layers - checkpointed) * saved if checkpointed else kept * shape.layers + LOGITS_BYTES
        if activations <= room or tokens <= longest or not gpu:
            return MemoryPlan(weights, learnt_bytes, activations, work, checkpointed, tokens, free)
        tokens = max(longest, tokens // 2)


def _checkpointed(spec: TrainSpec, shape: ModelShape, spare: int, gpu: bool) -> int:
    if spec.gradient_checkpointing is not None:
        return shape.layers if spec.gradient_checkpointing else 0
    return max(0, shape.layers - spare) if gpu else 0


def _weight_bytes(spec: TrainSpec, shape: ModelShape, gpu: bool) -> int:
    if spec.method == "full":
        return 4 * (shape.in_blocks + shape.outside) * (2 if spec.model.dtype in ("auto", "float32") else 1)  # with gradients
    share = {"nf4": 0.53, "int8": 1.05, "none": 2.0}["nf4" if spec.method == "qlora" else spec.model.quantisation]
    return int(share * shape.in_blocks + shape.dtype_bytes * shape.outside)


def free_bytes(device: str) -> int:
    """Bytes that a training may use on a device: what is free, or the limit that is set (``TUNEWISE_GPU_MEMORY_GB``)."""
    found = next((d for d in devices() if d.name == device), None)
    return usable(found.free if found is not None else int(psutil.virtual_memory().available), device)


def usable(free: int, device: str) -> int:
    """The part of the free bytes of a device that is used, with the limit that is set."""
    limit = get_settings().gpu_memory_gb
    return int(min(SHARE_USED * free, limit * 1e9 if limit and device.startswith("cuda") else math.inf))


def estimate(spec: TrainSpec, data: TrainingData, shape: ModelShape, device: str, free: int) -> Estimate:
    """Steps, tokens, padding, time and memory of a training on ``data``."""
    return estimate_lengths(spec, data.lengths, len(data.dropped), shape, device, free)


def estimate_lengths(
    spec: TrainSpec, lengths: Sequence[int], dropped: int, shape: ModelShape, device: str, free: int
) -> Estimate:
    """``estimate`` from the rows' lengths in tokens alone (at least one), beside ``dropped`` rows that are left out."""
    examples, all_tokens = len(lengths), sum(lengths)
    per_epoch = math.ceil(examples / spec.batch_size)
    steps = spec.max_steps or max(1, math.ceil(spec.epochs * per_epoch))
    step_tokens = int(spec.batch_size * all_tokens / examples)
    plan = plan_memory(spec, shape, max(lengths), step_tokens, device, free)
    packed = device.startswith("cuda") and spec.packing is not False
    padding = _padded(lengths, spec, plan.pass_tokens, packed) / all_tokens - 1
    tokens = int(steps * all_tokens / per_epoch)
    rate, runs = measured_rate(spec, device)
    if rate is None:
        work = (6 if spec.method == "full" else 4) + 2 * plan.checkpointed / shape.layers
        cores = psutil.cpu_count(logical=False) or 1
        flops = _FLOPS["cuda"] if device.startswith("cuda") else _FLOPS["cpu"] * cores
        rate = flops / (work * (shape.in_blocks + shape.vocabulary * shape.width / 3)) / (1 + padding)
    advice = () if plan.fits else _advice(spec)
    return Estimate(device, plan, steps, examples, dropped, tokens, padding, tokens / rate, runs, advice)


def estimate_spec(spec: TrainSpec, device: str) -> tuple[Estimate, TrainingData]:
    """The estimate of a spec on a device, and the data it would be trained on. UserError as a training would raise it.

    The model is fetched if need be (its config and tokenizer are read).
    """
    data = training_data(spec, find_template(spec.template), load_tokenizer(spec.model))
    return estimate(spec, data, read_shape(resolve(spec.model)), device, free_bytes(device)), data


def measured_rate(spec: TrainSpec, device: str) -> tuple[float | None, int]:
    """Tokens a second of finished runs like this one (model, method, kind of device), and how many there were."""
    kinds = {job.subject: job.device.partition(":")[0] for job in list_jobs(["finished"]) if job.kind == "train"}
    alike = [run for run in list_runs() if _is_alike(run, spec) and kinds.get(run.run_id) == device.partition(":")[0]]
    rates = sorted(run.summary["tokens_per_second"] for run in alike[:9])
    return (rates[len(rates) // 2], len(rates)) if rates else (None, 0)


def _is_alike(run: Run, spec: TrainSpec) -> bool:
    same = run.spec.method == spec.method and run.spec.model.name == spec.model.name
    return same and run.complete and run.summary.get("tokens_per_second", 0) > 0


def _padded(lengths: Sequence[int], spec: TrainSpec, pass_tokens: int, packed: bool) -> float:
    """Tokens of an epoch with padding, found on at most 64 steps of it."""
    starts = range(0, len(lengths), spec.batch_size)
    steps = [lengths[start : start + spec.batch_size] for start in starts]
    looked = steps[:: max(1, len(steps) // 64)]
    real = sum(map(sum, looked))
    if packed:
        padded = sum(sum(step[p] for group in best_fit(step, pass_tokens) for p in group) for step in looked)
    else:
        padded = sum(
            max(step[p] for p in group) * len(group) for step in looked for group in split_step(step, spec.micro_batch_size)
        )
    return sum(lengths) * padded / real


def _advice(spec: TrainSpec) -> tuple[str, ...]:
    """What makes a training smaller, the least harmful first."""
    advice = []
    if spec.gradient_checkpointing is False:
        advice.append("gradient_checkpointing: true keeps fewer activations (about a third slower)")
    if spec.method == "full":
        advice.append("method: lora learns a hundredth of the numbers")
    if spec.method != "qlora":
        advice.append("method: qlora keeps the weights in 4 bits")
    if spec.method == "full" and spec.optimizer == "auto":
        advice.append("optimizer: paged_adamw_8bit keeps the optimiser's state in 8 bits")
    advice.append(f"max_length: less than {spec.max_length:,} makes the longest rows shorter or leaves them out")
    advice.append("a smaller model")
    return tuple(advice)
