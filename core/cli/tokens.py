"""Commands on templates and token lengths: ``tokens`` and ``templates``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from core.cli.common import AsJson, emit, say, table


def register(app: typer.Typer) -> None:
    """Add this area's commands."""
    app.command("tokens")(tokens)
    app.command("templates")(templates)


def tokens(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Dataset.")],
    model: Annotated[str, typer.Option(help="Model whose tokenizer counts: default, a path, hub:org/name.")] = "default",
    template: Annotated[str, typer.Option(help="Template: NAME or NAME@VERSION.")] = "chat",
    max_length: Annotated[int, typer.Option("--max-length", min=1, help="Longest row, prompt and answer together.")] = 1024,
    version: Annotated[int | None, typer.Option(help="Version of the dataset; the latest by default.")] = None,
    as_json: AsJson = False,
) -> None:
    """Count the tokens of prompts and answers, and the rows over a maximum length."""
    from core.lengths import measure, summary
    from core.lengths.statistics import by_split
    from core.models.catalogue import parse_model
    from core.prompts.templates import find_template

    found = find_template(template)
    counted = measure(name, version, found, parse_model(model), reporter=_Progress())
    result = {**summary(counted, max_length), "template": found.ref, "model": model, "splits": by_split(counted, max_length)}
    emit(result, as_json, _lines(result))


def _lines(result: dict[str, Any]) -> list[str]:
    keys = ("p50", "p90", "p95", "p99", "max", "total")
    rows = [[part, *(f"{result[part][key]:,}" for key in keys)] for part in ("prompt", "answer", "whole")]
    share = result["over_max_length"] / max(1, result["rows"])
    last = f"{result['over_max_length']:,} of {result['rows']:,} rows ({share:.1%}) are over {result['max_length']:,} tokens."
    faults = [f"{result['faults']:,} rows can't be put into this template."] if result["faults"] else []
    return [*table(["tokens", *keys], rows), last, *faults]


def templates(
    show: Annotated[str, typer.Option(help="Print one template as YAML: NAME or NAME@VERSION.")] = "",
    add: Annotated[
        Path | None, typer.Option(help="Store a template out of a YAML file; a taken name gets a new version.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """List the templates, print one, or add one from a file."""
    from core.prompts.templates import dump_template, find_template, import_template, list_templates

    if add is not None:
        added = import_template(add)
        emit({"template": added.ref}, as_json, f"Template {added.ref} is stored.")
        return
    if show:
        found = find_template(show)
        emit({"template": found.model_dump(mode="json")}, as_json, dump_template(found).rstrip("\n"))
        return
    known = list_templates()
    listed = [{"template": t.ref, "kind": t.kind, "language": t.language, "description": t.description} for t in known]
    emit({"templates": listed}, as_json, table(["template", "kind", "language", ""], [list(t.values()) for t in listed]))


class _Progress:
    """Says how far a count is, at most once a second, on stderr."""

    def __init__(self) -> None:
        self.said = 0.0
        self.began = 0.0

    def progress(self, done: int, total: int, *, unit: str = "rows", message: str = "") -> None:
        from time import monotonic

        self.began = self.began or monotonic()
        if monotonic() - self.said > 1 and monotonic() - self.began > 2:
            self.said = monotonic()
            rate = done / (monotonic() - self.began)
            say(f"{message}: {done:,} of {total:,} {unit}, {(total - done) / rate:.0f} s left")

    def metrics(self, step: int, values: dict[str, float]) -> None: ...

    def log(self, text: str) -> None:
        say(text)

    def should_stop(self) -> bool:
        return False
