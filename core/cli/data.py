"""Commands for bringing data in and looking at it: import, datasets, versions, show, quarantine."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from typing import Annotated, Any

import typer

from core.cli.common import AsJson, emit, table

Name = Annotated[str, typer.Argument(help="The dataset's name.", show_default=False)]
VersionOption = Annotated[int | None, typer.Option("--version", help="A version's number; the latest when left out.")]


_MAP_HELP = (
    "column=field; may be given several times. Where each element has a column of its own: amount=element for each, "
    "or '*=element' for all columns that are nothing else."
)


def register(app: typer.Typer) -> None:
    """Add this area's commands."""
    app.command("import")(import_command)
    app.command("datasets")(datasets)
    app.command("versions")(versions)
    app.command("show")(show)
    app.command("quarantine")(quarantine)


def import_command(
    file: Annotated[str, typer.Argument(help="The file to import.", show_default=False)],
    name: Annotated[str, typer.Option("--name", help="Dataset: a new one, or one that gets these rows as well.")],
    task: Annotated[str | None, typer.Option("--task", help="extraction, classification, generation, chat or code.")] = None,
    map_: Annotated[list[str] | None, typer.Option("--map", help=_MAP_HELP)] = None,
    split: Annotated[str, typer.Option("--split", help="Put all rows into train, dev or test.")] = "",
    split_of: Annotated[
        list[str] | None,
        typer.Option("--split-of", help="file=split for a file of a folder or archive, whose name tells it otherwise."),
    ] = None,
    elements: Annotated[str, typer.Option("--elements", help="Element names, separated by commas.")] = "",
    shape: Annotated[str | None, typer.Option("--shape", help="Shape of the records; guessed when left out.")] = None,
    encoding: Annotated[str | None, typer.Option("--encoding", help="Encoding; detected when left out.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would be imported; write nothing.")] = False,
    as_json: AsJson = False,
) -> None:
    """Import a file as a new dataset, or into one that exists as a new version."""
    from core.cli.said import Said
    from core.data.importing import guess, import_file
    from core.data.mapping import parse_mapping
    from core.data.readers.guessing import describe_guess

    mapping, splits = parse_mapping(map_ or []), _splits(split_of or [])
    if dry_run:
        described = describe_guess(guess(file, mapping=mapping, shape=shape, encoding=encoding, splits=splits))
        emit(described, as_json, _guess_lines(described))
        return
    named = [part.strip() for part in elements.replace("，", ",").replace("、", ",").split(",") if part.strip()]
    made = import_file(
        file,
        name,
        task=_task(task),
        mapping=mapping,
        split=split,
        splits=splits,
        elements=named,
        shape=shape,
        encoding=encoding,
        reporter=Said(),
    )
    value = {
        "dataset": name,
        "version": made.version.number,
        "rows": made.rows,
        "quarantined": made.quarantined,
        "total_rows": made.version.rows,
        "task": made.dataset.task,
        "elements": list(made.dataset.elements),
        "elements_inferred": made.dataset.elements_inferred,
        "reasons": made.reasons,
    }
    lines = [f"{made.rows:,} rows imported into {name} (version {made.version.number}, {made.dataset.task})"]
    if made.quarantined:
        lines.append(f"{made.quarantined:,} rows kept aside; `python -m core quarantine {name}` shows them:")
        lines += [f"  {count:,} × {reason}" for reason, count in list(made.reasons.items())[:8]]
    if made.dataset.elements:
        how = "inferred" if made.dataset.elements_inferred else "given"
        lines.append(f"{len(made.dataset.elements)} elements ({how}): {', '.join(made.dataset.elements)}")
    emit(value, as_json, lines)


def _splits(pairs: list[str]) -> dict[str, str]:
    """``file=split`` texts as a mapping; ``file=`` is in no split."""
    from core.errors import UserError

    for pair in pairs:
        if not pair.rpartition("=")[0]:
            raise UserError(f"{pair!r} is not file=split", "For example: --split-of part2.jsonl=test")
    return {name: split for name, _, split in (pair.rpartition("=") for pair in pairs)}


def _task(text: str | None) -> Any:
    from typing import get_args

    from core.errors import UserError
    from core.records import Task

    if text is not None and text not in get_args(Task):
        raise UserError(f"There is no task {text!r}", f"Tasks: {', '.join(get_args(Task))}.")
    return text


def _guess_lines(described: dict[str, Any]) -> list[str]:
    mapped = ", ".join(f"{column} → {field}" for column, field in described["mapping"].items())
    rows = [[row["instruction"], row["input"], row["output"]] for row in described["preview"][:5]]
    return [
        f"{described['source']}: {described['container']}, {described['encoding'] or 'binary'}, shape {described['shape']}",
        f"Columns: {mapped or 'none mapped'}",
        *(f"{file['name']}: {file['split'] or 'no split'}" for file in described["files"] if len(described["files"]) > 1),
        *table(["instruction", "input", "output"], [[_short(cell, 40) for cell in row] for row in rows]),
    ]


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
                _short(", ".join(d["elements"]), 60),
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
            [v["version"], v["parent"], f"{v['rows']:,}", f"{v['quarantined']:,}", len(v["recipe"]), _short(v["note"], 60)]
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
                [row["row_id"], row["split"], _short(row["instruction"], 30), _short(row["input"], 50), _short(row["output"], 50)]
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
        [[r["quarantine_id"], r["source"], r["line"], _short(r["reason"], 60), _short(r["raw"], 60)] for r in rows],
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


def _short(text: str, width: int) -> str:
    """One line of at most ``width`` characters."""
    line = " ".join(text.split())
    return line if len(line) <= width else f"{line[: width - 1]}…"
