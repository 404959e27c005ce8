"""Gold answers that look wrong, for a person to accept, fix or skip.

Two signs: all arms give the same values for an element, these stand in the source, and gold says otherwise; and a gold
answer that the model finds far less likely than the others, and unlikely as such. Suggests, never changes: a fix is a step of
the data's recipe.
Only for extraction.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from core.data.answers import Answer, dump_answer, parse_answer
from core.errors import UserError
from core.evaluation import artefacts
from core.evaluation.metrics.error_kinds import grounded
from core.records import Evaluation
from core.store.runs import get_evaluation

SUSPECTS = pa.schema(
    [
        pa.field("row_id", pa.large_string()),
        pa.field("sign", pa.string()),  # agree_against_gold, unlikely_gold
        pa.field("element", pa.large_string()),  # "" for the whole answer
        pa.field("gold", pa.large_string()),  # JSON list of gold values of the element; the answer for unlikely_gold
        pa.field("said", pa.large_string()),  # JSON list of the values that all arms say; null for unlikely_gold
        pa.field("input", pa.large_string()),
        pa.field("output", pa.large_string()),  # the gold answer
        pa.field("suggested", pa.large_string()),  # the gold answer with the arms' values; null for unlikely_gold
        pa.field("nll_per_token", pa.float64()),
        pa.field("weight", pa.float64()),  # the order of the list
    ]
)
UNLIKELY_DEVIATIONS = 3.5
"""Robust z (median and median absolute deviation; Iglewicz & Hoaglin 1993) from which a gold answer counts as unlikely."""
LEAST_ROWS = 20
"""Rows from which likelihoods are held against each other. Of sets of normal values one in 20 has a value beyond the bound from
here on (simulated), as with any larger number; with 6 rows one in 12 has, since the deviation is then known too badly."""
LEAST_PERPLEXITY = 2.0
"""Below it no gold answer is unlikely: its tokens have more than half of the probability (their geometric mean), so that the
model would mostly write them itself, however much surer it is of the other rows."""


def suspects(evaluation_ids: Sequence[str]) -> pa.Table:
    """Suspicious gold answers (columns of ``SUSPECTS``), the most suspicious first.

    One evaluation gives only unlikely ones (of ``LEAST_ROWS`` rows or more, from ``LEAST_PERPLEXITY`` on); two or more must
    agree. UserError for other tasks or when no row is common.
    """
    evaluations = [get_evaluation(key) for key in evaluation_ids]
    if any(e.task != "extraction" for e in evaluations):
        raise UserError("Only extraction answers can be adjudicated", "Choose evaluations of an extraction dataset.")
    tables = [artefacts.read_predictions(e.evaluation_id) for e in evaluations]
    lines = _agreeing(evaluations, tables) if len(tables) > 1 else []
    lines += _unlikely(tables)
    lines.sort(key=lambda line: -float(str(line["weight"])))
    return pa.Table.from_pylist(lines, schema=SUSPECTS)


def _agreeing(evaluations: Sequence[Evaluation], tables: Sequence[pa.Table]) -> list[dict[str, object]]:
    """Elements for which all arms say the same grounded values and gold doesn't."""
    others = [dict(zip(t["row_id"].to_pylist(), t["prediction"].to_pylist(), strict=True)) for t in tables[1:]]
    schema = set(evaluations[0].elements)
    lines: list[dict[str, object]] = []
    for row in tables[0].to_pylist():
        texts = [row["prediction"], *(other.get(row["row_id"]) for other in others)]
        answers = [parse_answer(text) for text in texts if text is not None]
        gold = parse_answer(row["output"])
        if len(answers) < len(tables) or not gold.ok or not all(answer.ok for answer in answers):
            continue
        for element in dict.fromkeys(e for answer in (gold, *answers) for e in answer.elements):
            said = _agreed(answers, element)
            if said is None or Counter(said) == Counter(gold.elements.get(element, [])):
                continue
            if (schema and element not in schema) or not all(grounded(value, row["input"]) for value in said):
                continue
            lines.append(_line(row, gold, element, said))
    return lines


def _agreed(answers: Sequence[Answer], element: str) -> list[str] | None:
    """The values that all answers give for an element, none if they differ."""
    values = [answer.elements.get(element, []) for answer in answers]
    return values[0] if all(Counter(other) == Counter(values[0]) for other in values[1:]) else None


def _line(row: dict[str, object], gold: Answer, element: str, said: list[str]) -> dict[str, object]:
    items = {**gold.elements, element: said}
    suggested = dump_answer({name: values for name, values in items.items() if values}, str(row["output"]))
    here = gold.elements.get(element, [])
    surprise = _per_token(row)
    return {
        **{name: row[name] for name in ("row_id", "input", "output")},
        "sign": "agree_against_gold",
        "element": element,
        "gold": json.dumps(here, ensure_ascii=False),
        "said": json.dumps(said, ensure_ascii=False),
        "suggested": suggested,
        "nll_per_token": surprise,
        # something said where gold has nothing, or something else, weighs more than silence where gold has a value
        "weight": (2.0 if said else 1.0) + min(surprise or 0.0, 1.0),
    }


def _unlikely(tables: Sequence[pa.Table]) -> list[dict[str, object]]:
    """Gold answers whose likelihood stands out in the arm that finds gold answers likeliest on the whole."""
    measured = [t for t in tables if t["nll_tokens"].null_count < t.num_rows]
    if not measured:
        return []
    rows = min(measured, key=_mean_surprise).to_pylist()
    values = np.array([np.nan if (v := _per_token(row)) is None else v for row in rows])
    if np.isfinite(values).sum() < LEAST_ROWS:
        return []
    middle = np.nanmedian(values)
    spread = 1.4826 * np.nanmedian(np.abs(values - middle))
    if not spread > 0:
        return []
    deviations = (values - middle) / spread
    return [
        {
            **{name: row[name] for name in ("row_id", "input", "output")},
            "sign": "unlikely_gold",
            "element": "",
            "gold": row["output"],
            "said": None,
            "suggested": None,
            "nll_per_token": float(values[i]),
            "weight": float(min(deviations[i] / 10, 0.99)),
        }
        for i, row in enumerate(rows)
        if deviations[i] > UNLIKELY_DEVIATIONS and values[i] >= np.log(LEAST_PERPLEXITY)
    ]


def _per_token(row: dict[str, object]) -> float | None:
    nll, tokens = row.get("nll"), row.get("nll_tokens")
    return float(str(nll)) / int(str(tokens)) if nll is not None and tokens else None


def _mean_surprise(table: pa.Table) -> float:
    found = [value for row in table.select(["nll", "nll_tokens"]).to_pylist() if (value := _per_token(row)) is not None]
    return float(np.mean(found)) if found else float("inf")
