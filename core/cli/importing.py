"""The command that brings data in: import, with its dry run."""

from __future__ import annotations

import shlex
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from core.cli.common import AsJson, emit, plural, short, table

if TYPE_CHECKING:
    from core.data.importing import Imported

_MAP_HELP = (
    "column=field; may be given several times. Where each element has a column of its own: amount=element for each, "
    "or '*=element' for all columns that are nothing else."
)
_SEPARATOR_HELP = (
    "column=separator: the cells of this element hold several values, such as 作者=、 or '*=;' for all elements; the words "
    "lines and list stand for line breaks and for lists. May be given several times. Cells are split only where told; "
    "--dry-run shows how, and what the first rows suggest."
)


def register(app: typer.Typer) -> None:
    """Add this area's command."""
    app.command("import")(import_command)


def import_command(
    file: Annotated[str, typer.Argument(help="The file to import.", show_default=False)],
    name: Annotated[str, typer.Option("--name", help="Dataset: a new one, or one that gets these rows as well.")],
    task: Annotated[str | None, typer.Option("--task", help="extraction, classification, generation, chat or code.")] = None,
    map_: Annotated[list[str] | None, typer.Option("--map", help=_MAP_HELP)] = None,
    separator: Annotated[list[str] | None, typer.Option("--separator", help=_SEPARATOR_HELP)] = None,
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
    from core.data.elements import separated_names
    from core.data.importing import guess, import_file
    from core.data.mapping import parse_mapping
    from core.data.readers.guessing import describe_guess
    from core.data.several import parse_separators

    mapping, splits, separators = parse_mapping(map_ or []), _splits(split_of or []), parse_separators(separator or [])
    if dry_run:
        described = describe_guess(
            guess(file, mapping=mapping, shape=shape, encoding=encoding, splits=splits, separators=separators)
        )
        emit(described, as_json, _guess_lines(described))
        return
    made = import_file(
        file,
        name,
        task=_task(task),
        mapping=mapping,
        split=split,
        splits=splits,
        elements=separated_names(elements),
        shape=shape,
        encoding=encoding,
        separators=separators,
        reporter=Said(),
    )
    emit(_imported(name, made), as_json, _imported_lines(name, made))


def _imported(name: str, made: Imported) -> dict[str, Any]:
    return {
        "dataset": name,
        "version": made.version.number,
        "rows": made.rows,
        "quarantined": made.quarantined,
        "total_rows": made.version.rows,
        "task": made.dataset.task,
        "elements": list(made.dataset.elements),
        "elements_inferred": made.dataset.elements_inferred,
        "reasons": made.reasons,
        "several": dict(made.several),
        "suggested": [asdict(one) for one in made.suggested],
    }


def _imported_lines(name: str, made: Imported) -> list[str]:
    added = f" of {made.version.rows:,} rows" if made.version.rows > made.rows else ""
    lines = [f"{plural(made.rows, 'row')} imported into {name} (version {made.version.number}{added}, {made.dataset.task})"]
    if made.quarantined:
        lines.append(f"{plural(made.quarantined, 'row')} kept aside; `python -m core quarantine {name}` shows them:")
        lines += [f"  {count:,} × {reason}" for reason, count in list(made.reasons.items())[:8]]
    if made.dataset.elements:
        how = "inferred" if made.dataset.elements_inferred else "given"
        lines.append(f"{plural(len(made.dataset.elements), 'element')} ({how}): {', '.join(made.dataset.elements)}")
    lines += [f"{column} was split: several values in {count:,} of {made.rows:,} rows" for column, count in made.several.items()]
    return lines + _suggested_lines([asdict(one) for one in made.suggested])


def _suggested_lines(suggested: list[dict[str, Any]]) -> list[str]:
    """Columns whose cells surely hold several values, and what splits them."""
    lines: list[str] = []
    for one in suggested:
        options = " ".join("--separator " + shlex.quote(f"{one['column']}={sign}") for sign in one["separators"])
        lines.append(f"{one['column']} seems to hold several values in {_cells_of(one)}; none was split. To split: {options}")
    return lines


def _cells_of(one: dict[str, Any]) -> str:
    """How many of a column's cells hold several values, with an example."""
    told = f"{one['cells']:,} of the first {one['filled']:,} cells"
    if not one["examples"]:
        return told
    cell, values = one["examples"][0]
    return f"{told} ({short(cell, 40)!r}: {' | '.join(short(value, 20) for value in values)})"


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
        f"{described['source']}: {described['read_as']}, shape {described['shape']}",
        f"Columns: {mapped or 'none mapped'}",
        *(f"{one['column']} is split in {_cells_of(one)}" for one in described["several"]),
        *_suggested_lines(described["suggested"]),
        *(f"{file['name']}: {file['split'] or 'no split'}" for file in described["files"] if len(described["files"]) > 1),
        *table(["instruction", "input", "output"], [[short(cell, 40) for cell in row] for row in rows]),
    ]
