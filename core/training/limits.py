"""What of a spec's own values can't be: numbers out of all reach, formats that can't be learnt in, reporters that are not here.

Knows nothing of data and of models' files. No torch.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from importlib.util import find_spec

from core.records import DatasetUse, TrainSpec

MOST_EPOCHS = 10_000
MOST_TIMES = 1000
"""How often a dataset's rows may be seen in an epoch (its weight): as many examples are held in memory."""
SEEDS = 2**32
"""numpy's generator takes those below."""
SHORT_OPTIMIZERS = ("adamw_8bit", "paged_adamw_8bit")
"""Optimisers that keep their state in 8 bits, which only GPUs can."""
REPORTERS: Mapping[str, str] = {
    "tensorboard": "tensorboard",
    "wandb": "wandb",
    "mlflow": "mlflow",
    "swanlab": "swanlab",
    "trackio": "trackio",
    "comet_ml": "comet_ml",
    "clearml": "clearml",
    "neptune": "neptune",
    "dvclive": "dvclive",
    "codecarbon": "codecarbon",
}
"""transformers' integrations that a run may report to beside the store, with the package that each needs."""


def number_faults(spec: TrainSpec, uses: Collection[tuple[str, DatasetUse]]) -> list[str]:
    """Numbers that no training can be made with. ``uses``: datasets, each with its key."""
    faults = []
    if spec.epochs > MOST_EPOCHS:
        faults.append(f"epochs: {spec.epochs:g} are more than {MOST_EPOCHS:,}")
    if not 0 <= spec.seed < SEEDS:
        faults.append(f"seed: {spec.seed} is not between 0 and {SEEDS - 1:,}")
    for place, use in uses:
        if use.weight > MOST_TIMES:
            faults.append(f"{place}.weight: {use.weight:g} times an epoch are more than {MOST_TIMES:,}")
    return faults


def format_faults(spec: TrainSpec, cards: int) -> list[str]:
    """Number formats that a method can't learn in, here. ``cards``: GPUs of this machine."""
    faults = []
    if spec.method == "full" and spec.model.quantisation != "none":
        faults.append(f"method: full fine-tuning needs unquantised weights, and model.quantisation is {spec.model.quantisation}")
    if spec.method == "qlora" and spec.model.quantisation == "int8":
        faults.append("model.quantisation: qlora trains on 4-bit weights (nf4), not int8")
    if spec.optimizer in SHORT_OPTIMIZERS and not cards:
        faults.append(f"optimizer: {spec.optimizer} needs a GPU; use adamw, or leave it to auto")
    if spec.method == "full" and spec.model.dtype == "float16":
        faults.append(
            "model.dtype: full fine-tuning can't learn weights in float16, which loses small steps; use float32, bfloat16 or auto"
        )
    if spec.method == "lora" and spec.use_dora and spec.model.quantisation == "int8" and not cards:
        faults.append("use_dora: 8-bit weights can't be read for it without a GPU; use nf4 (method qlora), or leave DoRA out")
    return faults


def report_faults(spec: TrainSpec) -> list[str]:
    """Names in ``report_to`` that are unknown, or whose package isn't installed."""
    faults = []
    for name in spec.report_to:
        package = REPORTERS.get(name)
        if package is None:
            faults.append(f"report_to: {name!r} is not known; known: {', '.join(REPORTERS)}")
        elif find_spec(package) is None:
            faults.append(f"report_to: {name} needs the package {package!r}, which isn't installed")
    return faults
