"""Jobs in these tests run on a pretended CPU queue with quick heartbeats, and none outlives its test."""

from __future__ import annotations

import os
from collections.abc import Iterator

import psutil
import pytest

from core.store.jobs import list_jobs


@pytest.fixture(autouse=True)
def quick_jobs(workspace: object, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Heartbeats ten times a second; workers that are left over are ended."""
    monkeypatch.setenv("TUNEWISE_HEARTBEAT_SECONDS", "0.2")
    monkeypatch.setenv("TUNEWISE_LOST_AFTER_SECONDS", "20")
    monkeypatch.setenv("TUNEWISE_DEVICES", "cpu")
    yield
    for job in list_jobs():
        if job.pid not in (None, os.getpid()) and psutil.pid_exists(job.pid) and job.state in ("starting", "running", "stopping"):
            psutil.Process(job.pid).kill()
