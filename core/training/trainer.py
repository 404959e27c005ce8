"""transformers' Trainer with one change: its batch is a whole optimiser step, which is cut into forward passes here.

So passes can be of like length, can be halved when memory runs out without changing the effective batch, and the
loss is a mean over all learnt tokens of the step, over all devices. A torch module; knows nothing of jobs and files.
"""

from __future__ import annotations

import contextlib
import gc
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.distributed as dist
from accelerate.utils.memory import should_reduce_batch_size
from transformers import Trainer

from core.errors import UserError
from core.models.memory import release_memory
from core.prompts.examples import Example
from core.training.batches import even_fit, split_step
from core.training.fused_proof import fuse_what_holds
from core.training.loss import Head, learnt_tokens, packed_batch, padded_batch
from core.training.offload import LayerInputs

PASS_OVERHEAD_TOKENS = 64
_UNPACK = "4-bit weights are unpacked anew for each product"
PASS_MULTIPLE = 64
"""Tokens of a packed pass on a GPU: kernels are built and chosen anew for fewer sizes (0.4 % more tokens at 8k)."""


@dataclass
class Passes:
    """How a step is cut and computed. ``largest`` rows a pass (none: all); ``autocast``: of products (none: the weights' own).

    ``packed``: rows end to end instead of padded; ``borders``: for a kernel that wants them.
    """

    pad: int
    largest: int | None = None
    most_tokens: int | None = None
    autocast: torch.dtype | None = None
    packed: bool = False
    borders: bool = False

    def cut(self, lengths: Sequence[int]) -> list[list[int]]:
        """Places of rows in groups, each a forward pass."""
        if not self.packed:
            return split_step(lengths, self.largest, PASS_OVERHEAD_TOKENS, self.most_tokens)
        groups = even_fit(lengths, self.most_tokens or sum(lengths))
        if self.largest is None:
            return groups
        return [group[start : start + self.largest] for group in groups for start in range(0, len(group), self.largest)]

    def halve(self, groups: Sequence[Sequence[int]], lengths: Sequence[int]) -> str | None:
        """Make passes half as large after one didn't fit; says how, none if they are single rows already."""
        if max(map(len, groups)) == 1:
            return None
        if self.packed:
            self.most_tokens = max(sum(lengths[place] for place in group) for group in groups) // 2
            return f"at most {self.most_tokens:,} tokens a forward pass"
        self.largest = max(map(len, groups)) // 2
        return f"at most {self.largest} rows a forward pass"

    def tensors(self, examples: Sequence[Example], device: torch.device) -> tuple[dict[str, Any], torch.Tensor]:
        """Arguments and targets of one forward pass."""
        if self.packed:
            multiple = PASS_MULTIPLE if device.type == "cuda" else 1
            return packed_batch(examples, device, borders=self.borders, multiple=multiple, pad=self.pad)
        return padded_batch(examples, self.pad, device)


@dataclass
class StepReport:
    """What the last step did, for those who watch. ``seconds`` are of its passes, without the optimiser."""

    rows: tuple[str, ...] = ()
    loss: float = 0.0
    tokens: int = 0
    learnt: int = 0
    passes: int = 0
    seconds: float = 0.0


@dataclass
class Collated:
    """The rows of a step on one device; moved nowhere until their pass comes."""

    examples: list[Example] = field(default_factory=list)


def collate(examples: list[Example]) -> dict[str, Collated]:
    """The trainer's collator: hands the rows through."""
    return {"step": Collated(examples)}


class StepTrainer(Trainer):  # type: ignore[misc]
    """Trains on ``Example`` rows. ``say`` gets a line when something notable happens (a pass that was halved).

    ``unpacked``: of so many layers 4-bit weights lie unpacked beside, as long as memory is left for it. ``away``: where inputs of
    recomputed layers go.
    """

    def __init__(
        self,
        *,
        passes: Passes,
        say: Callable[[str], None],
        unpacked: int = 0,
        away: LayerInputs | None = None,
        **arguments: Any,
    ) -> None:
        super().__init__(data_collator=collate, **arguments)
        self.passes = passes
        self.last = StepReport()
        self._head = Head(self.model)
        self._learnt = [parameter for parameter in self.model.parameters() if parameter.requires_grad]
        self._norm: torch.Tensor | None = None  # of the step's gradients, where it is known before they are clipped
        self._fused, fault = fuse_what_holds(self.model, passes.autocast, prove=self.args.device.type == "cuda")
        self._say = say
        if fault:
            say(fault)
        self._unpacked, self._away = unpacked, away

    def training_step(self, model: Any, inputs: dict[str, Collated], num_items_in_batch: Any = None) -> torch.Tensor:
        """Gradients of one optimiser step, summed over its passes; returns the mean loss of its learnt tokens."""
        started = time.perf_counter()
        if not model.training:
            model.train()
        examples = inputs["step"].examples
        learnt = self._over_devices(sum(map(learnt_tokens, examples)))
        loss, passes = self._passes(model, examples, max(1.0, learnt))
        self._share_gradients()
        rows = tuple(example.row_id for example in examples)
        total = self._checked(loss, rows)
        tokens = int(self._over_devices(sum(len(example.input_ids) for example in examples)))
        self.last = StepReport(rows, total, tokens, int(learnt), passes, time.perf_counter() - started)
        return torch.tensor(total, device=self.args.device)

    def train(self, *arguments: Any, **options: Any) -> Any:
        """transformers' own, without walks over thousands of modules and objects between steps."""
        gc.collect()
        gc.freeze()  # a collection of all objects takes 0.3 s, some of them in the midst of training
        self.model.zero_grad = self._forget_gradients
        kept = self._fused.keep(self._unpacked, self.passes.autocast)
        if kept < self._unpacked and self._fused.names:
            self._say(f"memory was left for the unpacked weights of {kept} layers, not of {self._unpacked}")
        try:
            return super().train(*arguments, **options)
        finally:
            self._fused.let_go()
            del self.model.zero_grad
            gc.unfreeze()

    def _forget_gradients(self, set_to_none: bool = True) -> None:
        for parameter in self._learnt:
            parameter.grad = None

    def _passes(self, model: Any, examples: Sequence[Example], learnt: float) -> tuple[torch.Tensor, int]:
        """Forward and backward over all rows; out of memory halves the rows of a pass and begins the step again."""
        lengths = [len(example.input_ids) for example in examples]
        while True:
            groups = self.passes.cut(lengths)
            try:
                return self._backward(model, examples, groups, learnt), len(groups)
            except Exception as error:
                if not should_reduce_batch_size(error):
                    raise
                smaller = _UNPACK if self._fused.let_go() else self.passes.halve(groups, lengths)
                if smaller is None:
                    raise UserError(
                        f"Out of memory on a single row of {max(lengths):,} tokens (step {self.state.global_step + 1})",
                        "Lower max_length, use qlora, set gradient_checkpointing: true, or choose a smaller model.",
                    ) from error
            model.zero_grad()
            release_memory()
            self._say(f"out of memory at step {self.state.global_step + 1}: now {smaller}; the effective batch stays")

    def _backward(self, model: Any, examples: Sequence[Example], groups: Sequence[Sequence[int]], learnt: float) -> torch.Tensor:
        kind = self.args.device.type
        total = torch.zeros((), device=self.args.device)
        alone = model.no_sync() if hasattr(model, "no_sync") else contextlib.nullcontext()
        with alone, self._fused.held(self.passes.autocast):
            for group in groups:
                inputs, targets = self.passes.tensors([examples[place] for place in group], self.args.device)
                away = self._away.away() if self._away else contextlib.nullcontext()
                with away, torch.autocast(kind, self.passes.autocast, enabled=self.passes.autocast is not None):
                    loss = self._head.loss_sum(model, inputs, targets) / learnt
                self.accelerator.backward(loss)
                total += loss.detach()
        return total

    def _share_gradients(self) -> None:
        """Sum the gradients of all devices; each loss was divided by the learnt tokens of all."""
        if dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1:
            for parameter in self._learnt:
                if parameter.grad is None:
                    parameter.grad = torch.zeros_like(parameter)
                dist.all_reduce(parameter.grad)

    def _over_devices(self, value: float) -> float:
        """The sum of a number over all devices."""
        if not (dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1):
            return float(value)
        tensor = torch.tensor(float(value), dtype=torch.float64, device=self.args.device)
        dist.all_reduce(tensor)
        return float(tensor)

    def _checked(self, loss: torch.Tensor, rows: Sequence[str]) -> float:
        """The loss over all devices. Stops before broken numbers reach the weights; UserError names the step and its rows.

        Loss and norm of the gradients are asked for at once: each question to a GPU waits until it has done all work.
        """
        self._norm = None
        found = [loss]
        if not self.args.fp16:  # with fp16 gradients are scaled, and the scaler skips broken steps itself
            self._norm = torch.nn.utils.get_total_norm([p.grad for p in self._learnt if p.grad is not None])
            found.append(self._norm.to(loss.device))
        numbers = torch.stack([number.double() for number in found]).tolist()
        total = self._over_devices(numbers[0])
        what = "" if math.isfinite(total) else "the loss"
        if not what and not math.isfinite(numbers[-1]):
            what = "the gradient"
        if what:
            raise UserError(
                f"At step {self.state.global_step + 1} {what} is not a number; the rows of the step: {', '.join(rows)}",
                "Lower the learning rate, or look at these rows. Resume goes on from the last checkpoint.",
            )
        return total

    def _clip_grad_norm(self, model: Any) -> Any:
        """The gradients' norm before they are clipped, and clipped they are; it is known from ``_checked``."""
        if self._norm is None:
            return super()._clip_grad_norm(model)
        torch.nn.utils.clip_grads_with_norm_(self._learnt, self.args.max_grad_norm, self._norm)
        return self._norm
