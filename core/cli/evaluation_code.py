"""Command ``humaneval``: code tasks answered by a model, or samples from elsewhere, run in the sandbox; pass@k."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from core.cli.common import AsJson, ModelOption, table
from core.cli.evaluation_text import between
from core.cli.measuring import Wait, measure
from core.evaluation.words import number


def humaneval(
    samples: Annotated[
        Path | None, typer.Argument(help='JSON Lines of {"task_id", "completion"}; without it a model answers.')
    ] = None,
    problems: Annotated[
        Path | None, typer.Option("--problems", help="Tasks in HumanEval's format; its own 164 by default.")
    ] = None,
    model: ModelOption = "",
    run: Annotated[str, typer.Option("--run", help="A training run whose adapter answers.")] = "",
    template: Annotated[str, typer.Option("--template", help="`code`: the code as it is; else a template's name.")] = "code",
    per_task: Annotated[int, typer.Option("--samples", min=1, help="Answers to each task.")] = 1,
    temperature: Annotated[float, typer.Option("--temperature", min=0.0, help="0: greedy.")] = 0.0,
    max_new_tokens: Annotated[int, typer.Option("--max-new-tokens", min=1, help="Longest answer.")] = 384,
    limit: Annotated[int | None, typer.Option("--limit", min=1, help="Only the first tasks.")] = None,
    k: Annotated[str, typer.Option("--k", help="Which pass@k, separated by commas.")] = "1,10,100",
    seconds: Annotated[float, typer.Option("--seconds", min=0.5, help="Longest run of a program.")] = 5.0,
    out: Annotated[Path | None, typer.Option("--out", help="Keep the samples with their results.")] = None,
    wait: Wait = True,
    as_json: AsJson = False,
) -> None:
    """Check code answers in a sandbox and estimate pass@k. Refuses where there is no sandbox."""
    from core.errors import SpecError
    from core.models.catalogue import parse_model
    from core.records import CodeSpec, GenerationSettings

    try:
        ks = tuple(int(part) for part in k.split(","))
    except ValueError:
        raise SpecError(f"--k {k!r} is no list of whole numbers", "Write for example --k 1,10.") from None
    spec = CodeSpec(
        problems=str(problems or ""), samples_file=str(samples or ""), run=run or None, template=template, samples=per_task,
        generation=GenerationSettings(max_new_tokens=max_new_tokens, temperature=temperature), limit=limit, ks=ks,
        seconds=seconds, **({"model": parse_model(model)} if model else {}),
    )  # fmt: skip
    found = measure(spec, lines, wait, as_json)
    if out is not None and wait:
        _write(found["measurement"], out)


def lines(found: dict[str, Any]) -> list[str]:
    """The result as lines for a person."""
    rows = [(f"pass@{n}", number(value), between(found["intervals"][n])) for n, value in found["pass_at_k"].items()]
    kinds = table(("result", "samples"), list(found["results"].items())[:12])
    return [f"{found['tasks']:,} tasks, {found['samples']:,} samples", *table(("", "value", "95 %"), rows), *kinds]


def _write(measurement_id: str, out: Path) -> None:
    from core.evaluation.artefacts import read_journal
    from core.store.files import write_text
    from core.store.measurements import measurement_folder

    checked = read_journal(measurement_folder(measurement_id) / "checked.jsonl")
    names = ("task_id", "completion", "passed", "result")
    samples = [{name: line[name] for name in names} for _, line in sorted(checked.items(), key=lambda item: int(item[0]))]
    write_text(out.absolute(), "".join(json.dumps(sample) + "\n" for sample in samples))
