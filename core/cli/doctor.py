"""The command ``doctor``: what this machine can do, and what is missing."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated

import typer

from core.cli.common import AsJson, emit, table

if TYPE_CHECKING:
    from core.doctor.report import Finding, Report

MARKS = {"ok": "ok", "missing": "–", "warning": "!", "fault": "fault"}


def register(app: typer.Typer) -> None:
    """Add this area's commands."""
    app.command("doctor")(doctor)


def doctor(
    as_json: AsJson = False,
    generate: Annotated[bool, typer.Option("--generate", help="Also let the default model answer a few words.")] = False,
) -> None:
    """What this machine can do, and what is missing. Exit 1 if something keeps Tunewise from working."""
    from core.doctor.examination import examine

    report = examine(generate=generate)
    emit({**report.model_dump(mode="json"), "faults": [f.name for f in report.faults]}, as_json, lines(report))
    if report.faults:
        raise typer.Exit(1)


def lines(report: Report) -> list[str]:
    """The report for a person."""
    gpus = [
        (f"gpu {gpu.index}", "ok", f"{gpu.name}, {gpu.free_gb:.0f} GB free of {gpu.memory_gb:.0f} GB, driver {gpu.driver}")
        for gpu in report.gpus
    ] or [("gpu", MARKS["missing"], "none that nvidia-smi sees")]
    seen = [*_rows(report.machine), *gpus, *_rows([*report.storage, report.model]), *_rows(report.libraries)]
    extra = [(f.name, MARKS[f.state], f.value, f.adds) for f in report.optional]
    text = [*table(("", "", ""), seen)[1:], "", *table(("would add", "", "", ""), extra), "", *report.can]
    if report.generation is not None:
        g = report.generation
        text += [
            "",
            f"Generation on {g.device} by {g.decoding}: {g.tokens} tokens at {g.tokens_per_second:.1f} tokens/s, "
            f"loaded in {g.load_seconds:.1f} s: {g.text!r}",
        ]
    looked = [*report.machine, *report.storage, report.model, *report.libraries]
    remedies = [f"{f.name}: {f.remedy}" for f in looked if f.remedy and f.state != "ok"]
    return [*text, "", *(remedies or ["Nothing is missing."])]


def _rows(findings: Iterable[Finding]) -> list[tuple[str, str, str]]:
    return [(f.name, MARKS[f.state], f.value + (f" ({f.adds})" if f.adds else "")) for f in findings]
