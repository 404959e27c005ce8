"""Command ``humaneval``: code tasks answered by a model, or samples from elsewhere, run in the sandbox; pass@k."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from core.cli.common import AsJson, emit, say, table
from core.cli.evaluation_text import between, number

if TYPE_CHECKING:
    from core.evaluation.code import Problem


def humaneval(
    samples: Annotated[
        Path | None, typer.Argument(help='JSON Lines of {"task_id", "completion"}; without it a model answers.')
    ] = None,
    problems: Annotated[
        Path | None, typer.Option("--problems", help="Tasks in HumanEval's format; its own 164 by default.")
    ] = None,
    model: Annotated[str, typer.Option("--model", help="default, a folder, hub:org/name or modelscope:org/name.")] = "",
    run: Annotated[str, typer.Option("--run", help="A training run whose adapter answers.")] = "",
    template: Annotated[str, typer.Option("--template", help="`code`: the code as it is; else a template's name.")] = "code",
    per_task: Annotated[int, typer.Option("--samples", min=1, help="Answers to each task.")] = 1,
    temperature: Annotated[float, typer.Option("--temperature", min=0.0, help="0: greedy.")] = 0.0,
    max_new_tokens: Annotated[int, typer.Option("--max-new-tokens", min=1, help="Longest answer.")] = 384,
    limit: Annotated[int | None, typer.Option("--limit", min=1, help="Only the first tasks.")] = None,
    k: Annotated[str, typer.Option("--k", help="Which pass@k, separated by commas.")] = "1,10,100",
    seconds: Annotated[float, typer.Option("--seconds", min=0.5, help="Longest run of a program.")] = 5.0,
    out: Annotated[Path | None, typer.Option("--out", help="Keep the samples with their results.")] = None,
    as_json: AsJson = False,
) -> None:
    """Check code answers in a sandbox and estimate pass@k. Refuses where there is no sandbox."""
    from core.errors import SpecError
    from core.evaluation import code
    from core.evaluation.sandbox import Limits, check_sandbox
    from core.store.files import write_text

    check_sandbox()
    try:
        ks = [int(part) for part in k.split(",")]
    except ValueError:
        raise SpecError(f"--k {k!r} is no list of whole numbers", "Write for example --k 1,10.") from None
    tasks = code.load_problems(problems)
    if samples is not None:
        chosen = code.load_samples(samples, tasks)
    else:
        asked = list(tasks.values())[:limit]
        chosen = _answers(asked, model, run, template, per_task, temperature, max_new_tokens)
    say(f"Running {len(chosen):,} programs in the sandbox")
    checked = code.check_samples(tasks, chosen, limits=Limits(seconds=seconds))
    scores = code.score_samples(checked, [n for n in ks if n > 0])
    if out is not None:
        lines = [
            json.dumps({"task_id": c.task_id, "completion": c.completion, "passed": c.passed, "result": c.result})
            for c in checked
        ]
        write_text(out.absolute(), "\n".join(lines) + "\n")
    rows = [(f"pass@{n}", number(value), between(scores["intervals"][n])) for n, value in scores["pass_at_k"].items()]
    kinds = table(("result", "samples"), list(scores["results"].items())[:12])
    emit(
        scores,
        as_json,
        [f"{scores['tasks']:,} tasks, {scores['samples']:,} samples", *table(("", "value", "95 %"), rows), *kinds],
    )


def _answers(
    tasks: list[Problem], model: str, run: str, template: str, samples: int, temperature: float, max_new_tokens: int
) -> list[tuple[str, str]]:
    from core.evaluation.answerer import answerer, engine_for
    from core.evaluation.code_answers import PLAIN, answer_problems
    from core.jobs.submissions import run_model
    from core.models.catalogue import parse_model
    from core.prompts.templates import find_template
    from core.records import Arm, GenerationSettings, SilentReporter
    from core.store.runs import get_run

    arm = Arm(model=run_model(get_run(run)) if run and not model else parse_model(model or "default"), run=run or None)
    who = answerer(arm)
    settings = GenerationSettings(max_new_tokens=max_new_tokens, temperature=temperature)
    chosen = PLAIN if template == "code" else find_template(template)
    total = len(tasks) * samples
    with engine_for(who, None, SilentReporter()) as engine:
        say(f"Answering {total:,} times")
        told = max(1, total // 10)
        return answer_problems(
            tasks, engine, chosen, settings, samples=samples, adapter=who.adapter,
            on_done=lambda done: say(f"{done:,} of {total:,}") if done % told == 0 else None,
        )  # fmt: skip
