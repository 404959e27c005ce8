"""What all records share: their base classes, identifiers, and the words that several of them use."""

from __future__ import annotations

import secrets
from datetime import UTC, datetime
from typing import Literal

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
