"""The command ``models``: what can be loaded here, and fetching a model by name."""

from __future__ import annotations

from typing import Annotated

import typer

from core.cli.common import AsJson, emit, say, table
from core.models.catalogue import list_models, parse_model, resolve


def register(app: typer.Typer) -> None:
    """Add this area's commands."""

    @app.command()
    def models(
        fetch: Annotated[
            str | None,
            typer.Option(help="Put this model on this machine: default, hub:org/name or modelscope:org/name."),
        ] = None,
        revision: Annotated[str | None, typer.Option(help="Commit, branch or tag of it.")] = None,
        as_json: AsJson = False,
    ) -> None:
        """List the models on this machine, with size and licence; --fetch adds one."""
        if fetch is not None:
            say(str(resolve(parse_model(fetch, revision=revision), say)))
        found = list_models()
        rows = [
            (m.text, "ready" if m.ready else "not made yet", f"{m.bytes / 1e6:,.0f} MB" if m.ready else "", m.license, m.folder)
            for m in found
        ]
        listed = [
            {"model": m.text, "ready": m.ready, "bytes": m.bytes, "license": m.license, "folder": str(m.folder)} for m in found
        ]
        emit({"models": listed}, as_json, table(("model", "state", "weights", "licence", "folder"), rows))
