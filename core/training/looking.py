"""How long the looks at dev of a training will take: answers that are generated token by token, and their loss.

Counted with the constants that were fitted to trainings (``costs``), so only the order of magnitude is right; looks that
were measured here correct it. No torch.
"""

from __future__ import annotations

from collections.abc import Sequence

from core.errors import UserError
from core.records import Run, TrainSpec
from core.store.datasets import get_version
from core.training.beside import Beside, known
from core.training.costs import Basis, cores
from core.training.shape import ModelShape

LOOK_SECONDS = "look_seconds"
"""Under which name a run's summary keeps the mean seconds of its looks."""


def planned_looks(spec: TrainSpec, steps: int) -> int:
    """Looks at dev in so many steps: every ``eval_every``, and at the end."""
    if spec.dev is None:
        return 0
    return 1 if spec.eval_every is None else -(-steps // spec.eval_every)


def looks_to_come(spec: TrainSpec, step: int, steps: int) -> int:
    """Looks at dev after ``step`` of so many steps, without the one that is due at ``step`` itself."""
    if step >= steps:
        return 0
    return planned_looks(spec, steps) - (step // spec.eval_every if spec.eval_every else 0)


def looking(spec: TrainSpec, steps: int, shape: ModelShape, row_tokens: float, basis: Basis, alike: Sequence[Run] = ()) -> Beside:
    """Seconds of all looks, at most: every answer as long as it may be; with the runs that they are known from and their error.

    ``row_tokens``: mean tokens of a row, prompt and answer. ``alike``: finished runs of this model and method. 0 without dev.
    """
    if spec.dev is None:
        return Beside()
    told = [(run.summary[LOOK_SECONDS], _one(run.spec, shape, row_tokens, basis)) for run in alike if _looked(run)]
    slower = [found / said for found, said in told if said > 0 and found > 0]
    return known(slower, planned_looks(spec, steps) * _one(spec, shape, row_tokens, basis))


def _one(spec: TrainSpec, shape: ModelShape, row_tokens: float, basis: Basis) -> float:
    """Seconds of one look: prompts and gold answers go forward twice, then all rows by one token at a time."""
    rows = _rows(spec)
    long, short = _forward(spec, shape, rows * row_tokens, basis), _forward(spec, shape, rows, basis)
    seconds = 2 * long + spec.eval_max_new_tokens * short if rows else 0.0
    return seconds if basis.constants.gpu else seconds * max(1, basis.constants.cores) / max(1, cores())


def _forward(spec: TrainSpec, shape: ModelShape, tokens: float, basis: Basis) -> float:
    """A forward pass: a third of a training pass's launches, two operations a number and token."""
    constants = basis.constants.seconds
    terms = {
        "launches": shape.layers / 1e3,
        "products": 2 * tokens * shape.in_blocks / 1e12,
        "head": 2 * tokens * shape.vocabulary * shape.width / 1e12,
        "unpacking": shape.in_blocks / 1e9 if spec.method == "qlora" else 0.0,
    }
    return sum(constants.get(name, 0.0) * term for name, term in terms.items()) * basis.scale


def _looked(run: Run) -> bool:
    return LOOK_SECONDS in run.summary


def _rows(spec: TrainSpec) -> int:
    """Rows of dev that are looked at; as many as may be where the dataset can't be asked."""
    if spec.dev is None:
        return 0
    try:
        there = get_version(spec.dev.dataset, spec.dev.version).split_sizes.get(spec.dev.split, 0)
    except UserError:
        return spec.eval_rows
    return min(spec.eval_rows, there, spec.dev.limit or there)
