"""Measured trainings: the file that ``estimate``'s constants are fitted to, a line of JSON for each run. No torch.

``bench/fit_estimates.py`` adds runs of this machine's processor, ``bench/train_gpu.py --record`` those of a card.
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

from pydantic import Field, field_validator

from core.records import Method, Record
from core.training.shape import ModelShape

MEASURED = Path(__file__).with_name("measured.json")


class MeasuredRun(Record):
    """What steps of a training cost. Times and tokens are means over the measured steps.

    ``tokens_a_pass`` are with padding; ``row_tokens`` is a row's mean length; ``recomputed`` counts layers.
    ``peak_gb`` is torch's peak on a GPU, the process's largest resident set on a CPU; none where it wasn't measured.
    """

    card: str
    cores: int = Field(default=0, description="of a CPU; 0 for a GPU")
    model: str
    shape: ModelShape
    method: Method
    lora_r: int = 16
    tokens_a_pass: float = Field(gt=0)
    largest_pass: float | None = Field(default=None, gt=0, description="tokens of the pass that made the peak; none: the mean")
    row_tokens: float = Field(gt=0)
    passes_a_step: float = Field(default=1, gt=0)
    recomputed: int = Field(default=0, ge=0)
    unpacked: int = Field(default=0, ge=0, description="layers whose 4-bit weights lay unpacked beside")
    offloaded: bool = Field(default=False, description="inputs of recomputed layers lay in the host's memory")
    learnt_share: float = Field(default=0.25, ge=0, le=1)
    packed: bool = False
    fused: bool = Field(default=False, description="LoRA by core.training.fused; earlier runs went by peft's own path")
    peak_gb: float | None = Field(default=None, gt=0)
    seconds_a_pass: float | None = Field(default=None, gt=0)
    source: str
    date: str = ""

    @property
    def gpu(self) -> bool:
        """Whether it ran on a GPU."""
        return self.cores == 0

    @field_validator("shape", mode="before")
    @classmethod
    def _shape(cls, value: Any) -> Any:
        return ModelShape(**value) if isinstance(value, dict) else value


def read_runs(path: Path = MEASURED) -> list[MeasuredRun]:
    """All measured runs of a file, in its order; none where there is no file."""
    if not path.is_file():
        return []
    return [MeasuredRun.model_validate(run) for run in json.loads(path.read_text("utf-8"))["runs"]]


def write_runs(runs: list[MeasuredRun], path: Path = MEASURED) -> None:
    """Write a file of runs, a line each."""
    lines = ",\n".join(json.dumps(_plain(run), ensure_ascii=False) for run in runs)
    path.write_text(f'{{"runs": [\n{lines}\n]}}\n', "utf-8")


def append_run(run: MeasuredRun, path: Path = MEASURED) -> None:
    """Add a run to a file, which is made if need be."""
    write_runs([*read_runs(path), run], path)


def _plain(run: MeasuredRun) -> dict[str, Any]:
    return {**run.model_dump(mode="json", exclude={"shape"}, exclude_none=True), "shape": dataclasses.asdict(run.shape)}
