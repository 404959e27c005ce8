"""Commands ``score``, ``evaluations``: scores of answers made elsewhere, and what was evaluated here."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from core.cli.common import AsJson, emit, table

ScoredTask = Literal["extraction", "classification", "generation", "chat"]


def register(app: typer.Typer) -> None:
    """Add this area's commands."""
    app.command("score")(score)
    app.command("evaluations")(evaluations)


def score(
    predictions: Annotated[Path, typer.Argument(help='JSON Lines of {"input", "output" (gold), "prediction"}.')],
    task: Annotated[ScoredTask, typer.Option("--task", help="How answers are scored.")] = "extraction",
    elements: Annotated[str, typer.Option("--elements", help="Known elements or classes, separated by commas.")] = "",
    as_json: AsJson = False,
) -> None:
    """Score predictions from anywhere; no model is needed."""
    from core.evaluation.prediction_files import read_prediction_file
    from core.evaluation.scoring import score_frame

    names = tuple(name.strip() for name in elements.split(",") if name.strip())
    scores = score_frame(read_prediction_file(predictions), task, names or None).scores
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
    rows = (
        (e.evaluation_id, e.name, f"{e.spec.dataset} v{e.version} {e.spec.split}", e.rows, _headline(e.scores, e.complete))
        for e in found
    )
    emit({"evaluations": lines}, as_json, table(("evaluation", "name", "rows of", "rows", "score"), rows))


def _headline(scores: dict[str, Any], complete: bool) -> str:
    if not complete:
        return "not finished"
    name, value = headline(scores)
    return f"{name} {number(value)}{interval(scores, name)}"


def headline(scores: dict[str, Any]) -> tuple[str, float]:
    """The metric by which a task's arms are judged first, and its value."""
    if "micro" in scores:
        return "micro_f1", float(scores["micro"]["f1"])
    name = "accuracy" if "accuracy" in scores else "chrf"
    return name, float(scores.get(name, 0.0))


def number(value: float) -> str:
    """Three significant digits."""
    return f"{value:.3f}" if abs(value) < 10 else f"{value:.1f}"


def interval(scores: dict[str, Any], name: str) -> str:
    """`` [low, high]`` of a metric, if it is known."""
    ends = scores.get("intervals", {}).get(name)
    return f" [{number(ends[0])}, {number(ends[1])}]" if ends else ""


def score_lines(scores: dict[str, Any]) -> list[str]:
    """Scores as a plain table for a person, with what is behind them."""
    shown: list[tuple[str, float]] = []
    if "micro" in scores:
        shown += [(f"micro_{part}", value) for part, value in scores["micro"].items()]
    names = ("accuracy", "macro_f1", "balanced_accuracy", "exact_match", "json_valid", "bleu", "chrf", "perplexity")
    shown += [(name, scores[name]) for name in names if name in scores]
    lines = [f"{scores['rows']:,} rows", ""]
    lines += table(("metric", "value", "95 %"), [(n, number(v), interval(scores, n).strip()) for n, v in shown])
    if "per_element" in scores:
        rows = [
            (name, *(number(part[key]) for key in ("precision", "recall", "f1")), part["gold"], part["predicted"])
            for name, part in scores["per_element"].items()
        ]
        lines += ["", *table(("element", "precision", "recall", "F1", "gold", "predicted"), rows)]
        lines += ["", *table(("error", "pairs"), scores["errors"].items())]
    if "per_label" in scores:
        rows = [(name, *(number(value) for value in part.values())) for name, part in scores["per_label"].items()]
        lines += ["", *table(("label", "precision", "recall", "F1", "gold"), rows)]
    return [*lines, "", *(f"{name}: {how}" for name, how in scores["signature"].items())]
