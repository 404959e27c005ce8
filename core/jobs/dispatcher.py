"""Who runs next. There is no daemon: whoever enqueues, ends, or looks at jobs calls ``dispatch()``.

Jobs are served first come, first served for each kind of device: a job that must wait holds back those
behind it that want the same devices. A dead worker's job becomes ``lost`` and its devices free.
A job that comes after another ends with it: as failed where that one failed or is gone, as stopped where it was stopped.
Everything is decided in one transaction; only then is a worker started.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta

from sqlalchemy.exc import IntegrityError
from sqlmodel import Session, col, delete, select

from core.errors import UserError
from core.jobs.backends import backend_of
from core.jobs.devices import candidates
from core.jobs.processes import is_living
from core.jobs.successors import may_begin, orphans, predecessors
from core.records import LIVE_STATES, Job, now
from core.settings import get_settings
from core.store.database import read, write
from core.store.jobs import change_job, get_job, log_path, to_job
from core.store.tables import ClaimRow, JobRow

PATIENCE_WITH_THE_LIVING = 10
"""A worker whose process lives may be silent this many times longer than one that can't be seen, before it is ended."""


@dataclass
class Plan:
    """What has to change now; empty when everything is as it should be. ``orphans``: as they will be once they have ended."""

    lost: list[Job] = field(default_factory=list)
    orphans: list[Job] = field(default_factory=list)
    stale: list[ClaimRow] = field(default_factory=list)
    wanted: list[ClaimRow] = field(default_factory=list)
    start: tuple[Job, tuple[str, ...]] | None = None

    def __bool__(self) -> bool:
        return bool(self.lost or self.orphans or self.stale or self.wanted or self.start)


def dispatch() -> list[Job]:
    """Mark dead workers' jobs as lost and start every job whose turn it is; returns the started ones.

    Cheap when nothing has to change (one short read), so that every open page may call it.
    """
    started: list[Job] = []
    while True:
        with read() as session:
            if not _plan(session):
                return started
        try:
            with write() as session:
                plan = _plan(session)
                _carry_out(session, plan)
        except IntegrityError:  # on PostgreSQL another dispatcher claimed the same device a moment before
            continue
        for job in plan.lost:
            backend_of(job).stop(job, force=True)
        if plan.start is None:
            return started
        if _launch(*plan.start):
            started.append(get_job(plan.start[0].job_id))


def is_lost(job: Job) -> bool:
    """Whether the worker of a live job is dead: its process gone, or silent for too long."""
    alive = backend_of(job).alive(job)
    if alive is False:
        return True
    patience = get_settings().lost_after_seconds * (PATIENCE_WITH_THE_LIVING if alive else 1)
    return job.heartbeat is None or now() - job.heartbeat > timedelta(seconds=patience)


def devices_needed(job: Job) -> int:
    """How many devices a job claims together."""
    return max(1, int(job.payload.get("gpus", 1))) if job.device.startswith("cuda") else 1


def _plan(session: Session) -> Plan:
    states = ["queued", *LIVE_STATES]
    jobs = [to_job(row) for row in session.exec(select(JobRow).where(col(JobRow.state).in_(states)).order_by(col(JobRow.number)))]
    claims = list(session.exec(select(ClaimRow)))
    plan = Plan(lost=[job for job in jobs if job.state in LIVE_STATES and is_lost(job)])
    running = {job.job_id for job in jobs if job.state in LIVE_STATES} - {job.job_id for job in plan.lost}
    plan.stale = [claim for claim in claims if claim.holder not in running and not _is_held_by_process(claim)]
    held = {claim.device: claim for claim in claims if claim not in plan.stale}
    blocked: set[str] = set()
    before = predecessors(session, jobs, [_as_lost(job) for job in plan.lost])
    plan.orphans = orphans(jobs, before)
    for job in (job for job in jobs if job.state == "queued" and may_begin(job, before)):
        wish = str(job.payload.get("device", job.device))
        pool = candidates(wish)
        if blocked.intersection(pool):
            continue
        free = [device for device in pool if device not in held]
        if len(free) >= devices_needed(job):
            plan.start = (job, tuple(free[: devices_needed(job)]))
            return plan
        blocked.update(pool or (wish,))
        plan.wanted += [
            held[device] for device in pool if device in held and held[device].holder not in running and not held[device].wanted
        ]
    return plan


def _as_lost(job: Job) -> Job:
    """What becomes of a job whose worker is dead: lost, or stopped where it had been asked to; how far it came as it is kept."""
    progress = job.progress.model_copy(update={"rate": 0.0, "eta_seconds": None})
    goes_on = "Resume goes on from the last checkpoint."
    if job.kind == "evaluate":
        from core.evaluation.artefacts import JOURNALS, kept_rows

        if progress.message in JOURNALS:  # the last heartbeat may be older than the last rows
            progress = progress.model_copy(update={"done": kept_rows(job.subject, progress.message)})
        goes_on = f"{kept_rows(job.subject):,} answers are kept, and Resume goes on from there."
    job = job.model_copy(update={"progress": progress})
    if job.state == "stopping":
        return job.model_copy(update={"state": "stopped", "error": "", "hint": ""})
    hint = f"Its log: {log_path(job.job_id)}. {goes_on}"
    return job.model_copy(update={"state": "lost", "error": "The worker process ended without a word.", "hint": hint})


def _is_held_by_process(claim: ClaimRow) -> bool:
    """Whether a claim is a chat engine's whose process lives (a job's claim has its worker's state instead)."""
    return not claim.holder.startswith("job-") and is_living(claim.pid, claim.pid_started)


def _carry_out(session: Session, plan: Plan) -> None:
    for claim in plan.stale:
        session.delete(claim)
    for claim in plan.wanted:
        claim.wanted = True
        session.add(claim)
    for job in [*map(_as_lost, plan.lost), *plan.orphans]:
        row = session.exec(select(JobRow).where(JobRow.job_id == job.job_id)).one()
        row.state, row.error, row.hint, row.ended_at = job.state, job.error, job.hint, now()
        row.progress = job.progress.model_dump_json()
        session.add(row)
    session.flush()
    if plan.start is not None:
        job, devices = plan.start
        row = session.exec(select(JobRow).where(JobRow.job_id == job.job_id)).one()
        row.state, row.device = "starting", ",".join(devices)
        row.started_at = row.heartbeat = now()
        session.add(row)
        for device in devices:
            session.add(ClaimRow(device=device, holder=job.job_id, pid=0, pid_started=0.0, since=now()))


def _launch(job: Job, devices: tuple[str, ...]) -> bool:
    """Start the worker of a job that was claimed; a failure to start is the job's failure."""
    try:
        launched = backend_of(job).submit(job.job_id, devices)
    except (OSError, UserError) as error:
        with write() as session:
            session.exec(delete(ClaimRow).where(col(ClaimRow.holder) == job.job_id))
        hint = "Check memory, disk space and the limit of processes, then resume the job."
        change_job(job.job_id, expect=["starting"], state="failed", error=f"The worker could not be started: {error}", hint=hint)
        return False
    change_job(job.job_id, expect=["starting"], pid=launched.pid, pid_started=launched.started)
    return True
