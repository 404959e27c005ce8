"""Commands that look into finished evaluations: ``slices``, ``suspects``, ``rescore``, ``leaks``, ``nearest``,
``learning-curve``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from core.cli.common import AsJson, emit, plural, table
from core.cli.evaluation_text import headline
from core.cli.jobs import follow
from core.evaluation.words import number

if TYPE_CHECKING:
    from core.records import Job


def slices(
    evaluation: Annotated[str, typer.Argument(help="An evaluation.")],
    metric: Annotated[str, typer.Option("--metric", help="micro_f1, accuracy or chrf by default.")] = "",
    depth: Annotated[int, typer.Option("--depth", min=1, max=2, help="2: pairs of columns, too.")] = 1,
    as_json: AsJson = False,
) -> None:
    """Show the groups of rows on which an evaluation does worst, corrected for how many were looked at."""
    from core.evaluation.metrics.names import PRIMARY
    from core.evaluation.slices import slices as find
    from core.evaluation.slices import slices_table
    from core.store.runs import get_evaluation

    record = get_evaluation(evaluation)
    chosen = metric or PRIMARY.get(record.task, "chrf")
    found = slices_table(find(record.evaluation_id, chosen, depth=depth)).to_pylist()
    rows = [
        (
            f"{s['column']}: {s['value']}",
            s["rows"],
            f"{number(s['score'])} [{number(s['low'])}, {number(s['high'])}]",
            f"{s['difference']:+.3f}",
            f"{s['p_adjusted']:.2g}",
        )
        for s in found
    ]
    emit(
        {"evaluation": record.evaluation_id, "metric": chosen, "slices": found},
        as_json,
        table(("slice", "rows", chosen, "against the rest", "p, corrected"), rows) if rows else ["No slice is large enough."],
    )


def suspects(
    evaluations: Annotated[list[str], typer.Argument(help="One or more evaluations of the same rows.")],
    limit: Annotated[int, typer.Option("--limit", min=1, help="Show so many in the table.")] = 30,
    as_json: AsJson = False,
) -> None:
    """List gold answers that look wrong: all arms agree against them, or the model finds them unlikely.

    Unlikely ones are looked for among 20 rows or more, and have a perplexity of 2 or more.
    """
    from core.evaluation.adjudication import suspects as find

    found = find(evaluations).to_pylist()
    rows = [(s["row_id"], s["sign"], s["element"], s["gold"], s["said"] or "") for s in found[:limit]]
    lines = table(("row", "sign", "element", "gold", "said"), rows) if rows else []
    emit({"suspects": found}, as_json, [f"{plural(len(found), 'gold answer')} may be wrong", *lines])


def rescore(
    evaluation: Annotated[str, typer.Argument(help="A finished evaluation.")],
    version: Annotated[int | None, typer.Option("--version", help="Whose gold answers; the latest by default.")] = None,
    name: Annotated[str, typer.Option("--name", help="Of the new evaluation.")] = "",
    as_json: AsJson = False,
) -> None:
    """Score saved predictions against another version's gold answers, without the model, as a new evaluation."""
    from core.evaluation.rescore import rescore as score_again

    found = score_again(evaluation, version, name=name)
    values = {"evaluation": found.evaluation_id, "rows": found.rows, "scores": found.scores}
    emit(values, as_json, f"{found.evaluation_id}: {found.name}, {found.rows:,} rows, {headline(found.scores)}")


def leaks(
    evaluation: Annotated[str, typer.Argument(help="A finished evaluation.")],
    near: Annotated[float, typer.Option("--near", min=0.1, max=1.0, help="From which likeness on a question is the same.")] = 0.8,
    as_json: AsJson = False,
) -> None:
    """Show scores with and without the rows that stand in the training data, side by side."""
    from core.cli.evaluation_text import between
    from core.evaluation.metrics.names import SHOWN
    from core.evaluation.rescore import without_leaks

    found = without_leaks(evaluation, near=near)
    sides = found["all"], found["without"]
    rows = [
        (name, *(f"{number(side['scores'][name])} {between(side['intervals'].get(name))}".rstrip() for side in sides))
        for name in SHOWN
        if all(name in side["scores"] for side in sides)
    ]
    left = found["rows"] - len(found["leaked"])
    heads = ("metric", f"all rows ({found['rows']:,})", f"without leaked rows ({left:,})")
    lines = [f"{len(found['leaked']):,} of {found['rows']:,} rows stand in the training data"]
    lines += table(heads, rows) if found["leaked"] else []
    emit(found, as_json, lines + (["", "Leaked: " + ", ".join(found["leaked"])] if found["leaked"] else []))


def nearest(
    evaluation: Annotated[str, typer.Argument(help="A finished evaluation.")],
    row: Annotated[str, typer.Argument(help="The row_id of one of its rows.")],
    limit: Annotated[int, typer.Option("--limit", min=1, max=50, help="So many training rows.")] = 5,
    as_json: AsJson = False,
) -> None:
    """Show the training rows that are most like a row, e.g. one that failed: what could the arm have learned it from?"""
    from core.evaluation.nearest import nearest_rows

    asked, found = nearest_rows(evaluation, row, limit)
    lines = [f"{asked['row_id']}  {asked['input']}", f"gold       {asked['output']}", f"predicted  {asked['prediction']}", ""]
    rows = [(line["row_id"], line["input"], line["output"]) for line in found]
    lines += table(("training row", "input", "output"), rows) if rows else ["There is no training row."]
    names = ("row_id", "instruction", "input", "output", "source")
    emit({"row": asked, "nearest": [{name: line[name] for name in names} for line in found]}, as_json, lines)


def learning_curve(
    evaluations: Annotated[
        list[str], typer.Argument(help="Evaluations of runs on growing parts of the data; of one, the others are looked for.")
    ],
    metric: Annotated[str, typer.Option("--metric", help="A score, e.g. micro_f1, exact_match, accuracy, chrf.")] = "",
    train: Annotated[bool, typer.Option("--train", help="Train and evaluate on the parts that are missing, first.")] = False,
    parts: Annotated[str, typer.Option("--parts", help="With --train: parts of the rows in %.")] = "25,50",
    seeds: Annotated[int, typer.Option("--seeds", min=1, help="With --train: trainings of each size, by their seed.")] = 1,
    wait: Annotated[bool, typer.Option("--wait", help="With --train: wait for it, then show the curve.")] = False,
    as_json: AsJson = False,
) -> None:
    """Say whether more data would help, from runs on several sizes of it (25, 50 and 100 %, say)."""
    from core.evaluation.learning import learning_curve as fit
    from core.evaluation.metrics.names import PRIMARY
    from core.store.runs import get_evaluation

    if train:
        jobs = _trained(evaluations[0], parts, seeds)
        if not wait:
            names = [job.job_id for pair in jobs for job in pair]
            emit({"jobs": names}, as_json, f"{len(jobs)} trainings and their evaluations are queued: {', '.join(names)}")
            return
        for job in (job for pair in jobs for job in pair):
            if follow(job).state != "finished":
                raise typer.Exit(1)
    runs = _points(evaluations)
    curve = fit(runs, metric or PRIMARY.get(get_evaluation(evaluations[0]).task, "chrf"))
    values = {
        "metric": curve.metric,
        "test_rows": curve.test_rows,
        "points": [{"rows": p.rows, "score": p.score, "low": p.low, "high": p.high, "runs": list(p.runs)} for p in curve.points],
        "between_seeds": curve.between_seeds,
        "expected": {"rows": curve.expected_rows, "value": curve.expected, **curve.expected_interval._asdict()},
        "gain": {"value": curve.gain, **curve.gain_interval._asdict()},
        "sentence": curve.sentence,
    }
    rows = [
        (f"{p.rows:,}", f"{number(p.score)} [{number(p.low)}, {number(p.high)}]", ", ".join(number(score) for score in p.runs))
        for p in curve.points
    ]
    emit(values, as_json, [curve.sentence, "", *table(("training rows", curve.metric, "each training"), rows)])


def _trained(evaluation: str, parts: str, seeds: int) -> list[tuple[Job, Job]]:
    from core.errors import SpecError
    from core.jobs.curve import enqueue_curve

    try:
        shares = [float(part) / 100 for part in parts.split(",")]
    except ValueError:
        raise SpecError(f"--parts {parts!r} is no list of numbers", "Write for example --parts 25,50.") from None
    return enqueue_curve(evaluation, shares, seeds)


def _points(keys: list[str]) -> list[tuple[int, str]]:
    """(training rows, evaluation) of each, or of one and those that lie on a curve with it."""
    from core.errors import UserError
    from core.evaluation.learning import curve_candidates
    from core.store.runs import get_evaluation, get_run, list_evaluations, list_runs

    records = [get_evaluation(key) for key in keys]
    for record in records:
        if record.spec.arm.run is None:
            raise UserError(f"Evaluation {record.name!r} has no training run", "Give evaluations made with --run.")
    if len(records) == 1:
        return curve_candidates(records[0], list_evaluations(records[0].spec.dataset), list_runs())
    runs = [get_run(str(record.spec.arm.run)) for record in records]
    given = [(run.trained_rows, run.spec.seed) for run in runs]
    if len(set(given)) < len(given):
        raise UserError(
            "Two of these trainings have as many rows and the same seed, so they say nothing of another seed",
            "Give one of each size and seed.",
        )
    return [(run.trained_rows, record.evaluation_id) for run, record in zip(runs, records, strict=True)]
