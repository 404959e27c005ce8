"""Commands on trainings: ``train``, ``runs`` and ``export``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from core.cli.common import AsJson, emit, say, table
from core.cli.jobs import follow
from core.records import SilentReporter


def register(app: typer.Typer) -> None:
    """Add this area's commands."""
    for command in (train, runs, export):
        app.command()(command)


def train(
    spec: Annotated[Path, typer.Argument(help="A YAML file, at least `data: DATASET`.")],
    set_: Annotated[list[str] | None, typer.Option("--set", help="key=value over the file, e.g. epochs=3.")] = None,
    wait: Annotated[bool, typer.Option("--wait", help="Wait for its end.")] = False,
    estimate: Annotated[bool, typer.Option("--estimate", help="Say what it would take, and queue nothing.")] = False,
    as_json: AsJson = False,
) -> None:
    """Queue a training; with --wait follow it to its end (exit 1 if it does not finish)."""
    if estimate:
        _say_estimate(spec, set_ or (), as_json)
        return
    from core.jobs.queue import enqueue_training
    from core.store.runs import get_run
    from core.training.spec import load_spec

    job, run = enqueue_training(load_spec(spec, set_ or ()))
    values: dict[str, Any] = {"job": job.job_id, "run": run.run_id, "name": run.name, "state": job.state}
    if not wait:
        emit(values, as_json, f"{job.job_id} trains {run.run_id} ({run.name}): {job.state}.")
        return
    say(f"{job.job_id} trains {run.run_id} ({run.name})")
    job, run = follow(job), get_run(run.run_id)
    values |= {"state": job.state, "steps": run.steps, "seconds": run.seconds, "scores": run.summary}
    values |= {"trained_rows": run.trained_rows, "dropped_rows": run.dropped_rows}
    numbers = ", ".join(f"{name} {value:.4g}" for name, value in run.summary.items())
    emit(values, as_json, f"{run.name} is {job.state} after {run.steps:,} steps and {run.seconds:,.0f} s. {numbers}".rstrip())
    if job.state != "finished":
        raise typer.Exit(1)


def _say_estimate(path: Path, changes: Sequence[str], as_json: bool) -> None:
    from core.evaluation.words import seconds_long
    from core.jobs.queue import default_device
    from core.training.estimate import estimate_spec
    from core.training.spec import load_spec

    found, _ = estimate_spec(load_spec(path, changes), default_device())
    values = {
        "device": found.device,
        "steps": found.steps,
        "tokens": found.tokens,
        "dropped_rows": found.dropped,
        "seconds": round(found.whole_seconds, 1),
        "loading_seconds": round(found.loading.seconds, 1),
        "step_seconds": round(found.seconds, 1),
        "looks": found.looks,
        "look_seconds": round(found.looking.seconds, 1),
        "peak_gb": round(found.memory.total / 1e9, 2),
        "free_gb": round(found.memory.free / 1e9, 2),
        "fits": found.memory.fits,
        "basis": f"{found.how_sure} {found.beside}",
        "advice": list(found.advice),
    }
    fits = "" if found.memory.fits else f", which is more than is free. What helps: {'; '.join(found.advice)}"
    emit(
        values,
        as_json,
        f"About {seconds_long(found.whole_seconds)} for {found.steps:,} steps on {found.device}, {values['peak_gb']} GB at the "
        f"peak{fits}. {values['basis']}",
    )


def runs(limit: Annotated[int, typer.Option(help="Show this many of the newest.")] = 50, as_json: AsJson = False) -> None:
    """List runs, the newest first, with what became of them."""
    from core.store.jobs import list_jobs
    from core.store.runs import list_runs
    from core.training.spec import said_data

    states = {job.subject: job.state for job in list_jobs() if job.kind == "train"}
    listed = list_runs()[:limit] if limit > 0 else list_runs()
    values: list[dict[str, Any]] = [
        {
            "run": run.run_id,
            "name": run.name,
            "state": states.get(run.run_id, "finished" if run.complete else "lost"),
            "method": run.spec.method,
            "model": run.spec.model.label,
            "data": [use.dataset for use in run.spec.data],
            "template": run.template.ref,
            "steps": run.steps,
            "seconds": run.seconds,
            "scores": run.summary,
        }
        for run in listed
    ]
    lines = [
        (v["run"], v["name"], v["state"], v["method"], v["model"], said_data(run.spec), v["steps"], *_numbers(v["scores"]))
        for v, run in zip(values, listed, strict=True)
    ]
    headings = ("run", "name", "state", "method", "model", "data", "steps", "loss", "dev F1")
    emit({"runs": values}, as_json, table(headings, lines) if lines else ["No runs yet."])


def export(
    run: str,
    to: Annotated[Path, typer.Option(help="A folder that doesn't exist yet.")],
    merge: Annotated[bool, typer.Option("--merge", help="Whole bf16 weights instead of the adapter.")] = False,
    check: Annotated[int, typer.Option(help="Rows on which adapter and merged weights are compared.")] = 16,
    as_json: AsJson = False,
) -> None:
    """Write a finished run to a folder that transformers and vLLM load."""
    from core.store.runs import get_run
    from core.training.export import export_run
    from core.training.merge_parity import PARITY_HEADINGS, parity_lines

    found = export_run(get_run(run), to, ShellReporter(), merge=merge, check=check)
    lines = [f"{found['kind']} written to {found['folder']}, chat template: {found['chat_template']}"]
    lines += [found["warning"]] if "warning" in found else []
    if parity := found.get("parity"):
        lines += [*table(("weights", *PARITY_HEADINGS), parity_lines(parity)), *found["parity_words"]]
    emit(found, as_json, lines)


class ShellReporter(SilentReporter):
    """Tells a person at a shell what is being done."""

    def progress(self, done: int, total: int, *, unit: str = "rows", message: str = "", left: float | None = None) -> None:
        say(message or f"{done} of {total} {unit}")


def _numbers(scores: dict[str, float]) -> tuple[str, str]:
    shown = [f"{scores[key]:.3f}" if key in scores else "" for key in ("loss", "dev_micro_f1")]
    return shown[0], shown[1]
