"""The process that does one job: ``python -m core.jobs.worker JOB_ID``.

It takes the job, works, writes how it ended, frees its devices and starts whoever is next. A fault that the
user can mend becomes the job's message and hint; anything else also leaves its traceback in the log.
"""

from __future__ import annotations

import os
import signal
import sys
import traceback
import warnings
from types import FrameType

from sqlmodel import col, delete, select

from core.errors import UserError
from core.jobs.dispatcher import dispatch
from core.jobs.handlers import handler_of
from core.jobs.processes import process_start
from core.jobs.reporter import SupersededError, WorkerReporter
from core.records import LIVE_STATES, Job, JobState, now
from core.store.database import write
from core.store.files import disk_is_full, full_disk
from core.store.jobs import get_job, to_job
from core.store.tables import ClaimRow, JobRow


def main(job_id: str) -> int:
    """Do a job that was started for this process; returns the exit code (0 finished or stopped, 1 failed)."""
    job = _take(job_id)
    if job is None:
        print(f"Job {job_id} is not waiting for a worker: nothing to do.", flush=True)
        return 0
    reporter = WorkerReporter(job_id)

    def on_signal(_number: int, _frame: FrameType | None) -> None:
        reporter.request_stop()

    signal.signal(signal.SIGTERM, on_signal)
    signal.signal(signal.SIGINT, on_signal)
    reporter.log(f"worker {os.getpid()} began {job.kind} job {job_id} on {job.device}")
    try:
        state, error, hint = _work(job, reporter)
    except SupersededError:
        reporter.log("this job was given up as lost meanwhile; leaving it alone")
        return 1
    reporter.close()
    _end(job_id, state, error, hint)
    reporter.log(f"worker {os.getpid()} ended job {job_id}: {state}")
    dispatch()
    return 1 if state == "failed" else 0


def _work(job: Job, reporter: WorkerReporter) -> tuple[JobState, str, str]:
    try:
        if job.stop_requested:
            return "stopped", "", ""
        return ("finished" if handler_of(job.kind)(job, reporter) else "stopped"), "", ""
    except UserError as error:
        reporter.log(f"failed: {error.message} {error.hint}")
        return "failed", error.message, error.hint
    except SupersededError:
        raise
    except BaseException as error:
        traceback.print_exc(file=sys.stdout)
        if disk_is_full(error):
            fault = full_disk()
            return "failed", fault.message, fault.hint
        text = f"{type(error).__name__}: {error}".strip().splitlines()[0][:500]
        return "failed", text, "This is a fault of Tunewise or of a library it uses; the job's log has all of it."


def _take(job_id: str) -> Job | None:
    """Make the job this process's; none if it isn't waiting for a worker (stopped meanwhile, or taken)."""
    with write() as session:
        row = session.exec(select(JobRow).where(JobRow.job_id == job_id)).first()
        if row is None or row.state not in ("starting", "stopping") or row.pid not in (None, os.getpid()):
            return None
        row.pid, row.pid_started, row.heartbeat = os.getpid(), process_start(os.getpid()), now()
        if row.state == "starting":
            row.state = "running"
        session.add(row)
        session.flush()
        return to_job(row)


def _end(job_id: str, state: JobState, error: str, hint: str) -> None:
    with write() as session:
        row = session.exec(select(JobRow).where(JobRow.job_id == job_id)).first()
        if row is None or row.pid != os.getpid() or row.state not in LIVE_STATES:
            return
        row.state, row.error, row.hint, row.ended_at = state, error, hint, now()
        session.add(row)
        session.exec(delete(ClaimRow).where(col(ClaimRow.holder) == job_id))


if __name__ == "__main__":
    warnings.filterwarnings("ignore", category=FutureWarning)  # between libraries; in a log they hide what matters
    get_job(sys.argv[1])
    sys.exit(main(sys.argv[1]))
