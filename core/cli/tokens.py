"""Commands on templates and token lengths: ``tokens`` and ``templates``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from core.cli.common import AsJson, emit, say, table

if TYPE_CHECKING:
    from pyarrow import Table

    from core.records import ModelRef, Template


def register(app: typer.Typer) -> None:
    """Add this area's commands."""
    app.command("tokens")(tokens)
    app.command("templates")(templates)


def tokens(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Dataset.")],
    model: Annotated[
        list[str] | None, typer.Option(help="Model whose tokenizer counts: default, a path, hub:org/name. Several: side by side.")
    ] = None,
    template: Annotated[list[str] | None, typer.Option(help="Template: NAME or NAME@VERSION. Several: side by side.")] = None,
    max_length: Annotated[int, typer.Option("--max-length", min=1, help="Longest row, prompt and answer together.")] = 1024,
    version: Annotated[int | None, typer.Option(help="Version of the dataset; the latest by default.")] = None,
    simulate: Annotated[bool, typer.Option("--simulate", help="What longer rows lose under each policy, and batches.")] = False,
    batch_size: Annotated[int, typer.Option(min=1, help="Rows of a step, for --simulate.")] = 8,
    method: Annotated[str, typer.Option(help="qlora, lora or full: what --simulate tells time and memory of.")] = "qlora",
    parity: Annotated[bool, typer.Option("--parity", help="Check that every use reads the same ids; exit 1 if not.")] = False,
    as_json: AsJson = False,
) -> None:
    """Count the tokens of prompts and answers, and the rows over a maximum length."""
    from core.lengths import measure, summary
    from core.lengths.statistics import by_split
    from core.models.catalogue import parse_model
    from core.prompts.templates import find_template

    if parity:
        _parity(name, version, model or ["default"], template, as_json)
        return
    refs = [parse_model(text) for text in model or ["default"]]
    found = [find_template(text) for text in template or ["chat"]]
    counted = measure(name, version, found[0], refs[0], reporter=_Progress())
    result = {**summary(counted, max_length), "template": found[0].ref, "model": refs[0].label}
    result["splits"] = by_split(counted, max_length)
    lines = _lines(result)
    if len(refs) * len(found) > 1:
        result["beside"] = _beside(name, version, found, refs, max_length)
        lines += ["", *_beside_lines(result["beside"])]
    if simulate:
        result.update(_simulated(name, version, found[0], refs[0], max_length, batch_size, counted))
        result["epoch"] = _epoch(name, found[0], refs[0], max_length, batch_size, method, counted)
        lines += ["", *_simulated_lines(result)]
    emit(result, as_json, lines)


def _lines(result: dict[str, Any]) -> list[str]:
    keys = ("p50", "p90", "p95", "p99", "max", "total")
    rows = [[part, *(f"{result[part][key]:,}" for key in keys)] for part in ("prompt", "answer", "whole")]
    share = result["over_max_length"] / max(1, result["rows"])
    last = f"{result['over_max_length']:,} of {result['rows']:,} rows ({share:.1%}) are over {result['max_length']:,} tokens."
    faults = [f"{result['faults']:,} rows can't be put into this template."] if result["faults"] else []
    nothing = f"{result['empty_answers']:,} rows have an empty answer: of them only the token that ends an answer is learnt."
    return [*table(["tokens", *keys], rows), last, *faults, *([nothing] if result["empty_answers"] else [])]


def _beside(
    name: str, version: int | None, templates: Sequence[Template], models: Sequence[ModelRef], max_length: int
) -> list[dict[str, Any]]:
    from dataclasses import asdict

    from core.lengths.compare import compare

    return [asdict(one) for one in compare(name, version, templates, models, max_length, _Progress())]


def _beside_lines(beside: Sequence[dict[str, Any]]) -> list[str]:
    rows = []
    for one in beside:
        whole = one["figures"]["whole"]
        density = ", ".join(f"{language} {value:.2f}" for language, value in one["characters_per_token"].items())
        counts = (f"{whole[key]:,}" for key in ("p50", "p95", "max", "total"))
        rows.append([one["template"], one["model"], *counts, f"{one['figures']['over_max_length']:,}", density])
    return table(["template", "model", "p50", "p95", "max", "total", "over", "characters a token"], rows)


def _simulated(
    name: str, version: int | None, template: Template, model: ModelRef, max_length: int, batch_size: int, counted: Table
) -> dict[str, Any]:
    from dataclasses import asdict

    from core.lengths.batching import simulate_batches
    from core.lengths.places import places
    from core.lengths.statistics import lengths
    from core.lengths.truncation import POLICIES, Truncation

    truncation = Truncation(counted, places(name, version, template, model, reporter=_Progress()))
    length, reason = truncation.recommend()
    batches = simulate_batches(lengths(counted, "whole"), batch_size, max_length)
    ways = {"random": batches.random, "grouped": batches.grouped, "packed": batches.packed}
    return {
        "policies": [truncation.simulate(max_length, policy).as_dict() for policy in POLICIES],
        "recommended": {"max_length": length, "reason": reason},
        "batching": {way: {**asdict(found), "waste": round(found.waste, 4)} for way, found in ways.items()},
    }


def _epoch(
    name: str, template: Template, model: ModelRef, max_length: int, batch_size: int, method: str, counted: Table
) -> dict[str, Any]:
    """Time and peak memory of an epoch over the rows that fit, on the device that a training would get, and their basis."""
    from core.errors import UserError
    from core.jobs.queue import default_device
    from core.lengths.statistics import lengths, summary
    from core.models.catalogue import resolve
    from core.training.estimate import estimate_lengths, free_bytes, read_shape
    from core.training.spec import make_spec

    whole = lengths(counted, "whole")
    kept = whole[(whole > 0) & (whole <= max_length)].tolist()
    if not kept:
        return {"problem": "No row fits."}
    told = {"method": method, "batch_size": batch_size, "max_length": max(8, max_length)}
    spec = make_spec({"data": name, "template": template.ref, "model": model.model_dump(), **told})
    device, all_of = default_device(), summary(counted)
    try:
        shape = read_shape(resolve(model))
    except UserError as error:
        return {"problem": error.message}
    share = all_of["answer"]["total"] / max(1, all_of["whole"]["total"])
    found = estimate_lengths(spec, kept, len(whole) - len(kept), shape, device, free_bytes(device), share)
    return {
        "method": method,
        "device": device,
        "steps": found.steps,
        "seconds": round(found.seconds, 1),
        "peak_gb": round(found.memory.total / 1e9, 2),
        "fits": found.memory.fits,
        "basis": found.how_sure,
    }


def _epoch_line(epoch: dict[str, Any]) -> str:
    if "problem" in epoch:
        return f"Time and memory can't be told: {epoch['problem']}"
    fits = "" if epoch["fits"] else ", which is more than is free"
    return (
        f"An epoch with {epoch['method']} on {epoch['device']}: about {epoch['seconds']:,.0f} s for {epoch['steps']:,} steps, "
        f"{epoch['peak_gb']:.2f} GB at the peak{fits}. {epoch['basis']}"
    )


def _simulated_lines(result: dict[str, Any]) -> list[str]:
    keys = ("over", "dropped", "shortened", "losing", "values_lost", "json_broken", "end_lost")
    rows = []
    for one in result["policies"]:
        most = ", ".join(f"{element} {count:,}" for element, count in list(one["by_element"].items())[:3])
        rows.append([one["policy"], *(f"{one[key]:,}" for key in keys), most])
    heads = ["policy", "over", "dropped", "shortened", "lose values", "values lost", "JSON broken", "end lost", "most lost"]
    ways = [
        [way, f"{b['steps']:,}", f"{b['tokens']:,}", f"{b['processed']:,}", f"{b['waste']:.1%}"]
        for way, b in result["batching"].items()
    ]
    advice = f"Recommended: {result['recommended']['max_length']:,} tokens. {result['recommended']['reason']}"
    batches = table(["batches", "steps", "tokens", "processed", "padding"], ways)
    return [*table(heads, rows), advice, "", *batches, _epoch_line(result["epoch"])]


def _parity(name: str, version: int | None, models: Sequence[str], templates: Sequence[str] | None, as_json: bool) -> None:
    from dataclasses import asdict

    from core.models.catalogue import parse_model
    from core.parity import check_dataset
    from core.prompts.templates import find_template

    chosen = [find_template(text) for text in templates] if templates else None
    checked = check_dataset(name, version, models=[parse_model(text) for text in models], templates=chosen)
    found = [{"model": model, **asdict(one), "equal": one.equal} for model, all_of in checked.items() for one in all_of]
    rows = [
        [one["template"], one["model"], f"{one['rows']:,}", *(f"{n:,}" for n in one["uses"].values()), _verdict(one)]
        for one in found
    ]
    headings = ["template", "model", "training", *found[0]["uses"], ""] if found else ["template"]
    emit({"parity": found, "equal": not any(one["mismatches"] for one in found)}, as_json, table(headings, rows))
    if any(one["mismatches"] for one in found):
        raise typer.Exit(1)


def _verdict(one: dict[str, Any]) -> str:
    if one["problem"]:
        return f"doesn't fit: {one['problem']}"
    if one["mismatches"]:
        first = one["mismatches"][0]
        return f"differs in {first['use']}, row {first['row_id']}, token {first['at']}"
    return "equal"


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

    def progress(self, done: int, total: int, *, unit: str = "rows", message: str = "", left: float | None = None) -> None:
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
