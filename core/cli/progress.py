"""How a waiting command shows a job: one line to stderr now and then, rewritten on a terminal."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

from core.records import Job


def printer(every_seconds: float = 5.0) -> Callable[[Job], None]:
    """A callback for ``core.jobs.queue.wait``: prints state, amount, rate and time left of a job."""
    last: dict[str, str] = {"job": "", "state": ""}
    printed = 0.0
    terminal = sys.stderr.isatty()

    def show(job: Job) -> None:
        nonlocal printed
        moment = time.monotonic()
        fresh = (last["job"], last["state"]) != (job.job_id, job.state)
        if not fresh and moment - printed < (0.5 if terminal else every_seconds):
            return
        last.update(job=job.job_id, state=job.state)
        printed = moment
        end = "\r" if terminal and not fresh else "\n"
        print(line(job).ljust(100) if terminal else line(job), file=sys.stderr, end=end, flush=True)

    return show


def line(job: Job) -> str:
    """One line on a job, e.g. ``train qlora  running  12/50 steps  1.1 steps/s  0:34 left``."""
    parts = [job.title, job.state]
    progress = job.progress
    if progress.total and job.state in ("running", "stopping"):
        parts.append(f"{progress.done:,}/{progress.total:,} {progress.unit}")
        if progress.rate:
            parts.append(f"{progress.rate:.3g} {progress.unit}/s")
        if progress.eta_seconds is not None:
            minutes, seconds = divmod(round(progress.eta_seconds), 60)
            parts.append(f"{minutes}:{seconds:02d} left")
        if progress.message:
            parts.append(progress.message)
    return "  ".join(parts)
