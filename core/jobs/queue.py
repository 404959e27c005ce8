"""The queue as pages and the command line use it: enqueue, stop, resume, wait, and who stands where.

Knows the records of jobs; what a job does is in ``handlers``, who runs next in ``dispatcher``.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sqlmodel import select

from core.errors import SpecError, UserError
from core.jobs.backends import backend_of, get_backend
from core.jobs.claims import claim_device, is_wanted, list_claims, release_device, set_busy, watch_claim, who_holds
from core.jobs.devices import FILES, NETWORK, candidates, default_device, device_kind, gpu_count, list_devices
from core.jobs.dispatcher import dispatch
from core.jobs.handlers import handler_of
from core.jobs.measurements import prepare_measurement
from core.jobs.submissions import prepare_evaluation, prepare_training
from core.jobs.successors import UNFINISHED, after, ended_with, predecessors, reason
from core.records import (
    ENDED_STATES,
    LIVE_STATES,
    CodeSpec,
    Evaluation,
    EvaluationSpec,
    Job,
    JudgeSpec,
    Measurement,
    Progress,
    Run,
    TextSpec,
    TrainSpec,
)
from core.store.database import read, write
from core.store.jobs import add_job, change_job, get_job, list_jobs
from core.store.measurements import save_measurement
from core.store.runs import save_evaluation, save_run
from core.store.tables import JobRow

__all__ = [
    "claim_device",
    "default_device",
    "dispatch",
    "enqueue",
    "enqueue_evaluation",
    "enqueue_export",
    "enqueue_import",
    "enqueue_measurement",
    "enqueue_profile",
    "enqueue_training",
    "gpu_count",
    "is_wanted",
    "list_claims",
    "list_devices",
    "position",
    "predecessor",
    "release_device",
    "resume",
    "set_busy",
    "stop",
    "to_resume",
    "wait",
    "waits_for",
    "watch_claim",
    "who_holds",
]


def enqueue(
    kind: str,
    payload: dict[str, Any] | None = None,
    *,
    title: str = "",
    subject: str = "",
    device: str = "",
    gpus: int = 1,
    backend: str = "",
    after: str = "",
) -> Job:
    """Put a job at the end of the queue, without starting anything (``dispatch()`` does).

    ``after``: a job that must finish first; while it hasn't, this one waits and lets others go before it.

    ``device``: ``cpu``, ``cuda`` (any GPU) or ``cuda:1``; empty: a GPU where there is one. SpecError if more
    devices are asked for than there are.
    """
    handler_of(kind)
    get_backend(backend)
    device = device or device_kind()
    there = len(candidates(device)) if device.startswith("cuda") else 0
    if gpus > max(1, there):
        raise SpecError(f"{gpus} GPUs are asked for, and this machine has {there}", "Lower `gpus`.")
    full = {**(payload or {}), "device": device, "gpus": gpus, "backend": backend} | ({"after": after} if after else {})
    return add_job(kind, full, title=title, subject=subject, device=device)


def enqueue_training(spec: TrainSpec) -> tuple[Job, Run]:
    """Check a training's spec, keep its run with template and data versions frozen, and queue it.

    SpecError lists all faults; nothing is written then.
    """
    run = prepare_training(spec)
    title = f"Train {run.name}"
    job = enqueue("train", title=title, subject=run.run_id, gpus=spec.gpus, backend=spec.launch_backend)
    run = save_run(run.model_copy(update={"job_id": job.job_id}))
    dispatch()
    return get_job(job.job_id), run


def enqueue_evaluation(spec: EvaluationSpec, after: str = "") -> tuple[Job, Evaluation]:
    """Check what an evaluation needs, keep its record with template and version frozen, and queue it.

    ``after``: the job of a training whose run it asks.
    """
    evaluation = prepare_evaluation(spec)
    device = NETWORK if evaluation.spec.arm.endpoint is not None else ""
    job = enqueue("evaluate", title=f"Evaluate {evaluation.name}", subject=evaluation.evaluation_id, device=device, after=after)
    evaluation = save_evaluation(evaluation.model_copy(update={"job_id": job.job_id}))
    dispatch()
    return get_job(job.job_id), evaluation


def enqueue_measurement(spec: JudgeSpec | CodeSpec | TextSpec, name: str = "") -> tuple[Job, Measurement]:
    """Check what a judge, code tasks or texts need, keep the record and queue it."""
    measurement = prepare_measurement(spec, name)
    spec = measurement.spec
    device = NETWORK if isinstance(spec, JudgeSpec) and spec.endpoint is not None else ""
    device = FILES if isinstance(spec, CodeSpec) and spec.samples_file else device
    job = enqueue("measure", title=f"Measure {measurement.name}", subject=measurement.measurement_id, device=device)
    measurement = save_measurement(measurement.model_copy(update={"job_id": job.job_id}))
    dispatch()
    return get_job(job.job_id), measurement


def enqueue_import(path: str, name: str, **arguments: Any) -> Job:
    """Queue and start the import of a file by a worker; ``arguments`` are those of ``import_file``, and ``upload``."""
    payload = {"path": path, "name": name, **arguments}
    job = enqueue("import", payload, title=f"Import {Path(path).name} into {name}", subject=name, device=FILES)
    dispatch()
    return get_job(job.job_id)


def enqueue_export(run: Run, *, merge: bool, check: int) -> Job:
    """Queue and start writing a finished run to a folder; the job that already does it, if there is one.

    ``check``: on how many rows merged weights are compared with the adapter.
    """
    for job in list_jobs({"queued", *LIVE_STATES}):
        if (job.kind, job.subject, job.payload.get("merge")) == ("export", run.run_id, merge):
            return job
    title = f"Merge {run.name}" if merge else f"Export {run.name}"
    job = enqueue("export", {"merge": merge, "check": check}, title=title, subject=run.run_id, device="" if merge else FILES)
    dispatch()
    return get_job(job.job_id)


def enqueue_profile(name: str, version: int) -> Job:
    """Queue and start the profile of a version by a worker; the job that already does it, if there is one."""
    subject = f"{name}@{version}"
    for job in list_jobs({"queued", *LIVE_STATES}):
        if (job.kind, job.subject) == ("profile", subject):
            return job
    payload = {"name": name, "version": version}
    job = enqueue("profile", payload, title=f"Look through {name}, version {version}", subject=subject, device=FILES)
    dispatch()
    return get_job(job.job_id)


def stop(job_id: str, *, force: bool = False) -> Job:
    """Ask a job to stop; one that only waits is stopped at once.

    A running job obeys at its next step and saves what it has. ``force`` ends its process instead: what was
    not saved is lost.
    """
    with write() as session:
        row = session.exec(select(JobRow).where(JobRow.job_id == job_id)).first()
        if row is not None and row.state == "queued":
            row.state, row.stop_requested = "stopped", True
        elif row is not None and row.state in LIVE_STATES:
            row.state, row.stop_requested = "stopping", True
    job = get_job(job_id)
    if force and job.state in LIVE_STATES:
        backend_of(job).stop(job, force=True)
    dispatch()
    return get_job(job_id)


def resume(job_id: str) -> Job:
    """Queue a stopped, failed or lost job again, for the same run; it keeps its old place, so it is soon its turn.

    Jobs that ended because this one had come back with it. UserError for a job whose predecessor still has to be resumed.
    """
    job = get_job(job_id)
    before = predecessor(job)
    if after(job) and job.state in UNFINISHED and (before is None or before.state in UNFINISHED):
        raise UserError(*reason(before))
    if not _requeue(job_id):
        raise UserError(
            f"Job {job_id} is {get_job(job_id).state}, so there is nothing to resume",
            "Only a stopped, failed or lost job can be resumed." if job.state != "queued" else "It waits for its turn.",
        )
    for later in ended_with(job, list_jobs(UNFINISHED)):
        _requeue(later.job_id)
    dispatch()
    return get_job(job_id)


def predecessor(job: Job) -> Job | None:
    """The job that this one comes after, as it is now; none where there is none, or none any more."""
    with read() as session:
        return predecessors(session, [job]).get(after(job))


def to_resume(job: Job) -> Job:
    """The job to resume so that this one comes to its end: the first before it that didn't finish, else itself."""
    before = predecessor(job)
    return to_resume(before) if before is not None and before.state in UNFINISHED else job


def _requeue(job_id: str) -> bool:
    return change_job(
        job_id,
        expect=sorted(UNFINISHED),
        state="queued",
        stop_requested=False,
        pid=None,
        pid_started=None,
        heartbeat=None,
        ended_at=None,
        progress=Progress(),
        error="",
        hint="",
    )


def position(job_id: str) -> int | None:
    """How many jobs go before this one runs, plus one; none if it isn't waiting."""
    waiting = list_jobs(["queued"])
    mine = next((job for job in waiting if job.job_id == job_id), None)
    if mine is None:
        return None
    pool = set(candidates(str(mine.payload.get("device", mine.device))))
    before = [job for job in waiting[: waiting.index(mine)] if pool.intersection(candidates(_wish(job)))]
    return len(before) + 1


def waits_for(job: Job) -> str | None:
    """Who holds the devices that a waiting job wants: a chat engine, which is asked to let go, or the job before it."""
    holders = [who_holds(device) for device in candidates(_wish(job))]
    held = [holder for holder in holders if holder is not None]
    return next((holder for holder in held if not holder.startswith("job-")), held[0] if held else None)


def wait(job_id: str, on_progress: Callable[[Job], None] | None = None, poll_seconds: float = 0.3) -> Job:
    """Wait until a job has ended; ``on_progress`` gets it whenever its state or progress changed."""
    seen: tuple[object, ...] | None = None
    looked = 0.0
    while True:
        job = get_job(job_id)
        if on_progress is not None and (job.state, job.progress) != seen:
            seen = (job.state, job.progress)
            on_progress(job)
        if job.state in ENDED_STATES:
            return job
        if time.monotonic() - looked > 2.0:
            dispatch()
            looked = time.monotonic()
        time.sleep(poll_seconds)


def _wish(job: Job) -> str:
    return str(job.payload.get("device", job.device))
