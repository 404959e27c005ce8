"""The database's tables. A record's whole content is JSON in ``record``; columns are what is searched by.

Jobs, claims and measured values are columns of their own, since several processes write them.
"""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import Column, DateTime, Text, UniqueConstraint
from sqlmodel import Field, SQLModel


def _time(*, nullable: bool = True, index: bool = False) -> Column:  # type: ignore[type-arg]
    return Column(DateTime(timezone=True), nullable=nullable, index=index)


class DatasetRow(SQLModel, table=True):
    """A dataset by name."""

    __tablename__ = "dataset"
    name: str = Field(primary_key=True)
    record: str = Field(sa_column=Column(Text, nullable=False))


class VersionRow(SQLModel, table=True):
    """A version of a dataset."""

    __tablename__ = "version"
    dataset: str = Field(primary_key=True)
    number: int = Field(primary_key=True)
    record: str = Field(sa_column=Column(Text, nullable=False))


class TemplateRow(SQLModel, table=True):
    """A version of a prompt template."""

    __tablename__ = "template"
    name: str = Field(primary_key=True)
    version: int = Field(primary_key=True)
    used: bool = False
    record: str = Field(sa_column=Column(Text, nullable=False))


class RunRow(SQLModel, table=True):
    """A training run."""

    __tablename__ = "run"
    run_id: str = Field(primary_key=True)
    job_id: str = Field(default="", index=True)
    created_at: datetime = Field(sa_column=_time(nullable=False, index=True))
    record: str = Field(sa_column=Column(Text, nullable=False))


class EvaluationRow(SQLModel, table=True):
    """An evaluation."""

    __tablename__ = "evaluation"
    evaluation_id: str = Field(primary_key=True)
    dataset: str = Field(index=True)
    job_id: str = Field(default="", index=True)
    created_at: datetime = Field(sa_column=_time(nullable=False, index=True))
    record: str = Field(sa_column=Column(Text, nullable=False))


class ConversationRow(SQLModel, table=True):
    """A chat."""

    __tablename__ = "conversation"
    conversation_id: str = Field(primary_key=True)
    updated_at: datetime = Field(sa_column=_time(nullable=False, index=True))
    record: str = Field(sa_column=Column(Text, nullable=False))


class JobRow(SQLModel, table=True):
    """A job; ``number`` gives its place in the queue."""

    __tablename__ = "job"
    number: int | None = Field(default=None, primary_key=True)
    job_id: str = Field(unique=True, index=True)
    kind: str
    title: str = ""
    subject: str = Field(default="", index=True)
    payload: str = Field(sa_column=Column(Text, nullable=False))
    state: str = Field(default="queued", index=True)
    device: str = "cpu"
    pid: int | None = None
    pid_started: float | None = None
    heartbeat: datetime | None = Field(default=None, sa_column=_time())
    created_at: datetime = Field(sa_column=_time(nullable=False))
    started_at: datetime | None = Field(default=None, sa_column=_time())
    ended_at: datetime | None = Field(default=None, sa_column=_time())
    stop_requested: bool = False
    progress: str = Field(default="{}", sa_column=Column(Text, nullable=False))
    error: str = Field(default="", sa_column=Column(Text, nullable=False))
    hint: str = Field(default="", sa_column=Column(Text, nullable=False))


class ClaimRow(SQLModel, table=True):
    """Who holds a device: a job, or the chat engine of a server process."""

    __tablename__ = "claim"
    device: str = Field(primary_key=True)
    holder: str
    pid: int
    pid_started: float
    wanted: bool = False
    busy: bool = False
    since: datetime = Field(sa_column=_time(nullable=False))


class MetricRow(SQLModel, table=True):
    """Measured values of a step of a job, as JSON."""

    __tablename__ = "metric"
    __table_args__ = (UniqueConstraint("job_id", "step", "kind"),)
    number: int | None = Field(default=None, primary_key=True)
    job_id: str = Field(index=True)
    step: int
    kind: str = "step"
    values: str = Field(sa_column=Column("values_json", Text, nullable=False))
