"""The trainer of one of several processes (DDP): each takes its share of a step, and no row is seen twice in an epoch.

transformers would fill up the last step of an epoch with rows from its beginning. Here it is filled with rows of no tokens, in
the place of rows, so that several processes take the steps of a single one. A torch module.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
import torch.distributed as dist
from accelerate.data_loader import SeedableRandomSampler
from torch.utils.data import Sampler

from core.errors import UserError
from core.prompts.examples import Example
from core.training.trainer import Collated, StepTrainer, collate

EMPTY = Example("", [], [], 0)


class FilledSampler(Sampler[int]):  # type: ignore[misc]
    """An epoch's rows in the order in which a single process sees them, then ``filling`` places of none."""

    def __init__(self, rows: int, filling: int, seed: int) -> None:
        self._order = SeedableRandomSampler(range(rows), data_seed=seed)
        self._places = range(rows, rows + filling)

    def __iter__(self) -> Iterator[int]:
        yield from self._order
        yield from self._places

    def __len__(self) -> int:
        return len(self._order) + len(self._places)

    def set_epoch(self, epoch: int) -> None:
        """Which epoch's order comes next."""
        self._order.set_epoch(epoch)


class SharedTrainer(StepTrainer):
    """A StepTrainer whose steps are shared by ``processes``; a fault names the rows of all of them."""

    def __init__(self, *, train_dataset: Sequence[Example], processes: int, **arguments: Any) -> None:
        filling = -len(train_dataset) % (arguments["args"].per_device_train_batch_size * processes)
        self._sampler = FilledSampler(len(train_dataset), filling, arguments["args"].data_seed)
        super().__init__(train_dataset=[*train_dataset, *[EMPTY] * filling], **arguments)
        self.data_collator = _collate_rows

    def _get_train_sampler(self, train_dataset: Any = None) -> FilledSampler:
        return self._sampler

    def _run_epoch(self, *, epoch: int, **arguments: Any) -> Any:
        """transformers' own; which epoch it is, a resume has to tell the sampler, for accelerate tells only its own kinds."""
        self._sampler.set_epoch(epoch)
        return super()._run_epoch(epoch=epoch, **arguments)

    def _checked(self, loss: torch.Tensor, rows: Sequence[str]) -> float:
        try:
            return super()._checked(loss, rows)
        except UserError as error:  # loss and norm are of all processes, so that all of them are here
            shared: list[Any] = [None] * dist.get_world_size()
            dist.all_gather_object(shared, list(rows))
            named = ", ".join(row for part in shared for row in part)
            raise UserError(error.message.removesuffix(", ".join(rows)) + named, error.hint) from error


def _collate_rows(examples: list[Example]) -> dict[str, Collated]:
    return collate([example for example in examples if example.input_ids])
