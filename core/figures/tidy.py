"""Records as tidy frames, the input of the figures: one line an evaluation, an element, an error kind, a step.

Reads records and their artefacts; draws nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import pandas as pd

from core.evaluation.metrics.names import PRIMARY
from core.records import Evaluation, Run, Version
from core.store.files import area

METRICS: dict[str, tuple[str, bool]] = {
    "micro_f1": ("Micro-F1", True),
    "exact_match": ("Exact match", True),
    "json_valid": ("Valid JSON", True),
    "accuracy": ("Accuracy", True),
    "macro_f1": ("Macro-F1", True),
    "bleu": ("BLEU", True),
    "chrf": ("chrF", True),
    "perplexity": ("Perplexity", False),
}
"""Metrics in the order in which they are offered: their names and whether higher is better."""
ERROR_WORDS = {
    "missed": "Missed",
    "spurious": "Made up of other text",
    "boundary": "Cut at the wrong place",
    "wrong_element": "Under the wrong element",
    "hallucinated": "Not in the text",
    "duplicate": "Said twice",
    "format": "Unreadable or unknown element",
    "wrong_label": "Wrong label",
    "no_label": "No label could be read",
    "differs": "Differs from gold",
}
ALONG = {"version": "Version of the data", "run": "Training run, the oldest first", "time": "Evaluation, the oldest first"}
"""What a trend can go along, and its axis."""


def axis(metric: str) -> str:
    """The name of a metric with its direction, as an axis shows it."""
    name, higher = METRICS.get(metric, (metric, True))
    return f"{name} ({'higher' if higher else 'lower'} is better)"


def value_of(scores: dict[str, Any], metric: str) -> float | None:
    """A metric out of an evaluation's scores by its flat name; none where it has none."""
    if metric in ("micro_f1", "micro_precision", "micro_recall"):
        found = scores.get("micro", {}).get(metric.removeprefix("micro_"))
    else:
        found = scores.get(metric)
    return float(found) if isinstance(found, int | float) else None


def headline(task: str) -> str:
    """The metric that a task is judged by first."""
    return PRIMARY.get(task, "exact_match")


def lengths_counted(version: Version) -> bool:
    """Whether the tokens of a version were counted, with any template and tokenizer."""
    return any(area("cache", "lengths", version.dataset, f"v{version.number:04d}").glob("lengths-*.parquet"))


def evaluations(records: Iterable[Evaluation], runs: Sequence[Run] = ()) -> pd.DataFrame:
    """One line an evaluation, the newest first: what answered, on what, and every metric with ``_low`` and ``_high``."""
    names = {run.run_id: run.name or run.run_id for run in runs}
    lines = []
    for record in records:
        arm = record.spec.arm
        line: dict[str, Any] = {
            "key": record.evaluation_id,
            "name": record.name or record.evaluation_id,
            "when": record.created_at,
            "dataset": record.spec.dataset,
            "version": f"v{record.version}",
            "split": record.spec.split,
            "task": record.task,
            "template": record.template.ref,
            "model": arm.model.label,
            "adapter": names.get(arm.run, arm.run) if arm.run else "none",
            "run": arm.run or "",
            "how": names.get(arm.run, arm.run) if arm.run else f"{arm.shots} examples" if arm.shots else "prompt alone",
            "ways": _ways(record),
            "kind": "tuned" if arm.run else "base",
            "rows": record.rows,
            "seconds": record.seconds,
            "tokens": value_of(record.scores, "tokens_per_request"),
        }
        bounds = record.scores.get("intervals", {})
        for metric in METRICS:
            low, high = bounds.get(metric, (None, None))[:2]
            line |= {metric: value_of(record.scores, metric), f"{metric}_low": low, f"{metric}_high": high}
        lines.append(line)
    frame = pd.DataFrame(lines)
    return frame.sort_values("when", ascending=False, ignore_index=True) if lines else frame


def _ways(record: Evaluation) -> str:
    """What of how an arm answers has no column of its own."""
    arm = record.spec.arm
    parts = {
        arm.model.quantisation: arm.model.quantisation != "none",
        "retrieved examples": bool(arm.shots) and arm.shots_how == "retrieved",
        "passages": arm.passages is not None,
        "kept to JSON": arm.constrained,
        f"the first {record.spec.limit or 0:,} rows": record.spec.limit is not None,
    }
    return ", ".join(name for name, there in parts.items() if there)


def _answering(part: pd.DataFrame) -> pd.Series:
    """What answered what, in words: dataset and arm, with model, template, split and the like where they tell two apart."""
    group = part["dataset"] + " · " + part["how"]
    for column in ("model", "template", "split", "ways"):
        several = part.groupby(group)[column].transform("nunique") > 1
        group = group.where(~several | (part[column] == ""), group + " · " + part[column])
    return group


def ranked(frame: pd.DataFrame, metric: str) -> pd.DataFrame:
    """The columns of a leaderboard for one metric, the best first; equal names are told apart, lines without it left out."""
    lower = not METRICS.get(metric, (metric, True))[1]
    part = frame[frame[metric].notna()].sort_values(metric, ascending=lower, kind="stable").reset_index(drop=True)
    made = part[["key", "kind"]].assign(
        value=part[metric].astype(float), low=part[f"{metric}_low"].astype(float), high=part[f"{metric}_high"].astype(float)
    )
    again = part["name"].duplicated(keep=False)
    return made.assign(name=part["name"].where(~again, part["name"] + " · " + part["key"].str[-6:]))


def elements(records: Iterable[Evaluation]) -> pd.DataFrame:
    """One line an element that gold or the dataset has (of a classification, a label) and evaluation.

    Columns: ``element``, ``arm``, ``kind``, ``key``, ``value`` (F1) from ``low`` to ``high``, precision, recall, gold.
    """
    lines = [
        {
            "element": element,
            "arm": record.name or record.evaluation_id,
            "key": record.evaluation_id,
            "kind": "tuned" if record.spec.arm.run else "base",
            "value": float(found.get("f1", 0.0)),
            **dict(zip(("low", "high"), record.scores.get("intervals", {}).get(f"f1:{element}", (None, None)), strict=False)),
            "precision": found.get("precision"),
            "recall": found.get("recall"),
            "gold": found.get("gold"),
        }
        for record in records
        for element, found in (record.scores.get("per_element") or record.scores.get("per_label", {})).items()
        if found.get("gold") or element in record.elements
    ]
    return pd.DataFrame(lines, columns=["element", "arm", "key", "kind", "value", "low", "high", "precision", "recall", "gold"])


def errors(records: Iterable[Evaluation]) -> pd.DataFrame:
    """One line an error kind and evaluation: ``error``, ``label``, ``arm``, ``key``, ``kind`` (base or tuned), ``rows``."""
    lines = [
        {
            "error": key,
            "key": record.evaluation_id,
            "label": ERROR_WORDS.get(key, key),
            "arm": record.name or record.evaluation_id,
            "kind": "tuned" if record.spec.arm.run else "base",
            "rows": int(amount),
        }
        for record in records
        for key, amount in record.scores.get("errors", {}).items()
    ]
    return pd.DataFrame(lines, columns=["error", "label", "arm", "key", "kind", "rows"])


def trend(frame: pd.DataFrame, metric: str, along: str, runs: Sequence[Run] = ()) -> pd.DataFrame:
    """Scores along ``version``, ``run`` or ``time`` (columns of ``core.figures.evaluation.trend``), the fullest group first.

    ``frame``: of ``evaluations``. Along versions and runs a group has its newest evaluation at each place; along runs
    only fine-tunes count, one group a dataset and version.
    """
    part = frame[frame[metric].notna()].sort_values("when").reset_index(drop=True)
    if along == "run":
        part = part[part["run"] != ""]
        order = {run.run_id: place for place, run in enumerate(sorted(runs, key=lambda run: run.created_at))}
        made = part.assign(
            place=part["run"].map(order),
            at=part["adapter"],
            group=part["dataset"] + " " + part["version"] + " · " + part["split"],
        ).dropna(subset=["place"])
    else:
        made = part.assign(group=_answering(part))
        if along == "version":
            made = made.assign(place=part["version"].str.removeprefix("v").astype(int), at=part["version"])
        else:
            made = made.assign(place=range(len(part)), at=[f"{when:%d %b %H:%M}" for when in part["when"]])
    if along != "time":
        made = made.drop_duplicates(["group", "place"], keep="last")
    made = made.assign(value=made[metric].astype(float), low=made[f"{metric}_low"], high=made[f"{metric}_high"])
    ranks = {place: rank for rank, place in enumerate(sorted(made["place"].unique()))}
    made = made.assign(place=made["place"].map(ranks).astype(float))
    sizes = made["group"].map(made["group"].value_counts())
    columns = ["place", "at", "value", "low", "high", "group", "kind", "name", "key", "when"]
    return made.assign(size=sizes).sort_values(["size", "group", "place"], ascending=[False, True, True])[columns]
