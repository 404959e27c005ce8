"""Commands for what is kept: usage, delete."""

from __future__ import annotations

import sys
from dataclasses import asdict
from typing import Annotated

import typer

from core.cli.common import AsJson, emit, say, table
from core.errors import UserError


def register(app: typer.Typer) -> None:
    """Add this area's commands."""
    app.command("usage")(usage_command)
    app.command("delete")(delete_command)


def megabytes(size: int) -> str:
    """A size for people, in MB with three significant digits at least."""
    return f"{size / 1e6:,.1f} MB" if size >= 1e5 else f"{size / 1e3:,.1f} kB"


def usage_command(as_json: AsJson = False) -> None:
    """Show what takes up disk, the largest first."""
    from core.store.usage import usage

    items = usage()
    total = sum(item.bytes for item in items)
    lines = table(["kind", "name", "size"], [[item.kind, item.name, megabytes(item.bytes)] for item in items])
    emit({"total": total, "items": [asdict(item) for item in items]}, as_json, [*lines, f"All: {megabytes(total)}"])


def delete_command(
    kind: Annotated[str, typer.Argument(help="dataset, version, run, evaluation or conversation.", show_default=False)],
    name: Annotated[str, typer.Argument(help="Its name; a version is dataset@number.", show_default=False)],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would go; delete nothing.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Don't ask.")] = False,
    as_json: AsJson = False,
) -> None:
    """Delete something with what hangs on it, which is shown first; without a terminal only with --yes."""
    from core.store.usage import delete_with_all, what_goes

    goes = what_goes(kind, name)
    lines = [f"{item.kind} {item.name}" + (f"  {megabytes(item.bytes)}" if item.bytes else "") for item in goes.goes]
    value = {"goes": [asdict(item) for item in goes.goes], "stays": list(goes.stays), "bytes": goes.bytes}
    if dry_run:
        emit(value | {"deleted": False}, as_json, ["Would be deleted:", *lines, *goes.stays])
        return
    for line in ["To be deleted:", *lines, *goes.stays]:
        say(line)
    if not yes:
        if as_json or not sys.stdin.isatty():
            raise UserError("Nothing was deleted, for nobody can be asked", "Say --yes to delete it, or --dry-run to look only.")
        if not typer.confirm("Delete?", err=True):
            say("Nothing was deleted.")
            return
    delete_with_all(kind, name)
    emit(value | {"deleted": True}, as_json, f"{len(goes.goes)} deleted, {megabytes(goes.bytes)} freed")
