"""Scores and comparisons as lines for a person. Knows nothing of how they were computed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from core.cli.common import table
from core.evaluation.metrics.names import SHOWN
from core.evaluation.words import number

MADE_UP = 10
"""How many elements that only answers have are named, the most frequent."""
REASONS = 3
"""How many reasons for rows without a score are named."""


def between(ends: Any) -> str:
    """``[low, high]``, or nothing."""
    return f"[{number(ends[0])}, {number(ends[1])}]" if ends else ""


def flat(scores: Mapping[str, Any]) -> dict[str, float]:
    """Scores by their flat names, those of ``SHOWN`` that are there."""
    micro = {f"micro_{part}": value for part, value in scores.get("micro", {}).items()}
    return {name: value for name in SHOWN if (value := micro.get(name, scores.get(name))) is not None}


def headline(scores: Mapping[str, Any]) -> str:
    """The metric that a task is judged by first, with its interval."""
    values = flat(scores)
    name = next((n for n in ("micro_f1", "accuracy", "chrf") if n in values), None)
    return f"{name} {number(values[name])} {between(scores.get('intervals', {}).get(name))}".rstrip() if name else ""


def score_lines(scores: Mapping[str, Any]) -> list[str]:
    """Scores as plain tables, with what is behind them."""
    ends = scores.get("intervals", {})
    rows: list[tuple[Any, ...]] = [(name, number(value), between(ends.get(name))) for name, value in flat(scores).items()]
    lines = [f"{scores['rows']:,} rows", *_left_out(scores.get("left_out", {})), "", *table(("metric", "value", "95 %"), rows)]
    if "per_element" in scores:
        rows = [
            (name, *(number(part[key]) for key in ("precision", "recall", "f1")), part["gold"], part["predicted"])
            for name, part in scores["per_element"].items()
            if name not in scores.get("without_gold", {})
        ]
        lines += ["", *table(("element", "precision", "recall", "F1", "gold", "predicted"), rows)]
        if scores.get("without_gold", {}):
            rows = list(scores.get("without_gold", {}).items())
            lines += ["", *table(("element that only answers have", "pairs"), rows[:MADE_UP])]
            lines += [f"and {len(rows) - MADE_UP:,} more"] if len(rows) > MADE_UP else []
        lines += ["", *table(("error", "pairs"), list(scores["errors"].items()))]
    if "per_label" in scores:
        rows = [(name, *(number(value) for value in part.values())) for name, part in scores["per_label"].items()]
        lines += ["", *table(("label", "precision", "recall", "F1", "gold"), rows)]
    if "passages" in scores:
        from core.evaluation.passages import told_sentence

        lines += ["", told_sentence(scores["passages"])]
    return [*lines, "", *(f"{name}: {how}" for name, how in scores["signature"].items())]


def _left_out(reasons: Mapping[str, str]) -> list[str]:
    """How many rows have no answer and so no score, and why, the commonest reasons first."""
    if not reasons:
        return []
    counted = Counter(reasons.values()).most_common()
    told = "; ".join(f"{reason} ({n:,})" for reason, n in counted[:REASONS])
    return [f"{len(reasons):,} more have no score: {told}{'; …' if len(counted) > REASONS else ''}"]


def comparison_lines(found: Mapping[str, Any]) -> list[str]:
    """A comparison (``Comparison.to_json()``) as plain tables: verdict, arms, differences, rows won and lost, transitions."""
    arms, lines = found["arms"], [v["verdict"] for v in found["versus"]]
    rows: list[tuple[Any, ...]] = []
    for name in (n for n in SHOWN if any(n in a["scores"] for a in arms)):
        cells = [f"{number(a['scores'][name])} {between(a['intervals'].get(name))}" if name in a["scores"] else "" for a in arms]
        rows.append((name, *cells, *(_change(v["difference"].get(name)) for v in found["versus"])))
    heads = ["metric", *(f"{chr(65 + i)}" for i in range(len(arms))), *(f"{chr(66 + i)} − A" for i in range(len(arms) - 1))]
    lines += ["", *(f"{chr(65 + i)}  {a['evaluation']}  {a['name']}" for i, a in enumerate(arms)), "", *table(heads, rows)]
    elements = [f"f1:{n}" for n in found["named"]]
    if elements:
        rows = [
            (
                n.removeprefix("f1:"),
                *(number(a["scores"].get(n, 0.0)) for a in arms),
                *(_change(v["difference"].get(n)) for v in found["versus"]),
            )
            for n in elements
        ]
        lines += ["", *table(["F1 of", *heads[1:]], rows)]
    for i, versus in enumerate(found["versus"]):
        arm = chr(66 + i)
        lines += ["", f"{arm} against A, rows: {versus['won']:,} won, {versus['lost']:,} lost, {versus['tied']:,} tied"]
        if versus["mcnemar"] is not None:
            lines[-1] += f"; McNemar on rows wholly right: p {versus['mcnemar']:.2g}"
            lines[-1] += f", {versus['mcnemar_holm']:.2g} corrected" if versus.get("mcnemar_holm") is not None else ""
        if versus["transitions"]:
            moved = versus["transitions"]
            ends = [kind for kind in moved if any(line[kind] for line in moved.values())]
            body = [(kind, *(line[end] or "" for end in ends)) for kind, line in moved.items() if any(line.values())]
            lines += table([f"pairs: A ↓, {arm} →", *ends], body)
    timed = [(chr(65 + i), a["latency"]) for i, a in enumerate(arms) if a["latency"]]
    if timed:
        body = [
            (letter, *(f"{t[q]:.3g} {between(t[f'{q}_interval'])}" for q in ("p50", "p95")), t["machine"]) for letter, t in timed
        ]
        lines += ["", *table(["seconds a row", "median", "95 % of rows within", "timed on"], body)]
    lines += found["notes"]
    left_out = {key: n for key, n in found["left_out"].items() if n}
    return lines + [f"{key}: {n:,} rows are not in the other arms and were left out" for key, n in left_out.items()]


def _change(found: Mapping[str, float] | None) -> str:
    if not found:
        return ""
    p = found.get("p_holm", found["p"])
    return f"{found['value']:+.3f} [{found['low']:+.3f}, {found['high']:+.3f}] p {p:.2g}"
