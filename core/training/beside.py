"""What a training takes beside its steps, and how well that is known: loading its model, and its looks at dev.

Finished runs tell where there are any; their error is that with which the others foretell each. No torch.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from core.records import Run, TrainSpec
from core.training.shape import ModelShape

LOAD_SECONDS = "load_seconds"
"""Under which name a run's summary keeps the seconds until its model was there, its rows prepared."""
START, READ, PACK = 6.0, 3.0, 25.0
"""Seconds of a worker's start, for 1e9 bytes of weights that are read, for 1e9 numbers packed into 4 bits on a CPU.

Processor time of one core of an AMD EPYC, SmolLM2-135M (2026-11-27): 5.7 s of imports, then 0.8 s (LoRA) and 3.3 s (QLoRA).
"""


@dataclass(frozen=True)
class Beside:
    """Seconds, the finished runs that they are known from, and their relative error: none from fewer than two."""

    seconds: float = 0.0
    runs: int = 0
    error: float | None = None

    @property
    def source(self) -> str:
        """Where the seconds come from, in brackets' words."""
        if not self.runs:
            return "counted, not measured here yet"
        if self.error is None:
            return "as in a finished run here, so of unknown error"
        return f"as in {self.runs} finished runs here, ± {100 * self.error:.0f} %"


NOTHING = Beside()


def known(values: Sequence[float], scale: float = 1.0) -> Beside:
    """``scale`` times the median of what runs took (seconds, or how many times what was counted), which must be above 0.

    The error is the root mean square of the relative errors with which the median of the others foretells each.
    """
    if len(values) < 2:
        return Beside(scale * median(values or [1.0]), len(values))
    others = [median([*values[:place], *values[place + 1 :]]) for place in range(len(values))]
    errors = [other / value - 1 for other, value in zip(others, values, strict=True)]
    return Beside(scale * median(values), len(values), math.sqrt(sum(e * e for e in errors) / len(errors)))


def loading(spec: TrainSpec, shape: ModelShape, gpu: bool, alike: Sequence[Run] = ()) -> Beside:
    """Until a training's first step begins: its process, its rows, its model. ``alike``: finished runs of model and method."""
    took = [run.summary[LOAD_SECONDS] for run in alike if run.summary.get(LOAD_SECONDS, 0.0) > 0]
    if took:
        found = known(took)
        return Beside(START + found.seconds, found.runs, found.error)
    packed = shape.in_blocks / 1e9 if spec.method == "qlora" and not gpu else 0.0
    return Beside(START + READ * shape.dtype_bytes * (shape.in_blocks + shape.outside) / 1e9 + PACK * packed)
