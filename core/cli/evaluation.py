"""Commands ``evaluate``, ``score``, ``evaluations``, ``compare``: answers to scores, and scores side by side."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from core.cli.common import AsJson, ModelOption, emit, table
from core.cli.evaluation_code import humaneval
from core.cli.evaluation_judge import judge
from core.cli.evaluation_look import leaks, learning_curve, nearest, rescore, slices, suspects
from core.cli.evaluation_perplexity import perplexity
from core.cli.evaluation_text import comparison_lines, headline, score_lines

if TYPE_CHECKING:
    from core.records import Evaluation, Job

ScoredTask = Literal["extraction", "classification", "generation", "chat"]
Quantised = Literal["none", "int8", "nf4"]
ShotsHow = Annotated[Literal["fixed", "retrieved"], typer.Option(help="The same examples for all, or the most alike.")]
PassagesFolder = Annotated[
    Path | None, typer.Option("--passages", help="Folder of .txt, .md, .jsonl documents: the best passages are shown.")
]
PassageSize = Annotated[int, typer.Option("--passage-size", min=20, help="Longest passage, in words or Chinese characters.")]
Endpoint = Annotated[
    str, typer.Option("--endpoint", help="Address of an OpenAI-like API whose --model answers; or --model endpoint:NAME.")
]
MadeElsewhere = Annotated[
    Path | None, typer.Option("--predictions", help="Answers made elsewhere, by row_id or input: nothing is generated.")
]


def register(app: typer.Typer) -> None:
    """Add this area's commands."""
    for command in (
        evaluate,
        score,
        evaluations,
        compare,
        slices,
        suspects,
        rescore,
        leaks,
        nearest,
        humaneval,
        judge,
        perplexity,
    ):
        app.command()(command)
    app.command("learning-curve")(learning_curve)


def evaluate(
    name: Annotated[str, typer.Argument(help="The dataset.")],
    split: Annotated[str, typer.Option("--split", help="Which rows are asked.")] = "test",
    version: Annotated[int | None, typer.Option("--version", help="Of the dataset; the latest by default.")] = None,
    model: ModelOption = "",
    quantisation: Annotated[Quantised | None, typer.Option("--quantisation", help="How the model is loaded.")] = None,
    run: Annotated[str, typer.Option("--run", help="A training run whose adapter answers.")] = "",
    template: Annotated[str, typer.Option("--template", help="The run's own by default, else `chat`.")] = "",
    shots: Annotated[int, typer.Option("--shots", min=0, help="Worked examples in the prompt, from the train split.")] = 0,
    shots_how: ShotsHow = "fixed",
    limit: Annotated[int | None, typer.Option("--limit", min=1, help="Only the first rows of the split.")] = None,
    max_new_tokens: Annotated[int, typer.Option("--max-new-tokens", min=1, help="Longest answer.")] = 128,
    constrained: Annotated[bool, typer.Option("--constrained", help="Keep answers to a JSON object of the elements.")] = False,
    passages: PassagesFolder = None,
    passages_k: Annotated[int, typer.Option("--passages-k", min=1, max=20, help="Passages in a prompt.")] = 3,
    passage_size: PassageSize = 200,
    passage_overlap: Annotated[int, typer.Option("--passage-overlap", min=0, help="What a passage repeats of the last.")] = 40,
    endpoint: Endpoint = "",
    workers: Annotated[int, typer.Option("--workers", min=1, max=256, help="Questions under way at once at an endpoint.")] = 8,
    price_in: Annotated[float | None, typer.Option("--price-in", min=0, help="Price of a million prompt tokens there.")] = None,
    price_out: Annotated[float | None, typer.Option("--price-out", min=0, help="Price of a million answer tokens there.")] = None,
    perplexity: Annotated[bool, typer.Option(help="Measure the gold answers' perplexity, too.")] = True,
    label: Annotated[str, typer.Option("--label", help="A name for this arm.")] = "",
    predictions: MadeElsewhere = None,
    wait: Annotated[bool, typer.Option("--wait", help="Wait for the end and show the scores.")] = False,
    as_json: AsJson = False,
) -> None:
    """Answer a split with a model, prompt template and perhaps an adapter, and score the answers; as a job."""
    from core.jobs.queue import enqueue_evaluation
    from core.records import Arm, EvaluationSpec, GenerationSettings, Passages

    if predictions is not None:
        _take(predictions, name, split, version, label, model, as_json)
        return
    chosen: dict[str, Any] = {
        "shots": shots,
        "shots_how": shots_how,
        "constrained": constrained,
        "workers": workers,
        "name": label,
        "generation": GenerationSettings(max_new_tokens=max_new_tokens),
    }
    if passages is not None:
        chosen["passages"] = Passages(folder=str(passages), k=passages_k, size=passage_size, overlap=passage_overlap)
    chosen |= remote_arm(endpoint, model, price_in, price_out) if endpoint else _model(model, quantisation, run)
    chosen |= {"run": run} if run else {}
    chosen |= {"template": template} if template else {}
    if not (run or template or shots):
        _advise(name, version)
    spec = EvaluationSpec(dataset=name, version=version, split=split, limit=limit, arm=Arm(**chosen), perplexity=perplexity)
    _tell(*enqueue_evaluation(spec), wait, as_json)


def _advise(dataset: str, version: int | None) -> None:
    """Say which template says what to extract, where neither rows nor the usual one do."""
    from core.prompts.advice import advised_template
    from core.store.datasets import get_dataset

    if (advised := advised_template(get_dataset(dataset), version)) != "chat":
        typer.echo(f"The rows have no instruction, and chat names no elements: --template {advised} does.", err=True)


def _take(predictions: Path, dataset: str, split: str, version: int | None, label: str, model: str, as_json: bool) -> None:
    """An evaluation of answers that were made elsewhere, scored at once."""
    from core.evaluation.rescore import import_predictions

    made = import_predictions(predictions, dataset, split=split, version=version, name=label, model=model or predictions.stem)
    values = {"evaluation": made.evaluation_id, "state": "finished", "scores": made.scores, **made.scores}
    emit(values, as_json, [f"{made.evaluation_id}: {made.name}", *score_lines(made.scores)])


def _tell(job: Job, evaluation: Evaluation, wait: bool, as_json: bool) -> None:
    """Say what was queued; with ``wait`` follow it and show its scores. Exit 1 if it doesn't finish."""
    from core.cli.jobs import follow
    from core.store.runs import get_evaluation

    found: dict[str, Any] = {"job": job.job_id, "evaluation": evaluation.evaluation_id, "state": job.state}
    if not wait:
        emit(found, as_json, f"{evaluation.evaluation_id} is {job.state} as {job.job_id}: {evaluation.name}")
        return
    job = follow(job)
    scores = get_evaluation(evaluation.evaluation_id).scores
    found |= {"state": job.state, "scores": scores, **scores}
    lines = score_lines(scores) if scores else []
    emit(found, as_json, [f"{evaluation.evaluation_id}: {evaluation.name}, {job.state}", *lines])
    if job.state != "finished":
        raise typer.Exit(1)


def remote_arm(url: str, model: str, price_in: float | None, price_out: float | None) -> dict[str, Any]:
    """The parts of an arm that answers behind an address, without a name of its own."""
    from core.records import ModelRef, NamedEndpoint
    from core.store.endpoints import check_endpoint

    endpoint = NamedEndpoint(name=model, url=url, model=model, price_in=price_in, price_out=price_out)
    check_endpoint(endpoint)
    return {"model": ModelRef(source="endpoint", name=model), "endpoint": endpoint}


def _model(model: str, quantisation: Quantised | None, run: str) -> dict[str, Any]:
    """The arm's model as far as it was chosen; a run brings its own."""
    from core.models.catalogue import parse_model

    if not model and quantisation is None:
        return {}
    if run and not model:
        from core.jobs.submissions import run_model
        from core.store.runs import get_run

        return {"model": run_model(get_run(run)).model_copy(update={"quantisation": quantisation})}
    return {"model": parse_model(model or "default", quantisation=quantisation or "none")}


def score(
    predictions: Annotated[Path, typer.Argument(help='JSON Lines of {"input", "output" (gold), "prediction"}.')],
    task: Annotated[ScoredTask, typer.Option("--task", help="How answers are scored.")] = "extraction",
    elements: Annotated[str, typer.Option("--elements", help="Known elements or classes, separated by commas.")] = "",
    normalise: Annotated[
        str,
        typer.Option(
            "--normalise", help="What the normalised score overlooks: of width,case,space,script,numbers,dates; or none."
        ),
    ] = "width,case,space,script,numbers,dates",
    as_json: AsJson = False,
) -> None:
    """Score predictions from anywhere; no model is needed."""
    from core.data.elements import separated_names
    from core.evaluation.metrics.modes import read_normaliser
    from core.evaluation.prediction_files import read_prediction_file
    from core.evaluation.scoring import score_frame

    overlooked = read_normaliser(normalise)
    scores = score_frame(read_prediction_file(predictions), task, separated_names(elements) or None, normalise=overlooked).scores
    emit(scores, as_json, score_lines(scores))


def evaluations(
    dataset: Annotated[str, typer.Argument(help="Only those of this dataset.")] = "",
    as_json: AsJson = False,
) -> None:
    """List evaluations, the newest first."""
    from core.store.runs import list_evaluations

    found = list_evaluations(dataset or None)
    lines = [
        {
            "evaluation": e.evaluation_id,
            "name": e.name,
            "dataset": e.spec.dataset,
            "version": e.version,
            "split": e.spec.split,
            "run": e.spec.arm.run,
            "template": e.template.ref,
            "rows": e.rows,
            "complete": e.complete,
            "scores": e.scores,
        }
        for e in found
    ]
    rows = [
        (
            e.evaluation_id,
            e.name,
            f"{e.spec.dataset} v{e.version} {e.spec.split}",
            e.rows,
            headline(e.scores) if e.complete else "not finished",
        )
        for e in found
    ]
    text = table(("evaluation", "name", "of", "rows", "score"), rows) if rows else ["No evaluations yet."]
    emit({"evaluations": lines}, as_json, text)


def compare(
    evaluations: Annotated[list[str], typer.Argument(help="Two to six evaluations; each is held against the first.")],
    report: Annotated[Path | None, typer.Option("--report", help="Also write one self-contained HTML page.")] = None,
    texts: Annotated[bool, typer.Option("--texts/--no-texts", help="Quote rows in the report, or only name them.")] = True,
    leaked: Annotated[bool, typer.Option("--leaked/--no-leaked", help="Count rows that stand in an arm's training data.")] = True,
    group: Annotated[
        str,
        typer.Option("--group", help="A column whose values put rows together (a document, say): whole groups are resampled."),
    ] = "",
    as_json: AsJson = False,
) -> None:
    """Compare evaluations on the rows that all of them have."""
    from core.evaluation.compare import compare as compare_evaluations
    from core.evaluation.grouping import groups_by
    from core.evaluation.rescore import leaked_to_any
    from core.store.runs import get_evaluation

    without = [] if leaked else leaked_to_any(evaluations)
    clusters = groups_by(get_evaluation(evaluations[0]), group) if group else None
    comparison = compare_evaluations(evaluations, without=without, clusters=clusters)
    found = comparison.to_json()
    lines = comparison_lines(found)
    if not leaked:
        found["leaked"] = without
        lines.append(f"{len(without):,} rows that stand in an arm's training data are left out")
    if report is not None:
        from core.evaluation.report import write_report

        write_report(comparison, report, texts=texts)
        found["report"] = str(report)
        lines.append(f"Report: {report}")
    emit(found, as_json, lines)
