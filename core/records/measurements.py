"""Records of the other measurements: judging, code tasks, perplexity of texts."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from core.records.base import Record, Stored
from core.records.models import GenerationSettings, ModelRef, NamedEndpoint


class JudgeSpec(Record):
    """A model judges one evaluation's answers by a rubric, or two evaluations' against each other."""

    kind: Literal["judge"] = "judge"
    evaluations: tuple[str, ...] = Field(min_length=1, max_length=2)
    model: ModelRef = ModelRef()
    endpoint: NamedEndpoint | None = None
    workers: int = Field(default=8, ge=1, le=256)
    rubric: str = Field(default="", description="what a good answer is, in words; empty: the usual one")
    low: int = 1
    high: int = 5
    gold: bool = Field(default=True, description="the judge sees the gold answer")
    labels: str = Field(default="", description="file of people's labels to agree with")
    limit: int | None = Field(default=None, ge=1)


class CodeSpec(Record):
    """A model answers code tasks, or samples from a file are taken; programs run in the sandbox, pass@k is estimated."""

    kind: Literal["code"] = "code"
    model: ModelRef = ModelRef()
    run: str | None = None
    template: str = Field(default="code", description="code: the code as it is")
    problems: str = Field(default="", description="file of tasks; empty: HumanEval's")
    samples_file: str = Field(default="", description="answers from elsewhere; empty: the model's")
    samples: int = Field(default=1, ge=1, description="answers to each task")
    generation: GenerationSettings = GenerationSettings(max_new_tokens=384)
    limit: int | None = Field(default=None, ge=1)
    ks: tuple[int, ...] = (1, 10, 100)
    seconds: float = Field(default=5.0, ge=0.5, description="longest run of a program")


class TextSpec(Record):
    """Perplexity of plain texts, by a window that slides over them."""

    kind: Literal["text"] = "text"
    files: tuple[str, ...] = Field(min_length=1)
    model: ModelRef = ModelRef()
    run: str | None = None
    window: int = Field(default=1024, ge=2)
    stride: int = Field(default=512, ge=1)


class Measurement(Stored):
    """A measurement that isn't an evaluation of a dataset's rows, and what came of it. Its state is its job's."""

    measurement_id: str
    name: str
    spec: JudgeSpec | CodeSpec | TextSpec = Field(discriminator="kind")
    job_id: str = ""
    seconds: float = 0.0
    result: dict[str, Any] = Field(default_factory=dict)
    complete: bool = False
