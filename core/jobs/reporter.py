"""The reporter of a worker: progress, metrics and heartbeat go to the database together, about every second.

Calls from the task only touch memory, so they may come at every row or step. One background thread
writes, in one short transaction a beat; it also learns whether a stop was asked for.
"""

from __future__ import annotations

import os
import threading
import time
from collections import deque

from sqlalchemy.exc import OperationalError
from sqlmodel import select

from core.records import LIVE_STATES, Progress, now
from core.settings import get_settings
from core.store.database import read, write
from core.store.jobs import merge_metrics
from core.store.tables import JobRow

RATE_WINDOW_SECONDS = 60.0
STOP_LOOK_SECONDS = 0.5


class SupersededError(Exception):
    """The job is no longer this process's: it was given up as lost, or belongs to another worker."""


class WorkerReporter:
    """Reporter of the job that this process works on. ``close()`` writes the rest."""

    def __init__(self, job_id: str) -> None:
        self._job_id = job_id
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self._progress: Progress | None = None
        self._metrics: dict[int, dict[str, float]] = {}
        self._points: deque[tuple[float, int]] = deque()
        self._said: float | None = None
        self._stop = threading.Event()
        self._superseded = threading.Event()
        self._ended = threading.Event()
        self._looked = 0.0
        self._thread = threading.Thread(target=self._beat_on, name="heartbeat", daemon=True)
        self._thread.start()

    def progress(self, done: int, total: int, *, unit: str = "rows", message: str = "", left: float | None = None) -> None:
        """Say how far the task is; rate and time left come from the last minute, unless the task says what is ``left``.

        What it says is counted down until it says it anew.
        """
        moment = time.monotonic()
        with self._lock:
            begun_anew = self._progress is not None and not self._progress.total and total  # what was before had no end in sight
            if self._points and (done < self._points[-1][1] or begun_anew):
                self._points.clear()
            self._points.append((moment, done))
            while len(self._points) > 2 and moment - self._points[0][0] > RATE_WINDOW_SECONDS:
                self._points.popleft()
            (first, begun), (last, now_done) = self._points[0], self._points[-1]
            rate = (now_done - begun) / (last - first) if last > first else 0.0
            self._said = None if left is None else moment
            if left is None and rate > 0:
                left = (total - done) / rate
            self._progress = Progress(done=done, total=total, unit=unit, rate=rate, eta_seconds=left, message=message)

    def metrics(self, step: int, values: dict[str, float]) -> None:
        """Keep measured values of a step."""
        with self._lock:
            self._metrics.setdefault(step, {}).update({key: float(value) for key, value in values.items()})

    def log(self, text: str) -> None:
        """Add a line to the job's log (the worker's standard output)."""
        print(f"{time.strftime('%H:%M:%S')} {text}", flush=True)

    def should_stop(self) -> bool:
        """Whether a stop was asked for. Raises SupersededError when the job is no longer ours."""
        if self._superseded.is_set():
            raise SupersededError(self._job_id)
        if not self._stop.is_set() and time.monotonic() - self._looked > STOP_LOOK_SECONDS:
            self._looked = time.monotonic()
            with read() as session:
                asked = session.exec(select(JobRow.stop_requested).where(JobRow.job_id == self._job_id)).first()
            if asked:
                self._stop.set()
        return self._stop.is_set()

    def request_stop(self) -> None:
        """Stop at the next step (a signal handler calls this)."""
        self._stop.set()

    def close(self) -> None:
        """Write what is still in memory and end the heartbeat."""
        self._ended.set()
        self._thread.join(timeout=60)
        self._beat()

    def _beat_on(self) -> None:
        while not self._ended.wait(get_settings().heartbeat_seconds / 2):
            try:
                self._beat()
            except OperationalError as error:  # a database that is locked or away for a moment is no reason to die
                self.log(f"heartbeat not written: {error.orig}")

    def _beat(self) -> None:
        with self._lock:
            progress, metrics, said = self._progress, self._metrics, self._said
            self._metrics = {}
        try:
            with write() as session:
                row = session.exec(select(JobRow).where(JobRow.job_id == self._job_id)).first()
                if row is None or row.pid != self._pid or row.state not in LIVE_STATES:
                    self._superseded.set()
                    return
                row.heartbeat = now()
                if progress is not None:
                    row.progress = _counted_down(progress, said).model_dump_json()
                session.add(row)
                merge_metrics(session, self._job_id, metrics)
                asked = row.stop_requested
        except OperationalError:
            with self._lock:
                self._metrics = {**metrics, **self._metrics}
            raise
        if asked:
            self._stop.set()


def _counted_down(progress: Progress, said: float | None) -> Progress:
    """Progress with what is left by now of the seconds that the task said were left at ``said`` (a monotonic clock's)."""
    if said is None or progress.eta_seconds is None:
        return progress
    return progress.model_copy(update={"eta_seconds": max(0.0, progress.eta_seconds - (time.monotonic() - said))})
