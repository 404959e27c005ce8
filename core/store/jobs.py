"""Jobs, device claims and measured values as rows that many processes write.

Only plain state changes here, each one transaction; who runs what and when is ``core.jobs``.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sqlmodel import Session, col, select

from core.errors import NotFoundError
from core.records import ENDED_STATES, Job, Progress, new_id, now
from core.store.database import read, write
from core.store.files import area, tail
from core.store.tables import JobRow, MetricRow


def _aware(moment: datetime | None) -> datetime | None:
    return moment.replace(tzinfo=UTC) if moment is not None and moment.tzinfo is None else moment


def to_job(row: JobRow) -> Job:
    """The record of a table row."""
    return Job(
        job_id=row.job_id,
        kind=row.kind,
        payload=json.loads(row.payload),
        title=row.title,
        subject=row.subject,
        state=row.state,
        device=row.device,
        pid=row.pid,
        pid_started=row.pid_started,
        heartbeat=_aware(row.heartbeat),
        created_at=_aware(row.created_at) or now(),
        started_at=_aware(row.started_at),
        ended_at=_aware(row.ended_at),
        stop_requested=row.stop_requested,
        progress=Progress.model_validate_json(row.progress),
        error=row.error,
        hint=row.hint,
    )


def add_job(kind: str, payload: dict[str, Any], *, title: str = "", subject: str = "", device: str = "cpu") -> Job:
    """Put a job at the end of the queue. ``subject`` is what it makes (a run's or evaluation's identifier)."""
    row = JobRow(
        job_id=new_id("job"),
        kind=kind,
        title=title or kind,
        subject=subject,
        payload=json.dumps(payload, ensure_ascii=False),
        device=device,
        created_at=now(),
    )
    with write() as session:
        session.add(row)
        session.flush()
        return to_job(row)


def get_job(job_id: str) -> Job:
    """A job by its identifier."""
    with read() as session:
        row = session.exec(select(JobRow).where(JobRow.job_id == job_id)).first()
        if row is None:
            raise NotFoundError(f"There is no job {job_id!r}", "`python -m core jobs` lists them.")
        return to_job(row)


def list_jobs(states: Iterable[str] | None = None) -> list[Job]:
    """Jobs in the order of the queue, the oldest first; only those in ``states`` if given."""
    query = select(JobRow).order_by(col(JobRow.number))
    if states is not None:
        query = query.where(col(JobRow.state).in_(list(states)))
    with read() as session:
        return [to_job(row) for row in session.exec(query)]


def change_job(job_id: str, *, expect: Sequence[str] | None = None, **values: Any) -> bool:
    """Set columns of a job if its state is one of ``expect``; says whether it was done.

    ``progress`` may be given as a ``Progress``. A change to an ended state sets ``ended_at``.
    """
    if isinstance(values.get("progress"), Progress):
        values["progress"] = values["progress"].model_dump_json()
    if values.get("state") in ENDED_STATES:
        values.setdefault("ended_at", now())
    with write() as session:
        row = session.exec(select(JobRow).where(JobRow.job_id == job_id)).first()
        if row is None or (expect is not None and row.state not in expect):
            return False
        for key, value in values.items():
            setattr(row, key, value)
        session.add(row)
        return True


def add_metrics(job_id: str, rows: Sequence[tuple[int, dict[str, float]]], kind: str = "step") -> None:
    """Keep measured values of steps; a step that is there already gets the new values (a resumed run repeats some)."""
    merged: dict[int, dict[str, float]] = {}
    for step, values in rows:
        merged.setdefault(step, {}).update(values)
    with write() as session:
        merge_metrics(session, job_id, merged, kind)


def merge_metrics(session: Session, job_id: str, rows: Mapping[int, dict[str, float]], kind: str = "step") -> None:
    """``add_metrics`` inside a transaction: values by step, one query for those that are there already."""
    if not rows:
        return
    query = select(MetricRow).where(MetricRow.job_id == job_id, MetricRow.kind == kind, col(MetricRow.step).in_(list(rows)))
    there = {row.step: row for row in session.exec(query)}
    for step, values in rows.items():
        row = there.get(step) or MetricRow(job_id=job_id, step=step, kind=kind, values="{}")
        row.values = json.dumps({**json.loads(row.values), **values})
        session.add(row)


def read_metrics(job_id: str, kind: str = "step", *, after: int = -1) -> list[dict[str, float]]:
    """Measured values, each with its ``step``, in the order of steps; only those of later steps than ``after``.

    A page that follows a long run asks for what is new: a hundred thousand steps take about half a second to read.
    """
    query = select(MetricRow.step, MetricRow.values).where(
        MetricRow.job_id == job_id, MetricRow.kind == kind, col(MetricRow.step) > after
    )
    with read() as session:
        found = session.exec(query.order_by(col(MetricRow.step)))
        return [{"step": step, **json.loads(values)} for step, values in found]


def log_path(job_id: str) -> Path:
    """The log file of a job; its folder may not be there yet."""
    return area("jobs", job_id, "log.txt")


def log_tail(job_id: str, lines: int = 40) -> str:
    """The last lines of a job's log; empty if there is none."""
    return tail(log_path(job_id), lines)
