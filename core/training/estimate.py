"""What a training will cost before it is started: steps, time, peak memory, whether it fits, and what to change if not.

How a run lies in memory is ``memory_plan``'s; formulas and fitted constants are those of ``costs``; finished
runs of this workspace on the same kind of device give the time where there are any. No torch.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import psutil

from core.evaluation.words import seconds_long
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
    cores,
    pass_seconds,
)
from core.training.data import TrainingData, training_data
from core.training.looking import looking, planned_looks
from core.training.memory_plan import (
    PASS_TOKENS,
    MemoryPlan,
    device_basis,
    plan_memory,
    work_of,
)
from core.training.shape import ModelShape, read_shape, shape_of

__all__ = ["PASS_TOKENS", "Estimate", "MemoryPlan", "ModelShape", "read_shape", "shape_of"]

SHARE_USED = 0.92


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
        told = f"The time holds {seconds_long(self.loading.seconds)} of loading ({self.loading.source})"
        if not self.looks:
            return f"{told}."
        looks = "1 look" if self.looks == 1 else f"{self.looks:,} looks"
        return (
            f"{told} and up to {seconds_long(self.looking.seconds)} for {looks} at dev with answers as long as they may be "
            f"({self.looking.source})."
        )

    @property
    def how_sure(self) -> str:
        """Where time and memory come from and how far off they were, in a sentence or two."""
        if not self.measured_runs:
            return self.basis.words
        runs = "a finished run" if self.measured_runs == 1 else f"{self.measured_runs} finished runs"
        return f"Time as in {runs} of this model and method here. {self.basis.memory_words}"


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
        one = work_of(spec, shape, processed / passes, all_tokens / examples, gpu, learnt_share, passes / per_epoch)
        one = replace(one, recomputed=plan.checkpointed, unpacked=plan.unpacked, offloaded=plan.offloaded)
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
