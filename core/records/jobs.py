"""Records of conversations and of jobs, and what a long task reports to."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal, Protocol

from pydantic import Field

from core.records.base import JobState, Record, Stored
from core.records.evaluation import Arm


class Turn(Record):
    """A message of a chat with how it came about (arm, tokens, seconds); ``arm`` is null for the user's.

    ``instruction``: what stood before a user's text. ``left_out``: earlier messages that an answer's prompt had no room
    for. ``cut``: it reached its longest length. ``error`` and ``hint``: why an arm has no answer. ``cost``: by the prices of
    the endpoint when it answered, of no currency; none where there is no price, or the endpoint told no tokens.
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
    cost: float | None = None


class Spent(Record):
    """What answers took together. ``seconds``: summed, also over those that came at once; ``cost``: over ``priced`` ones."""

    answers: int = 0
    tokens_in: int = 0
    tokens_out: int = 0
    seconds: float = 0.0
    cost: float = 0.0
    priced: int = 0


class Conversation(Stored):
    """A chat that is kept: one or several arms answer each question. ``replaced``: what answers took that are gone by now."""

    conversation_id: str
    name: str
    arms: tuple[Arm, ...] = ()
    system: str = ""
    turns: tuple[Turn, ...] = ()
    replaced: Spent = Spent()


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

    def progress(self, done: int, total: int, *, unit: str = "rows", message: str = "", left: float | None = None) -> None:
        """Say how far the task is. Cheap: may be called at each row or step.

        ``left``: seconds to its end, where the task knows better than its pace tells.
        """

    def metrics(self, step: int, values: dict[str, float]) -> None:
        """Keep measured values of a step."""

    def log(self, text: str) -> None:
        """Add a line to the log."""

    def should_stop(self) -> bool:
        """Whether a stop was asked for. Cheap: may be called at each step."""


class SilentReporter:
    """A reporter for callers that want none; never stops."""

    def progress(self, done: int, total: int, *, unit: str = "rows", message: str = "", left: float | None = None) -> None: ...

    def metrics(self, step: int, values: dict[str, float]) -> None: ...

    def log(self, text: str) -> None: ...

    def should_stop(self) -> bool:
        return False
