"""Commands on the queue: ``jobs``, ``stop`` and ``resume``."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from core.cli.common import AsJson, emit, say, table
from core.records import Job, Progress


def register(app: typer.Typer) -> None:
    """Add this area's commands."""

    @app.command()
    def jobs(limit: Annotated[int, typer.Option(help="Show this many of the newest.")] = 50, as_json: AsJson = False) -> None:
        """List jobs with their state; dead ones are found and waiting ones started on the way."""
        from core.jobs.queue import dispatch
        from core.store.jobs import list_jobs

        dispatch()
        listed = list_jobs()[-limit:] if limit > 0 else list_jobs()
        lines = [
            (job.job_id, job.kind, job.state, job.device, job.title, progress_text(job.progress) or _place(job)) for job in listed
        ]
        text = table(("job", "kind", "state", "device", "title", "progress"), lines) if listed else ["No jobs yet."]
        faults = [f"{job.job_id}: {job.error} {job.hint}".rstrip() for job in listed if job.error]
        emit({"jobs": [job_values(job) for job in listed]}, as_json, [*text, *faults])

    @app.command()
    def stop(
        job: str,
        force: Annotated[bool, typer.Option("--force", help="End the process now; unsaved steps are lost.")] = False,
        as_json: AsJson = False,
    ) -> None:
        """Stop a job at its next step, with a checkpoint saved; a waiting one at once."""
        from core.jobs import queue

        stopped = queue.stop(job, force=force)
        emit(job_values(stopped), as_json, f"{stopped.job_id} is {stopped.state}.")

    @app.command()
    def resume(
        job: str,
        wait: Annotated[bool, typer.Option("--wait", help="Wait for its end.")] = False,
        as_json: AsJson = False,
    ) -> None:
        """Go on with a stopped, failed or lost job from its last checkpoint."""
        from core.jobs import queue

        resumed = queue.resume(job)
        if wait:
            resumed = follow(resumed)
        emit(job_values(resumed), as_json, f"{resumed.job_id} is {resumed.state}.")
        if wait and resumed.state != "finished":
            raise typer.Exit(1)


def follow(job: Job) -> Job:
    """Wait for a job's end with lines of progress on stderr; its error, if it has one, is shown too.

    Ctrl-C leaves the job running.
    """
    from core.jobs.queue import wait

    last = ""

    def show(now: Job) -> None:
        nonlocal last
        line = f"{now.state}: {_place(now) or progress_text(now.progress)}".rstrip(": ")
        if line != last:
            say(line)
            last = line

    try:
        ended = wait(job.job_id, show, poll_seconds=0.5)
    except KeyboardInterrupt:
        say(f"{job.job_id} goes on. `python -m core stop {job.job_id}` stops it.")
        raise
    if ended.error:
        say(f"Error: {ended.error}")
        if ended.hint:
            say(f"Hint: {ended.hint}")
    return ended


def job_values(job: Job) -> dict[str, Any]:
    """What ``--json`` says of a job."""
    values: dict[str, Any] = {"job": job.job_id, "kind": job.kind, "state": job.state, "title": job.title, "subject": job.subject}
    values |= {"device": job.device, "done": job.progress.done, "total": job.progress.total, "error": job.error, "hint": job.hint}
    return values


def progress_text(progress: Progress) -> str:
    """Progress for a person: ``12 of 50 steps, 1.2 a second, 0:31 left``."""
    if not progress.total:
        return progress.message
    parts = [f"{progress.done:,} of {progress.total:,} {progress.unit}"]
    if progress.rate > 0 and progress.done < progress.total:
        parts.append(f"{progress.rate:.3g} a second" if progress.rate >= 0.1 else f"{1 / progress.rate:.3g} s each")
        if progress.eta_seconds is not None:
            parts.append(f"{int(progress.eta_seconds) // 60}:{int(progress.eta_seconds) % 60:02d} left")
    return ", ".join([*parts, *filter(None, [progress.message])])


def _place(job: Job) -> str:
    """Where a waiting job stands; empty for one that doesn't wait."""
    from core.jobs.queue import position, predecessor

    if job.state != "queued":
        return ""
    before = predecessor(job)
    if before is not None and before.state != "finished":
        return f"after {before.job_id}"
    place = position(job.job_id)
    return "" if place is None else "next in the queue" if place == 1 else f"number {place} in the queue"
