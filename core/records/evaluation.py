"""Records of evaluations: one way to answer, on what, and what came of it."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from core.records.base import Record, Stored, Task
from core.records.models import GenerationSettings, ModelRef, NamedEndpoint, Template


class Passages(Record):
    """Documents that are searched for each row: the ``k`` passages most like it go into the prompt, as ``passages``.

    A word, or one character of a script without spaces, counts one towards ``size`` and ``overlap``.
    """

    folder: str
    k: int = Field(default=3, ge=1, le=20)
    size: int = Field(default=200, ge=20, le=4000, description="longest passage")
    overlap: int = Field(default=40, ge=0, description="what a passage repeats of the one before, at most")
    content: str = Field(default="", description="hash of the documents as they were when the evaluation was queued")


class Arm(Record):
    """One way to answer: model, adapter or none, template, worked examples, passages, generation settings."""

    model: ModelRef = ModelRef()
    run: str | None = None
    template: str = "chat"
    shots: int = Field(default=0, ge=0)
    shots_how: Literal["fixed", "retrieved"] = "fixed"
    generation: GenerationSettings = GenerationSettings()
    constrained: bool = Field(default=False, description="answers are kept to a JSON object of the dataset's elements")
    passages: Passages | None = None
    endpoint: NamedEndpoint | None = Field(default=None, description="where the model answers, if not here")
    workers: int = Field(default=8, ge=1, le=256, description="questions under way at once at an endpoint")
    name: str = ""


class EvaluationSpec(Record):
    """What an evaluation job is asked to do."""

    dataset: str
    version: int | None = None
    split: str = "test"
    limit: int | None = Field(default=None, ge=1)
    arm: Arm = Arm()
    perplexity: bool = True


class Evaluation(Stored):
    """An arm on a split of a version. Predictions and per-row statistics are Parquet beside it."""

    evaluation_id: str
    name: str
    spec: EvaluationSpec
    task: Task
    elements: tuple[str, ...] = ()
    template: Template
    version: int
    job_id: str = ""
    rows: int = 0
    scores: dict[str, Any] = Field(default_factory=dict)
    signature: dict[str, str] = Field(default_factory=dict)
    seconds: float = 0.0
    complete: bool = False

    @property
    def short_name(self) -> str:
        """The name without the dataset and split that begin one not given by hand, for where these stand beside it."""
        return self.name.removeprefix(f"{self.spec.dataset} {self.spec.split}: ")
