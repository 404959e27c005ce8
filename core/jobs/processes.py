"""Whether a process that was noted down earlier still lives.

A process identifier alone is reused by the system; with the start time it names one process.
"""

from __future__ import annotations

import contextlib
import os
import signal

import psutil

SAME_START_SECONDS = 5.0
"""Start times closer than this are the same process (the system clock may have been set meanwhile)."""


def process_start(pid: int) -> float | None:
    """Start time of a living process in seconds since 1970; none if there is no such process or it is a zombie."""
    try:
        process = psutil.Process(pid)
        return None if process.status() == psutil.STATUS_ZOMBIE else process.create_time()
    except psutil.Error:
        return None


def is_living(pid: int, started: float | None) -> bool:
    """Whether the process ``pid`` that began at ``started`` still runs."""
    found = process_start(pid)
    return found is not None and (started is None or abs(found - started) < SAME_START_SECONDS)


def kill_tree(pid: int, started: float | None) -> None:
    """End a process and all its descendants at once, if it is still the process that began at ``started``."""
    if not is_living(pid, started):
        return
    with contextlib.suppress(psutil.Error):
        process = psutil.Process(pid)
        family = [*process.children(recursive=True), process]
        for member in family:
            with contextlib.suppress(psutil.Error):
                member.kill()
        psutil.wait_procs(family, timeout=5)


def ask_to_end(pid: int, started: float | None) -> None:
    """Send SIGTERM, if it is still the process that began at ``started``."""
    if is_living(pid, started):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)
