"""The typed records that everything else passes around, and what a long task reports to.

Pydantic models, frozen, each with a schema version where it is stored. Knows nothing of
how they are stored, shown or computed.
"""

from __future__ import annotations

import secrets
from datetime import UTC, datetime
from typing import Any, Literal, Protocol

from pydantic import BaseModel, ConfigDict, Field

Task = Literal["extraction", "classification", "generation", "chat", "code"]
Split = Literal["train", "dev", "test"]
SPLITS: tuple[Split, ...] = ("train", "dev", "test")
Method = Literal["full", "lora", "qlora"]
Quantisation = Literal["none", "int8", "nf4"]
Overflow = Literal["drop", "shorten_input", "shorten_left", "shorten_around"]
JobState = Literal["queued", "starting", "running", "stopping", "finished", "failed", "stopped", "lost"]
LIVE_STATES: frozenset[str] = frozenset({"starting", "running", "stopping"})
ENDED_STATES: frozenset[str] = frozenset({"finished", "failed", "stopped", "lost"})


def now() -> datetime:
    """The present moment, with its time zone (UTC)."""
    return datetime.now(UTC)


def new_id(prefix: str) -> str:
    """A short identifier that sorts by time, e.g. ``run-1124-2359-3f9a1c``."""
    return f"{prefix}-{now():%m%d-%H%M}-{secrets.token_hex(3)}"


class Record(BaseModel):
    """Base of all records: frozen, and an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Stored(Record):
    """A record that is stored, with the version of its schema."""

    schema_version: int = 1
    created_at: datetime = Field(default_factory=now)


# ---------------------------------------------------------------- data


class Dataset(Stored):
    """A named dataset; its rows live in versions."""

    name: str
    task: Task = "extraction"
    elements: tuple[str, ...] = ()
    elements_inferred: bool = False


class Step(Record):
    """One step of a recipe: a typed operation (``core.data.operations``) with its parameters."""

    step_id: str = Field(default_factory=lambda: secrets.token_hex(4))
    op: str
    params: dict[str, Any] = Field(default_factory=dict)


class Version(Stored):
    """An immutable state of a dataset: what the recipe so far made of the imports."""

    dataset: str
    number: int
    parent: int | None = None
    recipe: tuple[Step, ...] = ()
    rows: int = 0
    quarantined: int = 0
    content_hash: str = ""
    split_sizes: dict[str, int] = Field(default_factory=dict)
    note: str = ""


class Message(Record):
    """One turn of a conversation."""

    role: Literal["system", "user", "assistant", "tool"]
    content: str


class Row(Record):
    """One example. In Parquet ``messages`` and ``extra`` are JSON text or null (see ``core.store.schema``)."""

    row_id: str
    instruction: str = ""
    input: str = ""
    output: str = ""
    messages: tuple[Message, ...] | None = None
    split: str = ""
    source: str = ""
    line: int = 0
    extra: dict[str, Any] = Field(default_factory=dict)


# ---------------------------------------------------------------- prompts and models


class Template(Stored):
    """How a row becomes a prompt and an answer. Immutable once used; a change is a new version.

    ``system``, ``user`` and ``answer`` are Jinja texts. ``chat``: the tokenizer's own chat
    template is put around them; ``raw``: they are concatenated as they are.
    """

    name: str
    version: int = 1
    kind: Literal["chat", "raw"] = "chat"
    system: str = ""
    user: str = "{{ instruction }}\n{{ input }}"
    answer: str = "{{ output }}"
    stop: tuple[str, ...] = ()
    enable_thinking: bool | None = None
    language: str = ""
    description: str = ""

    @property
    def ref(self) -> str:
        """``name@version``, as it is written in specs and signatures."""
        return f"{self.name}@{self.version}"


class ModelRef(Record):
    """A model: where it comes from and how it is loaded."""

    source: Literal["hub", "modelscope", "path", "default", "endpoint"] = "default"
    name: str = "SmolLM2-135M-Instruct"
    revision: str | None = None
    dtype: Literal["auto", "bfloat16", "float16", "float32"] = "auto"
    quantisation: Quantisation = "none"

    @property
    def label(self) -> str:
        """A short name for tables and charts."""
        short = self.name.rstrip("/").rsplit("/", 1)[-1]
        return short if self.quantisation == "none" else f"{short} ({self.quantisation})"


class NamedEndpoint(Stored):
    """A model behind an address that speaks the OpenAI chat protocol; a ModelRef's ``name`` with source ``endpoint``.

    ``key_variable`` names the environment variable (or Streamlit secret) that holds the key. Prices are of a million tokens.
    """

    name: str
    url: str
    model: str
    key_variable: str = "TUNEWISE_ENDPOINT_KEY"
    price_in: float | None = Field(default=None, ge=0)
    price_out: float | None = Field(default=None, ge=0)


class GenerationSettings(Record):
    """How an answer is generated. ``temperature`` 0 is greedy."""

    max_new_tokens: int = Field(default=128, ge=1, le=32768)
    temperature: float = Field(default=0.0, ge=0, le=5)
    top_p: float = Field(default=1.0, gt=0, le=1)
    top_k: int = Field(default=0, ge=0)
    repetition_penalty: float = Field(default=1.0, gt=0, le=5)
    seed: int = 0
    stop: tuple[str, ...] = ()


# ---------------------------------------------------------------- training


class DatasetUse(Record):
    """A split of a dataset's version, with its weight in a mix."""

    dataset: str
    version: int | None = None
    split: str = "train"
    weight: float = Field(default=1.0, gt=0)
    limit: int | None = Field(default=None, ge=1)


class TrainSpec(Record):
    """Everything that decides a training run. Every field has a sound default but ``data``."""

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


class Run(Stored):
    """A TrainSpec and what became of it. Its state is its job's."""

    run_id: str
    name: str
    spec: TrainSpec
    template: Template
    job_id: str = ""
    data_versions: dict[str, int] = Field(default_factory=dict)
    dropped_rows: int = 0
    trained_rows: int = 0
    steps: int = 0
    seconds: float = 0.0
    summary: dict[str, float] = Field(default_factory=dict)
    libraries: dict[str, str] = Field(default_factory=dict)
    complete: bool = False


# ---------------------------------------------------------------- evaluation


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


# ---------------------------------------------------------------- other measurements


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


# ---------------------------------------------------------------- conversations and jobs


class Turn(Record):
    """A message of a chat with how it came about (arm, tokens, seconds); ``arm`` is null for the user's.

    ``instruction``: what stood before a user's text. ``left_out``: earlier messages that an answer's prompt had no room
    for. ``cut``: it reached its longest length. ``error`` and ``hint``: why an arm has no answer.
    """

    role: Literal["system", "user", "assistant"]
    content: str
    instruction: str = ""
    arm: int | None = None
    tokens_in: int = 0
    tokens_out: int = 0
    seconds: float = 0.0
    first_token_seconds: float = 0.0
    left_out: int = 0
    stopped: bool = False
    cut: bool = False
    error: str = ""
    hint: str = ""


class Conversation(Stored):
    """A chat that is kept: one or several arms answer each question."""

    conversation_id: str
    name: str
    arms: tuple[Arm, ...] = ()
    system: str = ""
    turns: tuple[Turn, ...] = ()


class Progress(Record):
    """How far a job is. ``rate`` is in ``unit`` per second; ``eta_seconds`` is the time left."""

    done: int = 0
    total: int = 0
    unit: str = "rows"
    rate: float = 0.0
    eta_seconds: float | None = None
    message: str = ""


class Job(Stored):
    """A piece of work for a worker process. Times are UTC; ``pid_started`` is the process's own start time."""

    job_id: str
    kind: str
    payload: dict[str, Any] = Field(default_factory=dict)
    title: str = ""
    state: JobState = "queued"
    device: str = "cpu"
    subject: str = ""
    pid: int | None = None
    pid_started: float | None = None
    heartbeat: datetime | None = None
    started_at: datetime | None = None
    ended_at: datetime | None = None
    stop_requested: bool = False
    progress: Progress = Progress()
    error: str = ""
    hint: str = ""


class Reporter(Protocol):
    """What a long task tells the world. A worker's reporter writes to the database; a shell's prints."""

    def progress(self, done: int, total: int, *, unit: str = "rows", message: str = "") -> None:
        """Say how far the task is. Cheap: may be called at each row or step."""

    def metrics(self, step: int, values: dict[str, float]) -> None:
        """Keep measured values of a step."""

    def log(self, text: str) -> None:
        """Add a line to the log."""

    def should_stop(self) -> bool:
        """Whether a stop was asked for. Cheap: may be called at each step."""


class SilentReporter:
    """A reporter for callers that want none; never stops."""

    def progress(self, done: int, total: int, *, unit: str = "rows", message: str = "") -> None: ...

    def metrics(self, step: int, values: dict[str, float]) -> None: ...

    def log(self, text: str) -> None: ...

    def should_stop(self) -> bool:
        return False
