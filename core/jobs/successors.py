"""Jobs that come after another (``payload["after"]``): when they may begin, how they end with it, how they come back with it.

Decides; changes nothing. Who runs next is ``dispatcher``.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from sqlmodel import Session, col, select

from core.records import ENDED_STATES, Job
from core.store.jobs import to_job
from core.store.tables import JobRow

UNFINISHED = ENDED_STATES - {"finished"}
_FATE = {"failed": "it failed", "lost": "its process is gone", "stopped": "it was stopped"}


def after(job: Job) -> str:
    """The job that must finish before this one begins; empty where none must."""
    return str(job.payload.get("after") or "")


def predecessors(session: Session, jobs: Iterable[Job], known: Iterable[Job] = ()) -> dict[str, Job | None]:
    """The jobs that these come after, by identifier; none for one that is no longer there. ``known``: newer than the database."""
    names = {after(job) for job in jobs} - {""}
    if not names:
        return {}
    there = {row.job_id: to_job(row) for row in session.exec(select(JobRow).where(col(JobRow.job_id).in_(names)))}
    there |= {job.job_id: job for job in known if job.job_id in there}
    return {name: there.get(name) for name in names}


def may_begin(job: Job, before: dict[str, Job | None]) -> bool:
    """Whether what a job comes after has finished; one that waits for it holds nobody back."""
    earlier = before.get(after(job))
    return not after(job) or (earlier is not None and earlier.state == "finished")


def orphans(jobs: Sequence[Job], before: dict[str, Job | None]) -> list[Job]:
    """Queued jobs of which the one before ended without finishing, and those after them in turn, as they end: ``stopped``
    where that one was stopped, else ``failed``, with what happened and the way out."""
    found: dict[str, Job] = {}
    for job in (job for job in jobs if job.state == "queued" and after(job)):  # in order, so what is waited for comes first
        earlier = found.get(after(job)) or before.get(after(job))
        if earlier is None or earlier.state in UNFINISHED:
            error, hint = reason(earlier)
            state = "stopped" if earlier is not None and earlier.state == "stopped" else "failed"
            found[job.job_id] = job.model_copy(update={"state": state, "error": error, "hint": hint})
    return list(found.values())


def reason(earlier: Job | None) -> tuple[str, str]:
    """Why a job can't begin whose predecessor ended like this (none: it was deleted), and the way out."""
    if earlier is None:
        return "The job that had to finish first was deleted.", "Delete this one, too, or start it anew."
    why = f": {earlier.error.rstrip('.')}" if earlier.state == "failed" and earlier.error else ""
    hint = f"Resume {earlier.job_id} ({earlier.title}): what comes after it waits again by itself."
    return f"“{earlier.title}” had to finish first, and {_FATE[earlier.state]}{why}.", hint


def ended_with(job: Job, jobs: Iterable[Job]) -> list[Job]:
    """The jobs that ended because this one had, and those that ended because of them; not what a user stopped."""
    found = [job]
    for one in jobs:  # in the queue's order
        unbegun = one.started_at is None and not one.stop_requested and one.state in UNFINISHED
        if unbegun and after(one) in {earlier.job_id for earlier in found}:
            found.append(one)
    return found[1:]
