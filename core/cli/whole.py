"""Commands of this area (none yet)."""

from __future__ import annotations

import typer


def register(app: typer.Typer) -> None:
    """Add this area's commands."""
