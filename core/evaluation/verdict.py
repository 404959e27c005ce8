"""A finding in words: which arm is better by how much, how sure that is, and what it costs.

Whole sentences, so that they can be translated. Knows nothing of how the numbers were found.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from core.evaluation.cost import ArmCost, cost_sentence
from core.evaluation.latency import Latency, latency_sentence
from core.evaluation.statistics import least_rows, rows_needed, wilson
from core.evaluation.words import gold_of, p_value
from core.records import Evaluation

NAMES = {"micro_f1": "micro-F1", "accuracy": "accuracy", "chrf": "chrF"}
CLEAR = 0.05
FEW = 20
"""Rows below which a standard error is itself off by a sixth or more, and rows needed that are told from it by a third."""
BOUND = "At most "
"""How the sentence begins that says how many rows can score otherwise."""


class Scores(Protocol):
    """What is needed of an arm."""

    @property
    def evaluation(self) -> Evaluation: ...

    @property
    def scores(self) -> dict[str, float]: ...

    @property
    def latency(self) -> Latency | None: ...


def sentence(
    first: Scores,
    other: Scores,
    difference: Mapping[str, Mapping[str, float]],
    primary: str,
    rows: int,
    costs: tuple[ArmCost, ArmCost] | None = None,
    alike: int = 0,
    groups: int = 0,
    looks: int = 1,
) -> str:
    """The verdict on ``other`` against ``first``: clear when the interval leaves out 0 and p (corrected) is under 0.05.

    ``alike``: where no row has another score, how many independent rows (or groups of rows) show that; else 0.
    ``groups``: of the rows, where whole ones were resampled; else 0. ``looks``: arms that are held against the first.
    Tokens, seconds and prices (``costs``: of both arms, a request and the training) stand beside the finding, which they
    don't change.
    """
    found = difference[primary]
    name = NAMES.get(primary, primary)
    p = found.get("p_holm", found["p"])
    them, us, gold = told_apart(first.evaluation, other.evaluation)
    cost = _cost(first.scores, other.scores, (them, us)) + latency_sentence(first.latency, other.latency, (them, us))
    cost += cost_sentence(*costs, (them, us)) if costs else ""
    if alike:
        what = "rows" if alike == rows else f"rows (of {alike:,} groups)"
        same = f"the same score with both on all {rows:,} {what}, {name} {other.scores[primary]:.3f}{gold}"
        bound = f"{wilson(0, alike).high:.0%} of such {'rows' if alike == rows else 'groups'}"
        return f"No row tells {us} from {them}: {same}. {BOUND}{bound} can score otherwise (95 %).{cost}"
    if p < CLEAR and found["low"] > 0:
        values = f"{name} {other.scores[primary]:.3f} against {first.scores[primary]:.3f} on {rows:,} rows{gold}"
        return f"{us} is better than {them}: {values}, {_change(found)}, {p_value(p)}.{cost}"
    if p < CLEAR and found["high"] < 0:
        values = f"{name} {first.scores[primary]:.3f} against {other.scores[primary]:.3f} on {rows:,} rows{gold}"
        turned = {"value": -found["value"], "low": -found["high"], "high": -found["low"]}
        return f"{them} is better than {us}: {values}, {_change(turned)}, {p_value(p)}.{cost}"
    values = f"{name} {other.scores[primary]:.3f} against {first.scores[primary]:.3f} on {rows:,} rows{gold}"
    more = _more(found, rows, groups, looks)
    return f"No clear difference between {us} and {them}: {values}, {_change(found)}, {p_value(p)}.{more}{cost}"


def _change(found: Mapping[str, float]) -> str:
    return f"{found['value']:+.3f} [{found['low']:+.3f}, {found['high']:+.3f}]"


def told_apart(first: Evaluation, other: Evaluation) -> tuple[str, str, str]:
    """Short names of both, and ``", by the gold of v6"`` where that can be said once instead of at the end of each."""
    names = first.short_name, other.short_name
    ends = gold_of(first.version)
    bare = names[0].removesuffix(ends), names[1].removesuffix(ends)
    if bare == names or first.version != other.version or bare[0] == bare[1]:
        return *names, ""
    return bare[0], bare[1], f", by the{ends[1:]}"


def _more(found: Mapping[str, float], rows: int, groups: int, looks: int) -> str:
    """How many rows it would take; in words where they are too few to tell that."""
    units, what = (groups, "groups of rows") if groups else (rows, "rows")
    least = least_rows(looks)
    if units < least:
        return f" So few {what} can't tell: with fewer than {least} no difference is clear, whatever its size."
    standard_error = (found["high"] - found["low"]) / (2 * 1.96)
    needed = rows_needed(found["value"], standard_error, rows) if standard_error > 0 else None
    if needed is None or needed <= rows:
        return ""
    if units < FEW:
        return f" So few {what} can't tell how many it would take to see a difference of this size; more than these."
    return f" About {needed:,} rows would be needed to see a difference of this size."


def _cost(first: Mapping[str, float], other: Mapping[str, float], names: tuple[str, str]) -> str:
    """What a request costs in tokens, where both are known and differ."""
    if "tokens_per_request" not in first or "tokens_per_request" not in other:
        return ""
    if round(first["tokens_per_request"]) == round(other["tokens_per_request"]):
        return ""
    ours, theirs = (f"{scores['tokens_per_request']:,.0f}" for scores in (other, first))
    return f" A request takes {ours} tokens with {names[1]} and {theirs} with {names[0]}."
