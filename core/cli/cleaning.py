"""Commands for judging and cleaning a dataset: profile, clean, ledger, undo, split, mix, export-data."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from core.cli.common import AsJson, Name, VersionOption, emit, plural, say, short, table

if TYPE_CHECKING:
    from core.data.recipes import Preview
    from core.records import Version

DryRun = Annotated[bool, typer.Option("--dry-run", help="Show what would change; write nothing.")]
_FORMAT_HELP = (
    "jsonl, json, csv, parquet, alpaca, sharegpt, openai or datasets. All keep the columns beside a row but openai, "
    "which has no place for more than messages and tools; what is left out is said (--dry-run: before anything is written)."
)
_WIDTH, _LEAD = 60, 12
"""Characters of a text in a table, and those of them before the place at which a changed one begins to differ."""
Limit = Annotated[int, typer.Option("--limit", min=0, help="Rows shown; 0: all.")]


def register(app: typer.Typer) -> None:
    """Add this area's commands."""
    app.command("profile")(profile_command)
    app.command("clean")(clean)
    app.command("ledger")(ledger)
    app.command("undo")(undo_command)
    app.command("split")(split_command)
    app.command("mix")(mix_command)
    app.command("export-data")(export_data)


def profile_command(name: Name, version: VersionOption = None, as_json: AsJson = False) -> None:
    """Count what is wrong with a dataset, issue by issue."""
    from core.data.profile import ISSUES, profile

    found = profile(name, version)
    lines = [found.sentence, ""]
    lines += table(
        ["issue", "rows", "share", "severity", "what it is"],
        [
            [issue, f"{count:,}", f"{count / max(found.rows, 1):.1%}", ISSUES[issue].severity, ISSUES[issue].title]
            for issue, count in sorted(found.issues.items(), key=lambda item: -item[1])
            if count
        ],
    )
    emit(found.as_dict(), as_json, lines)


def clean(
    name: Name,
    recipe: Annotated[
        Path | None, typer.Option("--recipe", help="YAML or JSON file of steps; a sound default when left out.")
    ] = None,
    dry_run: DryRun = False,
    limit: Limit = 20,
    as_json: AsJson = False,
) -> None:
    """Apply a recipe to the latest version: a new version, with each touched row in its ledger."""
    from core.data.recipes import apply, default_recipe, load_recipe, preview
    from core.store.datasets import get_version, read_ledger

    steps = load_recipe(recipe) if recipe is not None else default_recipe(name)
    before = get_version(name)
    seen = preview(name, steps)
    if dry_run:
        emit(_told(seen, None) | {"changes": _entries(seen.changes, limit)}, as_json, _preview_lines(seen, limit))
        return
    made = apply(name, [told.step for told in seen.steps], note="clean")
    say(f"{read_ledger(name).num_rows:,} ledger entries; `python -m core undo {name} last` takes the last step back")
    lines = [*_step_lines(seen), f"Version {made.number}: {made.rows:,} rows (before: {before.rows:,})"]
    emit(_told(seen, made), as_json, lines)


def _told(seen: Preview, made: Version | None) -> dict[str, Any]:
    steps = [
        {
            "step": told.step.step_id,
            "op": told.step.op,
            "title": told.title,
            "dropped": told.dropped,
            "changed": told.changed,
            "added": told.added,
            "quarantined": told.quarantined,
        }
        for told in seen.steps
    ]
    return {
        "dataset": seen.dataset,
        "version": made.number if made else seen.version,
        "applied": made is not None,
        "rows_before": seen.rows_before,
        "rows": seen.rows_after,
        "affected": seen.affected,
        "steps": steps,
    }


def _step_lines(seen: Preview) -> list[str]:
    rows = [
        [told.step.step_id, told.title, f"{told.dropped:,}", f"{told.changed:,}", f"{told.added:,}", f"{told.quarantined:,}"]
        for told in seen.steps
    ]
    return table(["step", "what", "dropped", "changed", "added", "put aside"], rows)


def _entries(changes: Any, limit: int) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = (changes.slice(0, limit) if limit else changes).to_pylist()
    return rows


def _preview_lines(seen: Preview, limit: int) -> list[str]:
    lines = [
        *_step_lines(seen),
        f"{plural(seen.affected, 'row')} would be touched; {plural(seen.rows_before, 'row')} become {seen.rows_after:,}",
    ]
    if seen.changes.num_rows:
        lines += ["", *_entry_lines(seen.changes, limit)]
    return lines


def _entry_lines(changes: Any, limit: int) -> list[str]:
    lines = table(
        ["row", "op", "reason", "before", "after"],
        [
            [
                entry["row_id"],
                entry["op"],
                short(entry["reason"] or "", 60),
                *_where_changed(entry["before"] or "", entry["after"] or ""),
            ]
            for entry in _entries(changes, limit)
        ],
    )
    left = changes.num_rows - limit if limit else 0
    return [*lines, f"… and {left:,} more (--limit 0 shows all)"] if left > 0 else lines


def _where_changed(before: str, after: str) -> list[str]:
    """Two JSON texts from a little before the place on at which they begin to differ, blanks as they are, each cut to fit."""
    same = next((place for place, (a, b) in enumerate(zip(before, after, strict=False)) if a != b), min(len(before), len(after)))
    start = same - _LEAD if max(len(before), len(after)) > _WIDTH and same > _LEAD else 0
    shown = [f"…{text[start:]}" if start else text for text in (before, after)]
    return [text if len(text) <= _WIDTH else f"{text[: _WIDTH - 1]}…" for text in shown]


def ledger(name: Name, version: VersionOption = None, limit: Limit = 20, as_json: AsJson = False) -> None:
    """Show each row that a version dropped, changed or added, with the reason."""
    from core.store.datasets import get_version, read_ledger

    number = get_version(name, version).number
    entries = read_ledger(name, number)
    value = {"dataset": name, "version": number, "total": entries.num_rows, "entries": _entries(entries, limit)}
    emit(value, as_json, _entry_lines(entries, limit) if entries.num_rows else f"Version {number} dropped and changed nothing.")


def undo_command(
    name: Name,
    step: Annotated[str, typer.Argument(help="A step's identifier (see `versions`), or `last`.")] = "last",
    dry_run: DryRun = False,
    limit: Limit = 20,
    as_json: AsJson = False,
) -> None:
    """Take one step back, also one in the middle: the others are replayed into a new version."""
    from core.data.recipes import preview_undo, undo

    seen = preview_undo(name, step)
    if dry_run:
        emit(_told(seen, None) | {"changes": _entries(seen.changes, limit)}, as_json, _preview_lines(seen, limit))
        return
    made = undo(name, step)
    emit(_told(seen, made), as_json, [*_step_lines(seen), f"Version {made.number}: {made.rows:,} rows"])


def split_command(
    name: Name,
    dev: Annotated[float, typer.Option("--dev", help="Share of rows in dev.")] = 0.1,
    test: Annotated[float, typer.Option("--test", help="Share of rows in test.")] = 0.1,
    seed: Annotated[int, typer.Option("--seed", help="Seed of the shuffle.")] = 7,
    group: Annotated[str, typer.Option("--group", help="Column whose equal values stay in one split.")] = "",
    near: Annotated[bool, typer.Option("--near/--no-near", help="Near duplicates stay in one split.")] = True,
    stratify: Annotated[bool, typer.Option("--stratify/--no-stratify", help="Keep shares within each element or class.")] = True,
    keep: Annotated[bool, typer.Option("--keep", help="Rows that are in a split stay there.")] = False,
    as_json: AsJson = False,
) -> None:
    """Split the latest version into train, dev and test; nothing that is asked twice lands on both sides."""
    from core.data.leaks import leak_report
    from core.data.split import split
    from core.store.datasets import get_version, read_rows

    old = {key: size for key, size in get_version(name).split_sizes.items() if key}
    before = leak_report(read_rows(name))
    made = split(name, dev, test, seed, group=group, near=near, stratify=stratify, keep=keep)
    after = leak_report(read_rows(name))
    value = {
        "dataset": name,
        "version": made.number,
        "rows": made.rows,
        "split_sizes": made.split_sizes,
        "leaked_before": before.exact,
        "leaked": after.exact,
        "leaked_nearly_before": before.near,
        "leaked_nearly": after.near,
    }
    lines = [
        f"Version {made.number}: {_sizes(made.split_sizes)}",
        f"Rows of dev and test that stand in train: {after.exact:,} (before: {before.exact:,}), "
        f"nearly: {after.near:,} (before: {before.near:,})",
    ]
    if old and not keep:
        lines.append(f"Rows that were in a split already ({_sizes(old)}) were dealt anew; --keep leaves them where they are.")
    emit(value, as_json, lines)


def _sizes(splits: dict[str, int]) -> str:
    return ", ".join(f"{name or 'none'} {size:,}" for name, size in splits.items())


def mix_command(
    parts: Annotated[list[str], typer.Argument(help="NAME=WEIGHT, several of them.", show_default=False)],
    name: Annotated[str, typer.Option("--name", help="Name of the new dataset.")],
    rows: Annotated[
        int | None, typer.Option("--rows", min=1, help="Training rows in all; the most without repeats if left out.")
    ] = None,
    seed: Annotated[int, typer.Option("--seed")] = 7,
    as_json: AsJson = False,
) -> None:
    """Mix datasets into a new one, training rows by weight, dev and test rows whole."""
    from core.data.mix import mix

    made, taken = mix(_weights(parts), name, rows=rows, seed=seed)
    value = {
        "dataset": name,
        "version": made.number,
        "rows": made.rows,
        "parts": [
            {"dataset": p.dataset, "weight": p.weight, "train": p.taken, "repeated": p.repeated, "held_out": p.held_out}
            for p in taken
        ],
    }
    lines = table(
        ["dataset", "weight", "training rows", "of", "repeated", "dev and test"],
        [[p.dataset, p.weight, f"{p.taken:,}", f"{p.available:,}", f"{p.repeated:,}", f"{p.held_out:,}"] for p in taken],
    )
    emit(value, as_json, [*lines, f"{name}: {made.rows:,} rows"])


def _weights(parts: list[str]) -> dict[str, float]:
    from core.errors import SpecError

    weights: dict[str, float] = {}
    for part in parts:
        dataset, sign, weight = part.rpartition("=")
        try:
            weights[dataset if sign else part] = float(weight) if sign else 1.0
        except ValueError:
            raise SpecError(f"{part!r} is no NAME=WEIGHT", "For example zh_resume=2 en_wnut17=1.") from None
    return weights


def export_data(
    name: Name,
    form: Annotated[str, typer.Option("--format", help=_FORMAT_HELP)],
    to: Annotated[Path, typer.Option("--to", help="File (folder for `datasets`) to write.")],
    version: VersionOption = None,
    split: Annotated[str | None, typer.Option("--split", help="Rows of one split only.")] = None,
    what: Annotated[str, typer.Option("--what", help="rows, ledger or quarantine.")] = "rows",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a file that is there.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be left out; write nothing.")] = False,
    as_json: AsJson = False,
) -> None:
    """Write a version's rows, ledger or quarantine to a file."""
    from core.data.export import check_form, check_part, export, left_out_of, remarks
    from core.errors import SpecError
    from core.store.datasets import get_version, read_rows

    if what not in ("rows", "ledger", "quarantine"):
        raise SpecError(f"There is nothing called {what!r} to export", "Choose rows, ledger or quarantine.")
    check_form(form, what)  # type: ignore[arg-type]
    number = get_version(name, version).number
    check_part(name, number, split)
    left = left_out_of(name, form, version=number, split=split) if what == "rows" else {}
    told = remarks(name, form, left, version=number, split=split) if what == "rows" else []
    value = {"dataset": name, "version": number, "format": form, "what": what, "path": str(to), "left_out": left}
    if dry_run:
        rows = read_rows(name, number, split=split, columns=["row_id"]).num_rows if what == "rows" else None
        counted = plural(rows, "row") if rows is not None else f"The {what}"
        emit(value | {"rows": rows}, as_json, [f"{counted} of version {number} would be written to {to}; nothing was.", *told])
        return
    count = export(name, form, to, version=number, split=split, what=what, overwrite=overwrite)  # type: ignore[arg-type]
    counted = plural(count, "row") if what == "rows" else plural(count, f"entry of the {what}", f"entries of the {what}")
    emit(value | {"rows": count}, as_json, [f"{counted} written to {to}", *told])
