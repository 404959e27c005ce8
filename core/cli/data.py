"""Commands for looking at data: datasets, versions, show, quarantine."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from typing import Annotated, Any

import typer

from core.cli.common import AsJson, Name, VersionOption, emit, short, table


def register(app: typer.Typer) -> None:
    """Add this area's commands."""
    app.command("datasets")(datasets)
    app.command("versions")(versions)
    app.command("show")(show)
    app.command("quarantine")(quarantine)


def datasets(as_json: AsJson = False) -> None:
    """List the datasets."""
    from core.store import datasets as store

    found: list[dict[str, Any]] = []
    for dataset in store.list_datasets():
        version = store.get_version(dataset.name)
        found.append(
            {
                "dataset": dataset.name,
                "task": dataset.task,
                "version": version.number,
                "rows": version.rows,
                "quarantined": version.quarantined,
                "split_sizes": version.split_sizes,
                "elements": list(dataset.elements),
                "elements_inferred": dataset.elements_inferred,
            }
        )
    lines = table(
        ["dataset", "task", "version", "rows", "aside", "elements"],
        [
            [
                d["dataset"],
                d["task"],
                d["version"],
                f"{d['rows']:,}",
                f"{d['quarantined']:,}",
                short(", ".join(d["elements"]), 60),
            ]
            for d in found
        ],
    )
    emit({"datasets": found}, as_json, lines if found else "No dataset yet. `python -m core import FILE --name NAME` adds one.")


def versions(name: Name, as_json: AsJson = False) -> None:
    """List a dataset's versions and the steps that made them."""
    from core.store import datasets as store

    found: list[dict[str, Any]] = [
        {
            "version": version.number,
            "parent": version.parent,
            "rows": version.rows,
            "quarantined": version.quarantined,
            "split_sizes": version.split_sizes,
            "content_hash": version.content_hash,
            "note": version.note,
            "created_at": version.created_at.isoformat(),
            "recipe": [step.model_dump(mode="json") for step in version.recipe],
        }
        for version in store.list_versions(name)
    ]
    lines = table(
        ["version", "from", "rows", "aside", "steps", "note"],
        [
            [v["version"], v["parent"], f"{v['rows']:,}", f"{v['quarantined']:,}", len(v["recipe"]), short(v["note"], 60)]
            for v in found
        ],
    )
    emit({"dataset": name, "versions": found}, as_json, lines)


def show(
    name: Name,
    version: VersionOption = None,
    split: Annotated[str | None, typer.Option("--split", help="Only rows of this split.")] = None,
    limit: Annotated[int, typer.Option("--limit", min=0, help="How many rows at most.")] = 10,
    as_json: AsJson = False,
) -> None:
    """Show a dataset and its first rows."""
    from core.store import datasets as store

    dataset, which = store.get_dataset(name), store.get_version(name, version)
    rows = store.read_rows(name, which.number, split=split, limit=limit).to_pylist()
    value = {
        "dataset": name,
        "task": dataset.task,
        "version": which.number,
        "total_rows": which.rows,
        "quarantined": which.quarantined,
        "split_sizes": which.split_sizes,
        "elements": list(dataset.elements),
        "elements_inferred": dataset.elements_inferred,
        "rows": [_decoded(row) for row in rows],
    }
    lines = [
        f"{name}, version {which.number}: {which.rows:,} rows for {dataset.task}, {which.quarantined:,} kept aside",
        *table(
            ["row", "split", "instruction", "input", "output"],
            [
                [row["row_id"], row["split"], short(row["instruction"], 30), short(row["input"], 50), short(row["output"], 50)]
                for row in rows
            ],
        ),
    ]
    emit(value, as_json, lines)


def _decoded(row: dict[str, Any]) -> dict[str, Any]:
    return row | {key: json.loads(row[key]) if row[key] else None for key in ("messages", "extra")}


def quarantine(
    name: Name,
    version: VersionOption = None,
    limit: Annotated[int, typer.Option("--limit", min=0, help="How many rows at most.")] = 20,
    propose: Annotated[str, typer.Option("--propose", help="Show a proposal for the row with this identifier.")] = "",
    repair: Annotated[str, typer.Option("--repair", help="Take in the row with this identifier, its text from --text.")] = "",
    text: Annotated[str, typer.Option("--text", help="The mended text for --repair; - reads standard input.")] = "",
    as_json: AsJson = False,
) -> None:
    """Show the rows that were kept aside, each with file, line and reason; propose a repair; take a mended row in."""
    from core.store import datasets as store

    if propose:
        _propose(name, propose, as_json)
        return
    if repair:
        _repair(name, repair, sys.stdin.read() if text == "-" else text, as_json)
        return
    which = store.get_version(name, version)
    aside = store.read_quarantine(name, which.number)
    rows = aside.slice(0, limit).to_pylist()
    value = {"dataset": name, "version": which.number, "quarantined": aside.num_rows, "rows": rows}
    lines = table(
        ["id", "source", "line", "reason", "text"],
        [[r["quarantine_id"], r["source"], r["line"], short(r["reason"], 60), short(r["raw"], 60)] for r in rows],
    )
    emit(value, as_json, lines if rows else f"Nothing of {name} is kept aside.")


def _propose(name: str, quarantine_id: str, as_json: bool) -> None:
    from core.data.quarantine import propose

    made = propose(name, quarantine_id)
    value = {"dataset": name, **asdict(made)}
    lines = [
        made.how,
        *(f"{change.kind}: {change.before!r} → {change.after!r}" for change in made.changes if change.kind != "kept"),
    ]
    if made.text is not None:
        lines += ["", made.text, "", f"Take it in: python -m core quarantine {name} --repair {quarantine_id} --text '…'"]
    if made.problem:
        lines.append(f"Still not usable: {made.problem}")
    emit(value, as_json, lines)


def _repair(name: str, quarantine_id: str, text: str, as_json: bool) -> None:
    from core.data.quarantine import repair

    version = repair(name, quarantine_id, text)
    value = {"dataset": name, "version": version.number, "rows": version.rows, "quarantined": version.quarantined}
    emit(value, as_json, f"Taken in: version {version.number} has {version.rows:,} rows, {version.quarantined:,} are kept aside")
