"""What was found: records, and nothing else."""

from __future__ import annotations

from typing import Literal

from core.records import Record

State = Literal["ok", "missing", "warning", "fault"]


class Finding(Record):
    """One thing that was looked at: its state, what was seen, and what to do if it isn't well."""

    name: str
    state: State
    value: str
    adds: str = ""
    remedy: str = ""


class Gpu(Record):
    """A GPU as nvidia-smi sees it; memory in GB (10^9 bytes)."""

    index: int
    name: str
    memory_gb: float
    free_gb: float
    driver: str
    compute: str
    busy_percent: int | None = None


class Generation(Record):
    """What the default model said, and how fast."""

    text: str
    tokens: int
    load_seconds: float
    tokens_per_second: float
    device: str = ""
    decoding: str = ""


class Report(Record):
    """All findings, and in ``can`` what follows from them in plain sentences."""

    machine: tuple[Finding, ...]
    gpus: tuple[Gpu, ...]
    libraries: tuple[Finding, ...]
    optional: tuple[Finding, ...]
    storage: tuple[Finding, ...]
    model: Finding
    generation: Generation | None = None
    can: tuple[str, ...] = ()

    @property
    def faults(self) -> tuple[Finding, ...]:
        """What keeps Tunewise from working as a whole."""
        looked = (*self.machine, *self.libraries, *self.storage, self.model)
        return tuple(f for f in looked if f.state in ("fault", "missing"))
