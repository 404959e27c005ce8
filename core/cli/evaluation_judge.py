"""Command ``judge``: a model scores answers by a rubric, or picks the better of two arms' answers."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from core.cli.common import AsJson
from core.cli.evaluation_text import between
from core.cli.measuring import Wait, measure
from core.evaluation.words import number


def judge(
    evaluations: Annotated[list[str], typer.Argument(help="One evaluation to score, or two to choose between.")],
    model: Annotated[
        str, typer.Option("--model", help="The judge: default, a folder, hub:org/name; with --endpoint its name.")
    ] = "",
    endpoint: Annotated[str, typer.Option("--endpoint", help="Address of an OpenAI-like API, e.g. http://host:8000/v1.")] = "",
    rubric: Annotated[Path | None, typer.Option("--rubric", help="A text file that says what a good answer is.")] = None,
    low: Annotated[int, typer.Option("--low", help="Worst score.")] = 1,
    high: Annotated[int, typer.Option("--high", help="Best score.")] = 5,
    gold: Annotated[bool, typer.Option(help="Show the judge the gold answer.")] = True,
    labels: Annotated[Path | None, typer.Option("--labels", help='People\'s labels: lines of {"row_id", "label"}.')] = None,
    limit: Annotated[int | None, typer.Option("--limit", min=1, help="Only the first rows.")] = None,
    wait: Wait = True,
    as_json: AsJson = False,
) -> None:
    """Let a model judge answers. Pairs are asked in both orders; a choice that goes with the order is a flip."""
    from core.cli.evaluation import remote_arm
    from core.evaluation.measuring import read_text
    from core.models.catalogue import parse_model
    from core.records import JudgeSpec

    text = "" if rubric is None else read_text(rubric)
    who = remote_arm(endpoint, model, None, None) if endpoint else {"model": parse_model(model or "default")}
    spec = JudgeSpec(
        evaluations=tuple(evaluations[:3]),
        rubric=text,
        low=low,
        high=high,
        gold=gold,
        limit=limit,
        labels=str(labels or ""),
        **who,
    )
    measure(spec, lines, wait, as_json)


def lines(found: dict[str, Any]) -> list[str]:
    """The result as lines for a person."""
    names = found["names"]
    said = [f"{found['rows']:,} rows, {found['unreadable']:,} replies that can't be read"]
    if found["kind"] == "single":
        mean = "no score" if found["mean"] is None else f"mean {number(found['mean'])} {between(found['interval'])}"
        said.append(f"{names[0]}: {mean}")
    else:
        counts = f"ties {found['ties']:,}, flips {found['flips']:,}"
        said.append(f"{names[1]} better {found['right']:,}, {names[0]} better {found['left']:,}, {counts}")
        if found["rate"] is not None:
            said.append(
                f"{names[1]} wins {number(found['rate'])} {between(found['interval'])} of the decided rows, p {found['p']:.2g}"
            )
        if found["first"] is not None:
            said.append(f"The answer shown first was picked {number(found['first'])} of the time (0.5: no favourite place)")
    if agreement := found.get("agreement"):
        kappa = "undefined" if agreement["kappa"] is None else f"{number(agreement['kappa'])} {between(agreement['interval'])}"
        said.append(
            f"Agreement with people on {agreement['rows']:,} rows: {number(agreement['equal'])} equal, Cohen's kappa {kappa}"
        )
    return [*said, f"judge: {found['signature']}"]
