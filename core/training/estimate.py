"""What a training will cost before it is started: steps, time, peak memory, whether it fits, and what to change if not.

Also decides for a run how much of the activations it keeps. Formulas and fitted constants are those of ``costs``; finished
runs of this workspace on the same kind of device give the time where there are any. No torch.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import psutil

from core.models.catalogue import resolve
from core.models.memory import devices
from core.models.tokenizer import load_tokenizer
from core.prompts.templates import find_template
from core.records import Run, TrainSpec
from core.settings import get_settings
from core.store.jobs import list_jobs
from core.store.runs import list_runs
from core.training.batches import even_fit, split_step
from core.training.beside import NOTHING, Beside, loading
from core.training.costs import (
    Basis,
    Work,
    activation_bytes,
    basis_for,
    constant_bytes,
    cores,
    layer_bytes,
    learnt_numbers,
    pass_seconds,
    processor,
    state_bytes,
    weight_bytes,
)
from core.training.data import TrainingData, training_data
from core.training.looking import looking, planned_looks
from core.training.shape import ModelShape, read_shape, shape_of

__all__ = ["PASS_TOKENS", "Estimate", "MemoryPlan", "ModelShape", "read_shape", "shape_of"]

PASS_TOKENS = 8192
"""Tokens of a forward pass on a GPU: enough that launching kernels costs little beside their work."""
KEPT_FREE = 0.98
"""Of the free memory, how far a pass with all layers recomputed grows beyond ``PASS_TOKENS``."""
SHARE_USED = 0.92


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
    """What a training will cost. ``measured_runs`` of this workspace gave the time; where there are none, ``basis`` did.

    ``basis`` is the fit that time and memory stand on, with its error. ``advice``: what to change to make it fit.
    Beside the ``seconds`` of the steps: ``loading``, and ``looks`` at dev, which take ``looking`` at most.
    """

    device: str
    memory: MemoryPlan
    steps: int
    examples: int
    dropped: int
    tokens: int
    padding: float
    seconds: float
    measured_runs: int
    basis: Basis
    advice: tuple[str, ...] = ()
    looks: int = 0
    looking: Beside = NOTHING
    loading: Beside = NOTHING

    @property
    def whole_seconds(self) -> float:
        """Loading, steps and looks at dev."""
        return self.loading.seconds + self.seconds + self.looking.seconds

    @property
    def beside(self) -> str:
        """What ``whole_seconds`` hold beside the steps, and how well that is known, in a sentence."""
        told = f"The time holds {said_seconds(self.loading.seconds)} of loading ({self.loading.source})"
        if not self.looks:
            return f"{told}."
        looks = "1 look" if self.looks == 1 else f"{self.looks:,} looks"
        return (
            f"{told} and up to {said_seconds(self.looking.seconds)} for {looks} at dev with answers as long as they may be "
            f"({self.looking.source})."
        )

    @property
    def how_sure(self) -> str:
        """Where time and memory come from and how far off they were, in a sentence or two."""
        if not self.measured_runs:
            return self.basis.words
        runs = "a finished run" if self.measured_runs == 1 else f"{self.measured_runs} finished runs"
        return f"Time as in {runs} of this model and method here. {self.basis.memory_words}"


def adapter_numbers(spec: TrainSpec, shape: ModelShape) -> int:
    """Numbers that are learnt."""
    return learnt_numbers(shape, spec.method, spec.lora_r)


def plan_memory(
    spec: TrainSpec, shape: ModelShape, longest: int, step_tokens: int, device: str, free: int, learnt_share: float = 0.25
) -> MemoryPlan:
    """The largest passes and the fewest recomputed layers that fit into ``free`` bytes of a device.

    On a GPU a whole step is a pass where nothing need be recomputed for it. Else a pass has ``PASS_TOKENS``, and as few layers
    as possible are recomputed; where all of them are, it grows towards the step as far as memory goes. Smaller passes
    come last. What doesn't fit at all is planned as small as it gets. On a CPU ``step_tokens`` are those of the largest pass and
    ``longest`` its longest row, and nothing is recomputed unless the spec says so.
    """
    gpu = device.startswith("cuda")
    memory = device_basis(device).constants.memory
    state = 2 if spec.optimizer in ("adamw_8bit", "paged_adamw_8bit") else 8

    def plan(tokens: int) -> MemoryPlan:
        plain = _work(spec, shape, tokens, min(longest, tokens), gpu, learnt_share)
        weights = weight_bytes(shape, spec.method, _quantisation(spec), spec.model.dtype in ("auto", "float32"))
        learnt, work = state_bytes(plain, state), constant_bytes(plain, memory)
        checkpointed = _checkpointed(spec, plain, memory, free - weights - learnt - work)
        activations = activation_bytes(replace(plain, recomputed=checkpointed), memory)
        parts = [int(part) for part in (weights, learnt, activations, work)]
        return MemoryPlan(parts[0], parts[1], parts[2], parts[3], checkpointed, tokens, free)

    if not gpu:
        return plan(max(longest, step_tokens))
    whole = max(longest, min(_largest_step(step_tokens, spec.batch_size // spec.gpus), 2 * PASS_TOKENS))
    usual = max(longest, min(whole, PASS_TOKENS))
    for tokens in (whole, usual):
        found = plan(tokens)
        if found.fits and (not found.checkpointed or tokens == usual):
            if found.checkpointed < shape.layers or tokens == whole:
                return found
            within = bisect_left(range(usual, whole + 1), True, key=lambda tokens: plan(tokens).total > KEPT_FREE * free)
            return plan(max(usual, usual + within - 1))
    fitting = bisect_left(range(longest, usual), True, key=lambda tokens: not plan(tokens).fits)
    return plan(max(longest, longest + fitting - 1))


def _largest_step(step_tokens: int, rows: int) -> int:
    """Tokens that few steps of so many rows exceed, where lengths vary by about their mean."""
    return int(step_tokens * (1 + 2.5 / math.sqrt(max(1, rows))))


def _quantisation(spec: TrainSpec) -> str:
    return "nf4" if spec.method == "qlora" else spec.model.quantisation


def _work(
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
        nf4=_quantisation(spec) == "nf4",
        gpu=gpu,
        packed=gpu or bool(spec.packing),
        fused=spec.method != "full" and not spec.use_dora and _quantisation(spec) != "int8",
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
    return estimate_lengths(spec, data.lengths, len(data.dropped), shape, device, free, data.learnt_share)


def estimate_lengths(
    spec: TrainSpec, lengths: Sequence[int], dropped: int, shape: ModelShape, device: str, free: int, learnt_share: float = 0.25
) -> Estimate:
    """``estimate`` from the rows' lengths in tokens alone (at least one), beside ``dropped`` rows that are left out."""
    examples, all_tokens = len(lengths), sum(lengths)
    per_epoch = math.ceil(examples / spec.batch_size)
    steps = spec.max_steps or max(1, math.ceil(spec.epochs * per_epoch))
    gpu = device.startswith("cuda")
    plan, cut = _planned(spec, lengths, shape, device, free, learnt_share)
    processed, passes = cut.tokens, cut.passes
    tokens = int(steps * all_tokens / per_epoch)
    basis = device_basis(device)
    alike = _alike(spec, device)
    rate, runs = _rate(alike), len(alike)
    if rate is None:
        one = _work(spec, shape, processed / passes, all_tokens / examples, gpu, learnt_share, passes / per_epoch)
        one = replace(one, recomputed=plan.checkpointed)
        seconds = pass_seconds(one, basis, cores()) * passes * steps / per_epoch
    else:
        seconds = tokens / rate
    advice = () if plan.fits else _advice(spec)
    return Estimate(
        device, plan, steps, examples, dropped, tokens, processed / all_tokens - 1, seconds, runs, basis, advice,
        looks=planned_looks(spec, steps),
        looking=looking(spec, steps, shape, all_tokens / examples, basis, alike),
        loading=loading(spec, shape, gpu, alike),
    )  # fmt: skip


def one_look(spec: TrainSpec, shape: ModelShape, row_tokens: float, device: str) -> float:
    """Seconds of one look at dev, from finished runs where there are any; 0 without dev. ``row_tokens``: a row's mean length."""
    if spec.dev is None:
        return 0.0
    steps = spec.eval_every or 1
    found = looking(spec, steps, shape, row_tokens, device_basis(device), _alike(spec, device))
    return found.seconds / max(1, planned_looks(spec, steps))


def said_seconds(seconds: float) -> str:
    """Seconds in words: ``45 s``, ``3 min``, ``2.1 h``."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"


def estimate_spec(spec: TrainSpec, device: str) -> tuple[Estimate, TrainingData]:
    """The estimate of a spec on a device, and the data it would be trained on. UserError as a training would raise it.

    The model is fetched if need be (its config and tokenizer are read).
    """
    data = training_data(spec, find_template(spec.template), load_tokenizer(spec.model))
    return estimate(spec, data, read_shape(resolve(spec.model)), device, free_bytes(device)), data


def _alike(spec: TrainSpec, device: str) -> list[Run]:
    """The newest finished runs of this model and method on this kind of device, at most nine."""
    kinds = {job.subject: job.device.partition(":")[0] for job in list_jobs(["finished"]) if job.kind == "train"}
    found = [run for run in list_runs() if _is_alike(run, spec) and kinds.get(run.run_id) == device.partition(":")[0]]
    return found[:9]


def _rate(alike: Sequence[Run]) -> float | None:
    rates = sorted(run.summary["tokens_per_second"] for run in alike)
    return rates[len(rates) // 2] if rates else None


def _is_alike(run: Run, spec: TrainSpec) -> bool:
    same = run.spec.method == spec.method and run.spec.model.name == spec.model.name
    return same and run.complete and run.summary.get("tokens_per_second", 0) > 0


def plan_training(
    spec: TrainSpec, lengths: Sequence[int], shape: ModelShape, device: str, free: int, learnt_share: float = 0.25
) -> MemoryPlan:
    """``plan_memory`` for rows of these lengths in tokens: what a page says before a training and a worker plans by.

    On a CPU the largest pass decides, padded as it will be; on a GPU a step's share of this device.
    """
    return _planned(spec, lengths, shape, device, free, learnt_share)[0]


@dataclass(frozen=True)
class _Cut:
    """An epoch cut into passes: tokens with padding, passes, and of the largest pass the tokens and the longest row."""

    tokens: float
    passes: float
    largest: int
    longest: int


def _planned(
    spec: TrainSpec, lengths: Sequence[int], shape: ModelShape, device: str, free: int, learnt_share: float
) -> tuple[MemoryPlan, _Cut]:
    if not device.startswith("cuda"):
        cut = _cut(lengths, spec, None, bool(spec.packing))
        return plan_memory(spec, shape, cut.longest, cut.largest, device, free, learnt_share), cut
    step_tokens = int(spec.batch_size / spec.gpus * sum(lengths) / len(lengths))
    plan = plan_memory(spec, shape, max(lengths), step_tokens, device, free, learnt_share)
    return plan, _cut(lengths, spec, plan.pass_tokens, spec.packing is not False)


def _cut(lengths: Sequence[int], spec: TrainSpec, pass_tokens: int | None, packed: bool) -> _Cut:
    """How an epoch is cut, found on at most 64 steps of it. ``pass_tokens``: the most of a packed pass; none: a whole step."""
    starts = range(0, len(lengths), spec.batch_size)
    steps = [lengths[start : start + spec.batch_size] for start in starts]
    looked = steps[:: max(1, len(steps) // 64)]
    passes: list[tuple[int, int]] = []
    for step in looked:
        groups = even_fit(step, pass_tokens or sum(step)) if packed else split_step(step, spec.micro_batch_size)
        rows = [[step[place] for place in group] for group in groups]
        passes += [(sum(row) if packed else max(row) * len(row), max(row)) for row in rows]
    share = sum(lengths) / sum(map(sum, looked))
    largest, longest = max(passes)
    return _Cut(sum(tokens for tokens, _ in passes) * share, len(passes) * share, largest, longest)


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
