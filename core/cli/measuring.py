"""How the commands of measurements run: as a job that is followed to its end, or left to itself."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any

import typer

from core.cli.common import AsJson, emit, table

if TYPE_CHECKING:
    from core.records import CodeSpec, JudgeSpec, TextSpec

Wait = Annotated[bool, typer.Option("--wait/--no-wait", help="Wait for the end and show the result.")]


def measure(
    spec: JudgeSpec | CodeSpec | TextSpec, lines: Callable[[dict[str, Any]], list[str]], wait: bool, as_json: bool
) -> dict[str, Any]:
    """Queue a measurement; with ``wait`` follow it and print its result. Exit 1 if it doesn't finish."""
    from core.cli.jobs import follow
    from core.jobs.queue import enqueue_measurement
    from core.store.measurements import get_measurement

    job, measurement = enqueue_measurement(spec)
    found: dict[str, Any] = {"measurement": measurement.measurement_id, "job": job.job_id, "state": job.state}
    if not wait:
        emit(found, as_json, f"{measurement.measurement_id} is {job.state} as {job.job_id}: {measurement.name}")
        return found
    job = follow(job)
    result = get_measurement(measurement.measurement_id).result
    found |= {"state": job.state, **result}
    emit(found, as_json, lines(result) if result else f"{measurement.name} is {job.state}")
    if job.state != "finished":
        raise typer.Exit(1)
    return found


def measurements(key: Annotated[str, typer.Argument(help="Show this one whole.")] = "", as_json: AsJson = False) -> None:
    """List judgements, code tasks and texts that were measured, the newest first."""
    from core.store.measurements import get_measurement, list_measurements

    if key:
        one = get_measurement(key)
        emit(one.model_dump(mode="json"), as_json, [f"{one.measurement_id}: {one.name}", *_lines_of(one.spec.kind)(one.result)])
        return
    listed = list_measurements()
    values = [
        {"measurement": m.measurement_id, "name": m.name, "kind": m.spec.kind, "complete": m.complete, "job": m.job_id}
        for m in listed
    ]
    rows = [(m.measurement_id, m.spec.kind, m.name, "finished" if m.complete else "not finished") for m in listed]
    lines = table(("measurement", "kind", "name", ""), rows) if rows else ["No measurements yet."]
    emit({"measurements": values}, as_json, lines)


def _lines_of(kind: str) -> Callable[[dict[str, Any]], list[str]]:
    from core.cli import evaluation_code, evaluation_judge, evaluation_perplexity

    found = {"judge": evaluation_judge.lines, "code": evaluation_code.lines, "text": evaluation_perplexity.lines}[kind]
    return lambda result: found(result) if result else ["Not finished."]
