"""Records of trainings: what is asked for, and what became of it."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, ConfigDict, Field

from core.records.base import Method, Overflow, Record, Stored
from core.records.models import ModelRef, Template


class DatasetUse(Record):
    """A split of a dataset's version, with its weight in a mix."""

    model_config = ConfigDict(allow_inf_nan=False)

    dataset: str
    version: int | None = None
    split: str = "train"
    weight: float = Field(default=1.0, gt=0)
    limit: int | None = Field(default=None, ge=1)


class TrainSpec(Record):
    """Everything that decides a training run. Every field has a sound default but ``data``."""

    model_config = ConfigDict(allow_inf_nan=False)  # JSON, in which it is kept, has no such numbers

    name: str = ""
    model: ModelRef = ModelRef()
    data: tuple[DatasetUse, ...] = Field(min_length=1)
    dev: DatasetUse | None = None
    template: str = "chat"
    method: Method = "qlora"

    learning_rate: float | None = Field(default=None, gt=0, le=1, description="none: by method")
    epochs: float = Field(default=1.0, gt=0)
    max_steps: int | None = Field(default=None, ge=1)
    batch_size: int = Field(default=8, ge=1, description="rows of one optimiser step, over all devices")
    micro_batch_size: int | None = Field(default=None, ge=1, description="rows of one forward pass; none: chosen")
    warmup_ratio: float = Field(default=0.03, ge=0, le=1)
    scheduler: Literal["cosine", "linear", "constant", "constant_with_warmup"] = "cosine"
    weight_decay: float = Field(default=0.0, ge=0)
    max_grad_norm: float = Field(default=1.0, gt=0)
    lora_r: int = Field(default=16, ge=1)
    lora_alpha: int = Field(default=32, ge=1)
    lora_dropout: float = Field(
        default=0.0, ge=0, lt=1, description="share of the adapter's inputs left out at random; 0 is quickest"
    )
    target_modules: tuple[str, ...] | None = None
    use_dora: bool = Field(default=False, description="weight-decomposed LoRA: a little better, slower")
    use_rslora: bool = Field(default=False, description="scale LoRA by alpha over the root of r: for large r")
    neftune_alpha: float | None = Field(default=None, gt=0, description="noise on embeddings against overfitting; 5 is usual")
    optimizer: Literal["auto", "adamw", "adamw_8bit", "paged_adamw_8bit"] = "auto"
    gradient_checkpointing: bool | None = Field(default=None, description="none: on a GPU by its free memory, else off")
    packing: bool | None = Field(default=None, description="rows end to end without padding; none: where the GPU can")

    max_length: int = Field(default=1024, ge=8)
    overflow: Overflow = "drop"
    loss_on: Literal["answer", "all"] = "answer"
    turns: Literal["all", "last"] = Field(
        default="all", description="a conversation: every assistant turn is learnt, or its last"
    )

    log_every: int = Field(default=1, ge=1, description="steps between two logged losses")
    eval_every: int | None = Field(default=None, ge=1, description="steps between two looks at dev; none: at the end")
    eval_rows: int = Field(default=64, ge=1, description="rows of dev that are looked at")
    eval_max_new_tokens: int = Field(default=128, ge=1, description="longest answer at a look at dev")
    best_metric: Literal[
        "micro_f1", "exact_match", "loss", "precision", "recall", "macro_f1", "json_valid", "accuracy", "balanced_accuracy",
        "bleu", "chrf", "rouge_l",
    ] = Field(default="micro_f1", description="what the best checkpoint is, of the metrics that the task has")  # fmt: skip
    patience: int | None = Field(default=None, ge=1, description="looks at dev without a better one before it stops; none: never")
    save_every: int = Field(default=25, ge=1, description="steps between two checkpoints")
    keep_checkpoints: int = Field(default=2, ge=1)

    seed: int = 7
    report_to: tuple[str, ...] = Field(default=(), description="transformers' integrations, e.g. tensorboard")
    launch_backend: str = "local"
    gpus: int = Field(default=1, ge=1)


def _several(value: Any) -> Any:
    """The versions of a dataset; older records have a single number."""
    return (value,) if isinstance(value, int) else value


class Run(Stored):
    """A TrainSpec and what became of it. Its state is its job's."""

    run_id: str
    name: str
    spec: TrainSpec
    template: Template
    job_id: str = ""
    data_versions: dict[str, Annotated[tuple[int, ...], BeforeValidator(_several)]] = Field(default_factory=dict)
    """All versions of each dataset that is trained on or looked at; which use has which stands in the spec."""
    dropped_rows: int = 0
    trained_rows: int = 0
    steps: int = 0
    seconds: float = 0.0
    summary: dict[str, float] = Field(default_factory=dict)
    libraries: dict[str, str] = Field(default_factory=dict)
    base: dict[str, str] = Field(default_factory=dict, description="identity of the base's weights; older runs have none")
    complete: bool = False
