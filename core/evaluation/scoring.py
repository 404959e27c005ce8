"""Scores of a table of answers, for each task: the one way from texts to numbers, for ``score``, evaluations and comparisons.

Works on columns ``input``, ``output`` (gold) and ``prediction``; knows nothing of models, files or the store.
``<think>…</think>`` before an answer is no part of it.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

import pyarrow as pa

from core.data.answers import parse_answer, storable
from core.evaluation import statistics as inference
from core.evaluation.metrics import classification, extraction, generation, modes, perplexity, rouge
from core.evaluation.metrics.error_kinds import Matched, match_row
from core.evaluation.metrics.rows import Metric, Statistics, Sums
from core.evaluation.resampling import RESAMPLES, SEED
from core.evaluation.unvaried import widened
from core.records import Task

RATES = (
    "exact_match",
    "json_valid",
    "accuracy",
    "normalised_exact_match",
    "repaired_exact_match",
    "repaired_json_valid",
)
"""Metrics that are shares of rows: their intervals are Wilson's, of differences Tango's, sound near 0 and 1."""
LOWER_IS_BETTER = frozenset(
    {"perplexity", "tokens_per_request", "tokens_in_per_request", "tokens_out_per_request", "seconds_per_request"}
)
_THINK = re.compile(r"^\s*(?:<think>)?.*?</think>\s*", re.DOTALL)
_NORMALISER = modes.Normaliser()
_OPEN_THINK = re.compile(r"^\s*<think>")

PAIRS = pa.schema(
    [
        pa.field("row", pa.int64(), nullable=False),  # place of the row in the table that was scored
        pa.field("kind", pa.string(), nullable=False),
        pa.field("element", pa.large_string(), nullable=False),
        pa.field("gold", pa.large_string()),
        pa.field("predicted", pa.large_string()),
        pa.field("predicted_element", pa.large_string(), nullable=False),
        pa.field("detail", pa.string(), nullable=False),
    ]
)


@dataclass(frozen=True)
class Scored:
    """What became of a table: ``scores`` (JSON-ready, fixed keys of ``score``), statistics of each row, and for
    extraction the fate of each pair (columns of ``PAIRS``). For classification ``labels`` is the label read from each row;
    for extraction ``repairs`` is what an unreadable answer was read as for the repaired score, none where it wasn't."""

    scores: dict[str, Any]
    statistics: Statistics
    signature: dict[str, str]
    pairs: pa.Table
    labels: tuple[str, ...] = ()
    repairs: tuple[str | None, ...] = ()


def strip_thinking(text: str) -> str:
    """An answer without the thinking before it; nothing when the thinking never ended."""
    if "</think>" in text:
        return _THINK.sub("", text, count=1)
    return "" if _OPEN_THINK.match(text) else text


def score_frame(
    frame: Any,
    task: Task = "extraction",
    elements: Sequence[str] | None = None,
    *,
    with_intervals: bool = True,
    normalise: modes.Normaliser = _NORMALISER,
) -> Scored:
    """Score a table with columns ``input``, ``output`` and ``prediction`` (a pyarrow table, pandas frame or mapping of lists).

    ``elements``: the schema of an extraction task or the classes of a classification; none: those of the gold answers
    (and then no element counts as unknown). Optional columns ``nll`` and ``nll_tokens`` (gold answer given the prompt),
    ``tokens_in``, ``tokens_out`` and ``seconds`` give perplexity and cost. ``scores["intervals"]`` holds a 95 %
    interval for each metric by name. ``normalise``: what the normalised score of an extraction overlooks. KeyError if a
    needed column is missing.
    """
    columns = _columns(frame)
    predictions = [strip_thinking(text) for text in columns["prediction"]]
    gold = columns["output"]
    pairs = PAIRS.empty_table()
    labels: tuple[str, ...] = ()
    repairs: tuple[str | None, ...] = ()
    if task == "extraction":
        schema = tuple(elements) if elements else None
        matched = [
            match_row(parse_answer(g), p, s, schema=schema) for g, p, s in zip(gold, predictions, columns["input"], strict=True)
        ]
        repairs = tuple(modes.repair(p, row.predicted) for p, row in zip(predictions, matched, strict=True))
        strict = extraction.row_statistics(matched, schema)
        base = strict.beside(modes.row_statistics(matched, repairs, strict, normalise))
        scores = extraction.scores(base) | modes.scores(base)
        pairs = pairs_table(matched)
    elif task == "classification":
        base, scores, labels = _classify(gold, predictions, elements)
    else:
        base = _exact(gold, predictions).beside(rouge.row_statistics(predictions, gold))
        scores = {"rows": base.rows, "exact_match": float(extraction.share("exact_match")(base.sums())) if base.rows else 0.0}
    tokeniser = generation.bleu_tokeniser(gold)
    parts = [base, generation.bleu_statistics(predictions, gold, tokeniser), generation.chrf_statistics(predictions, gold)]
    parts.append(perplexity.row_statistics(columns)) if any(name in columns for name in perplexity.COLUMNS) else None
    statistics = parts[0]
    for part in parts[1:]:
        statistics = statistics.beside(part)
    scores |= plain_scores(statistics)
    if with_intervals:
        scores["intervals"] = {name: list(interval) for name, interval in score_intervals(statistics).items()}
    signature = signature_of(task, tokeniser, elements, statistics.names)
    if task == "extraction":
        signature |= {
            "normalised": f"{normalise.signature}{normalise.folded}|version:3",
            "partial": "longest common run/longer text|optimal|version:1",
        }
        signature |= {"repaired": "code fence off, else json-repair|version:1"}
    return Scored({**scores, "signature": signature}, statistics, signature, pairs, labels, repairs)


def metrics_of(names: Collection[str]) -> dict[str, Metric]:
    """Every metric that statistics with these columns allow, by its flat name (``micro_f1``, ``f1:ELEMENT``, ``bleu``, …)."""
    found = (extraction.metrics(names) | modes.metrics(names)) or classification.metrics(names)
    if not found and "exact_match" in names:
        found = {"exact_match": extraction.share("exact_match")}
    if "rouge_l" in names:
        found["rouge_l"] = rouge.rouge_l
    return found | generation.metrics(names) | perplexity.metrics(names)


def flat_scores(statistics: Statistics) -> dict[str, float]:
    """Every metric of these rows by its flat name; those without a value are left out."""
    sums = statistics.sums()
    values = {name: float(metric(sums)) for name, metric in metrics_of(statistics.names).items()}
    return {name: value for name, value in values.items() if not math.isnan(value)}


def plain_scores(statistics: Statistics) -> dict[str, float]:
    """The scores that every task shares: BLEU, chrF, perplexity, cost."""
    sums = statistics.sums()
    shared = generation.metrics(statistics.names) | perplexity.metrics(statistics.names)
    shared |= {"rouge_l": rouge.rouge_l} if "rouge_l" in statistics.names else {}
    values = {name: float(metric(sums)) for name, metric in shared.items()}
    return {name: value for name, value in values.items() if not math.isnan(value)}


def score_intervals(statistics: Statistics, metrics: Mapping[str, Metric] | None = None) -> dict[str, inference.Interval]:
    """A 95 % interval of each metric: bootstrap over rows; Wilson's for shares of rows, and where no resample differs."""
    wanted = dict(metrics_of(statistics.names) if metrics is None else metrics)
    found = inference.intervals(statistics, {name: metric for name, metric in wanted.items() if name not in RATES})
    if statistics.rows:
        sums = statistics.sums()
        for name in RATES:
            if name in wanted:
                found[name] = inference.wilson(float(wanted[name](sums)) * statistics.rows, statistics.rows)
        found = widened(found, {name: float(wanted[name](sums)) for name in found}, statistics)
    return found


def rate_differences(
    left: Statistics, right: Statistics, metrics: Mapping[str, Metric], units: int | None = None
) -> dict[str, inference.Interval]:
    """A 95 % interval of right minus left for each metric that is a share of rows: Tango's, of the rows that one side has right.

    ``left`` and ``right``: the same rows. ``units``: how many independent pieces of evidence the rows are, if not as many.
    """
    found = {}
    for name in RATES:
        if name in metrics and left.rows:
            before, after = (metrics[name](Sums(side.names, side.values)) > 0.5 for side in (left, right))
            weight = 1.0 if units is None else units / left.rows
            lost, gained = (weight * float(rows.sum()) for rows in (before & ~after, after & ~before))
            found[name] = inference.rate_difference(lost, gained, weight * left.rows)
    return found


def signature_of(task: str, tokeniser: str, elements: Sequence[str] | None, names: Collection[str]) -> dict[str, str]:
    """How each score was computed, so that two scores can be told to be comparable."""
    found = {"task": task, "thinking": "stripped", **generation.signature(tokeniser)}
    if task == "extraction":
        schema = f"given:{_fingerprint(elements)}" if elements else "from gold"
        found["f1"] = f"pairs:strict|lists:multiset|macro:elements of gold|schema:{schema}|version:2"
        found["errors"] = "missed+spurious+boundary+wrong_element+hallucinated+duplicate+format|version:2"
    if task == "classification":
        classes = f"given:{_fingerprint(elements)}+gold" if elements else "gold"
        found["label"] = f"whole>json>first line>only one inside|fold:NFKC,case,space,outer marks|classes:{classes}|version:1"
    if "rouge_l" in names:
        found["rouge_l"] = rouge.SIGNATURE
    if "nll" in names:
        found["perplexity"] = "gold answer given prompt|token-weighted|version:1"
    found["intervals"] = f"95%|bootstrap:percentile,{RESAMPLES} resamples of rows,seed {SEED}|rates and unvaried:Wilson"
    return found


def _fingerprint(names: Sequence[str]) -> str:
    """How many names, and a short hash of them."""
    return f"{len(names)}:{sha256(json.dumps(sorted(names)).encode()).hexdigest()[:6]}"


def pairs_table(matched: Sequence[Matched]) -> pa.Table:
    """The fate of every pair of every row, in the rows' order."""
    lines = [(i, *outcome) for i, row in enumerate(matched) for outcome in row.outcomes]
    row, kind, element, gold, predicted, other, detail = zip(*lines, strict=True) if lines else ((),) * 7
    return pa.table([row, kind, element, gold, predicted, other, detail], schema=PAIRS)


def _columns(frame: Any) -> dict[str, list[Any]]:
    """The columns that scoring uses, as lists; a missing text is empty."""
    wanted = ("input", "output", "prediction", *perplexity.COLUMNS)
    there = frame.column_names if isinstance(frame, pa.Table) else list(frame.keys())
    found = {}
    for name in wanted:
        if name in there:
            column = frame[name]
            values = column.to_pylist() if isinstance(frame, pa.Table) else list(column)
            missing = [value is None or value != value for value in values] if name in perplexity.COLUMNS else []
            if missing and (all(missing) if name in perplexity.MEASURED else any(missing)):
                continue  # counts and times of some rows would be a mean over others than it says
            found[name] = values if name in perplexity.COLUMNS else [storable(v) if isinstance(v, str) else "" for v in values]
    if "output" not in found or "prediction" not in found:
        raise KeyError("output and prediction are needed")
    found.setdefault("input", [""] * len(found["output"]))
    return found


def _exact(gold: Sequence[str], predictions: Sequence[str]) -> Statistics:
    """``rows`` and ``exact_match`` of free text: equal but for outer white space."""
    return Statistics.from_rows(
        [{"rows": 1.0, "exact_match": float(g.strip() == p.strip())} for g, p in zip(gold, predictions, strict=True)],
        ("rows", "exact_match"),
    )


def _classify(
    gold: Sequence[str], predictions: Sequence[str], classes: Sequence[str] | None
) -> tuple[Statistics, dict[str, Any], tuple[str, ...]]:
    """Statistics, scores and the label read from each prediction."""
    truth = [classification.gold_label(text) for text in gold]
    labels = sorted({*(classes or ()), *truth} - {classification.NO_LABEL})
    reader = classification.LabelReader(labels)
    said = [reader.read(text) for text in predictions]
    base = classification.row_statistics(truth, said, labels)
    return base, classification.scores(base, truth, said), tuple(said)
