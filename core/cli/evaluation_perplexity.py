"""Command ``perplexity``: how well a model predicts plain text, by a sliding window."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from core.cli.common import AsJson, emit, say
from core.cli.evaluation_text import between, number


def perplexity(
    files: Annotated[list[Path], typer.Argument(help="Text files in UTF-8, each one text.")],
    model: Annotated[str, typer.Option("--model", help="default, a folder, hub:org/name or modelscope:org/name.")] = "",
    run: Annotated[str, typer.Option("--run", help="A training run whose adapter reads.")] = "",
    window: Annotated[int, typer.Option("--window", min=2, help="Tokens that are read at once.")] = 1024,
    stride: Annotated[int, typer.Option("--stride", min=1, help="Tokens by which the window moves on.")] = 512,
    as_json: AsJson = False,
) -> None:
    """Measure perplexity of plain text; window and stride are in the signature, since they decide the number."""
    from core.errors import InputFileError
    from core.evaluation.answerer import answerer, engine_for
    from core.evaluation.sliding import text_perplexity
    from core.jobs.submissions import run_model
    from core.models.catalogue import parse_model
    from core.records import Arm, SilentReporter
    from core.store.runs import get_run

    texts = []
    for path in files:
        try:
            texts.append(path.read_text("utf-8-sig"))
        except (OSError, UnicodeDecodeError) as error:
            raise InputFileError(f"{path} can't be read: {error}", "Give text files in UTF-8.") from None
    arm = Arm(model=run_model(get_run(run)) if run and not model else parse_model(model or "default"), run=run or None)
    who = answerer(arm)
    with engine_for(who, None, SilentReporter()) as engine:
        found = text_perplexity(
            texts, engine, window=window, stride=stride, adapter=who.adapter,
            on_window=lambda done, total: say(f"{done:,} of {total:,} windows") if done % 50 == 0 else None,
        )  # fmt: skip
    line = f"perplexity {number(found['perplexity'])} {between(found['interval'])}".rstrip()
    more = f"{found['tokens']:,} tokens of {found['texts']:,} texts, {number(found['bits_per_character'])} bits per character"
    emit(found, as_json, [line, more, f"perplexity: {found['signature']}"])
