"""Command ``perplexity``: how well a model predicts plain text, by a sliding window."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from core.cli.common import AsJson, ModelOption
from core.cli.evaluation_text import between
from core.cli.measuring import Wait, measure
from core.evaluation.words import number


def perplexity(
    files: Annotated[list[Path], typer.Argument(help="Text files in UTF-8, each one text.")],
    model: ModelOption = "",
    run: Annotated[str, typer.Option("--run", help="A training run whose adapter reads.")] = "",
    window: Annotated[int, typer.Option("--window", min=2, help="Tokens that are read at once.")] = 1024,
    stride: Annotated[int, typer.Option("--stride", min=1, help="Tokens by which the window moves on.")] = 512,
    wait: Wait = True,
    as_json: AsJson = False,
) -> None:
    """Measure perplexity of plain text; window and stride are in the signature, since they decide the number."""
    from core.models.catalogue import parse_model
    from core.records import TextSpec

    chosen: dict[str, Any] = {"model": parse_model(model)} if model else {}
    spec = TextSpec(files=tuple(map(str, files)), run=run or None, window=window, stride=stride, **chosen)
    measure(spec, lines, wait, as_json)


def lines(found: dict[str, Any]) -> list[str]:
    """The result as lines for a person."""
    line = f"perplexity {number(found['perplexity'])} {between(found['interval'])}".rstrip()
    more = f"{found['tokens']:,} tokens of {found['texts']:,} texts, {number(found['bits_per_character'])} bits per character"
    return [line, more, f"perplexity: {found['signature']}"]
