"""Launch backends: how a worker process is started, stopped and looked at. ``local`` starts it on this machine.

Another backend (a cluster's scheduler, with PostgreSQL and a shared workspace) is one more class in ``BACKENDS``.
Knows nothing of what jobs do, nor of the queue.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple, Protocol

from core.errors import SpecError
from core.jobs.devices import list_devices, visible_devices
from core.jobs.processes import ask_to_end, is_living, kill_tree, process_start
from core.records import Job
from core.settings import get_settings
from core.store.files import workspace
from core.store.jobs import log_path, log_tail

ROOT = Path(__file__).resolve().parents[2]


class Launched(NamedTuple):
    """Process identifier of a worker and when it began (seconds since 1970)."""

    pid: int
    started: float


class Backend(Protocol):
    """What the queue asks of a way to launch workers."""

    def submit(self, job_id: str, devices: tuple[str, ...]) -> Launched:
        """Start a worker for a job on its devices. OSError if it can't be started."""

    def stop(self, job: Job, *, force: bool) -> None:
        """Ask the worker to end (it saves what it has), or end it at once with all its children."""

    def alive(self, job: Job) -> bool | None:
        """Whether the worker lives; none where that can't be told (its heartbeat decides then)."""

    def log(self, job: Job, lines: int) -> str:
        """The last lines that the worker wrote."""


class LocalBackend:
    """Workers as processes of this machine, each in a session of its own, so that they outlive who started them."""

    _children: list[subprocess.Popen[bytes]]

    def __init__(self) -> None:
        self._children = []

    def submit(self, job_id: str, devices: tuple[str, ...]) -> Launched:
        self._reap()
        path = log_path(job_id)
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("ab") as log:
            child = subprocess.Popen(
                [sys.executable, "-u", "-m", "core.jobs.worker", job_id],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                env=worker_environment(devices),
            )
        self._children.append(child)
        return Launched(child.pid, process_start(child.pid) or 0.0)

    def stop(self, job: Job, *, force: bool) -> None:
        if job.pid is not None:
            (kill_tree if force else ask_to_end)(job.pid, job.pid_started)

    def alive(self, job: Job) -> bool | None:
        self._reap()
        return None if job.pid is None else is_living(job.pid, job.pid_started)

    def log(self, job: Job, lines: int) -> str:
        return log_tail(job.job_id, lines)

    def _reap(self) -> None:
        """Let ended children go, which are zombies until somebody asks for their exit code."""
        self._children = [child for child in self._children if child.poll() is None]


def worker_environment(devices: tuple[str, ...]) -> dict[str, str]:
    """This process's environment with what a worker must see the same way from anywhere (absolute paths, its devices)."""
    settings = get_settings()
    environment = dict(os.environ)
    paths = [str(ROOT), *filter(None, [environment.get("PYTHONPATH")])]
    environment.update(
        PYTHONPATH=os.pathsep.join(dict.fromkeys(os.pathsep.join(paths).split(os.pathsep))),
        PYTHONIOENCODING="utf-8",
        TOKENIZERS_PARALLELISM="false",
        TUNEWISE_WORKSPACE=str(workspace()),
        TUNEWISE_MODEL_CACHE=str(settings.model_cache.absolute()),
        TUNEWISE_DEVICES=",".join(list_devices()),
        CUDA_DEVICE_ORDER="PCI_BUS_ID",
        CUDA_VISIBLE_DEVICES=visible_devices(devices),
    )
    return environment


BACKENDS: dict[str, Backend] = {"local": LocalBackend()}


def get_backend(name: str = "") -> Backend:
    """A backend by name; the configured one when no name is given."""
    name = name or get_settings().launch_backend
    if name not in BACKENDS:
        raise SpecError(f"There is no launch backend {name!r}", f"Those here: {', '.join(BACKENDS)}.")
    return BACKENDS[name]


def backend_of(job: Job) -> Backend:
    """The backend that a job was queued for."""
    return get_backend(str(job.payload.get("backend", "")))
