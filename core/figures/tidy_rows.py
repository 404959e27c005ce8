"""Rows of an evaluation as tidy frames: what is wrong with each, how long its answer is, how likely its gold answer.

Reads artefacts; draws nothing.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd

from core.evaluation.artefacts import read_pairs, read_predictions, read_statistics
from core.evaluation.metrics.rows import labels_of
from core.records import Evaluation

NO_LABEL = "(no label)"
LENGTH_BINS = 8


def answers(record: Evaluation) -> pd.DataFrame:
    """Predictions, and of each row ``errors`` (count), ``kinds`` and ``elements`` that are wrong.

    Extraction: kinds and elements of its wrong pairs. Classification: ``wrong_label`` or ``no_label``, and the gold label;
    columns ``label`` and ``gold_label`` beside. Else ``differs`` where the answer isn't gold to the letter.
    """
    rows: pd.DataFrame = read_predictions(record.evaluation_id).to_pandas()
    if record.task == "extraction":
        return _extraction(rows, record.evaluation_id)
    return _labelled(rows, record.evaluation_id) if record.task == "classification" else _plain(rows, record.evaluation_id)


def _extraction(rows: pd.DataFrame, evaluation_id: str) -> pd.DataFrame:
    pairs = read_pairs(evaluation_id).to_pandas()
    wrong = pairs[pairs["kind"] != "correct"] if len(pairs) else pairs
    grouped = wrong.groupby("row_id")
    kinds = grouped["kind"].agg(lambda found: tuple(dict.fromkeys(found)))
    named = grouped["element"].agg(lambda found: tuple(dict.fromkeys(found)))
    ids = rows["row_id"]
    return rows.assign(
        errors=ids.map(grouped.size()).fillna(0).astype(int),
        kinds=[kinds.get(row_id, ()) for row_id in ids],
        elements=[named.get(row_id, ()) for row_id in ids],
    )


def _labelled(rows: pd.DataFrame, evaluation_id: str) -> pd.DataFrame:
    said, gold = labels_of_rows(evaluation_id)
    right = [s == g for s, g in zip(said, gold, strict=True)]
    kinds: list[Any] = [
        () if fine else ("no_label",) if s == NO_LABEL else ("wrong_label",) for fine, s in zip(right, said, strict=True)
    ]
    named: list[Any] = [() if fine else (g,) for fine, g in zip(right, gold, strict=True)]
    wrong = [int(not fine) for fine in right]
    return rows.assign(label=said, gold_label=gold, errors=wrong, kinds=kinds, elements=named)


def _plain(rows: pd.DataFrame, evaluation_id: str) -> pd.DataFrame:
    _, statistics = read_statistics(evaluation_id)
    right = statistics.select(["exact_match"]).values[:, 0] > 0
    kinds: list[Any] = [() if fine else ("differs",) for fine in right]
    named: list[Any] = [()] * len(rows)
    return rows.assign(errors=(~right).astype(int), kinds=kinds, elements=named)


def labels_of_rows(evaluation_id: str) -> tuple[list[str], list[str]]:
    """Predicted and gold label of each row of a classification; ``NO_LABEL`` where none could be read."""
    _, statistics = read_statistics(evaluation_id)
    found = []
    for kind in ("said", "is"):
        labels = [*labels_of(statistics.names, kind), NO_LABEL]
        flags = statistics.select([f"{kind}:{label}" for label in labels[:-1]]).values > 0
        places = np.where(flags.any(axis=1), flags.argmax(axis=1), len(labels) - 1) if flags.size else np.zeros(len(flags), int)
        found.append([labels[place] for place in places])
    return found[0], found[1]


def confusion(record: Evaluation) -> pd.DataFrame:
    """One line a cell: ``gold``, ``predicted``, ``rows``; empty for other tasks than classification."""
    found = record.scores.get("confusion", {"labels": [], "predicted": [], "counts": []})
    lines = [
        {"gold": gold, "predicted": predicted or NO_LABEL, "rows": count}
        for gold, counts in zip(found["labels"], found["counts"], strict=True)
        for predicted, count in zip(found["predicted"], counts, strict=True)
    ]
    return pd.DataFrame(lines, columns=["gold", "predicted", "rows"])


def lengths(record: Evaluation) -> pd.DataFrame:
    """Characters of ``gold`` and ``answer`` of each row, ``cut`` where the answer ended at its bound, by ``row_id``."""
    table = read_predictions(record.evaluation_id, ("row_id", "output", "prediction", "finish")).to_pandas()
    return pd.DataFrame(
        {
            "row_id": table["row_id"],
            "gold": table["output"].str.len(),
            "answer": table["prediction"].str.len(),
            "cut": table["finish"] == "length",
        }
    )


def length_bins(records: Iterable[Evaluation]) -> pd.DataFrame:
    """Mean answer length (``value``, ``low``, ``high``: 95 % of the mean, normal) for rows alike in gold length, an arm a group.

    Columns for ``core.figures.answers.length_calibration``.
    """
    lines = []
    for record in records:
        frame = lengths(record)
        if frame.empty:
            continue
        edges = np.unique(np.quantile(frame["gold"], np.linspace(0, 1, LENGTH_BINS + 1)).astype(int))
        for _, part in frame.groupby(np.searchsorted(edges[1:-1], frame["gold"], side="right")):
            answered = part["answer"].to_numpy(dtype=float)
            mean = float(answered.mean())
            error = float(answered.std(ddof=1)) / len(part) ** 0.5 if len(part) > 1 else 0.0
            lines.append(
                {
                    "arm": record.name or record.evaluation_id,
                    "kind": "tuned" if record.spec.arm.run else "base",
                    "gold": float(part["gold"].mean()),
                    "value": mean,
                    "low": max(0.0, mean - 1.96 * error),
                    "high": mean + 1.96 * error,
                    "rows": len(part),
                    "key": record.evaluation_id,
                    "first": int(part["gold"].min()),
                    "last": int(part["gold"].max()),
                }
            )
    return pd.DataFrame(lines, columns=["arm", "kind", "gold", "value", "low", "high", "rows", "key", "first", "last"])


def likelihoods(records: Iterable[Evaluation]) -> pd.DataFrame:
    """Perplexity of each row's gold answer given its prompt, where measured.

    Columns: ``arm``, ``kind``, ``key`` (of the evaluation), ``row_id``, ``perplexity``.
    """
    parts = []
    for record in records:
        table = read_predictions(record.evaluation_id, ("row_id", "nll", "nll_tokens")).to_pandas().dropna()
        table = table[table["nll_tokens"] > 0]
        parts.append(
            pd.DataFrame(
                {
                    "arm": record.name or record.evaluation_id,
                    "kind": "tuned" if record.spec.arm.run else "base",
                    "key": record.evaluation_id,
                    "row_id": table["row_id"],
                    "perplexity": np.exp(np.minimum(table["nll"] / table["nll_tokens"], 50.0)),
                }
            )
        )
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=["arm", "kind", "key", "row_id", "perplexity"])
