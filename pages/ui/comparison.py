"""The pieces of the Compare page: which arms, the finding, the differences and the matrix of errors, all scores.

Reads a ``Comparison``; computes nothing but what is shown of it.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import pandas as pd
import streamlit as st

from core.evaluation.compare import compare
from core.evaluation.comparison import Comparison, Versus
from core.evaluation.verdict import BOUND, told_apart
from core.figures import evaluation as figures
from core.figures import matrices, tidy
from core.records import Evaluation, Run
from core.store.runs import list_evaluations
from pages.ui import charts, formats, states, tables

KINDS = {
    "correct": "correct",
    "missed": "missed",
    "spurious": "spurious",
    "boundary": "boundary",
    "wrong_element": "wrong element",
    "hallucinated": "not in the source",
    "duplicate": "duplicate",
    "format": "format",
    "absent": "not said",
}
OVERALL = {
    "micro_f1": "all elements (micro-F1)",
    "macro_f1": "macro-F1",
    "accuracy": "accuracy",
    "exact_match": "row exactly right",
    "json_valid": "valid JSON",
}
COSTS = {
    "tokens_in_per_request": ("Tokens of a prompt", False),
    "tokens_out_per_request": ("Tokens of an answer", False),
    "seconds_per_request": ("Seconds a request", False),
    "tokens_per_second": ("Tokens a second, of a row", True),
}
PLAIN = ("tokens_in_per_request", "tokens_out_per_request", "tokens_per_second", "bleu", "chrf")
"""Scores that are written as plain numbers."""
PREFERRED = "compare_run"
"""Where the session keeps the fine-tune that another page asked to be compared."""
BEFORE, AFTER, ELEMENT = "before", "after", "element"
"""Keys of what the rows are filtered by; a click on the figures sets them, and they stand in the address."""


@st.cache_data(show_spinner="Comparing row by row", max_entries=16)
def load(ids: tuple[str, ...]) -> Comparison:
    """The comparison of finished evaluations, which never change."""
    return compare(ids)


def label(evaluation: Evaluation) -> str:
    """A short name of an arm."""
    return evaluation.short_name


def options(evaluations: list[Evaluation]) -> dict[str, str]:
    """What to call each evaluation in the list to choose from, by its identifier; equal names are told apart."""
    names = {e.evaluation_id: f"{label(e)} · {e.spec.split}, {formats.plural(e.rows, 'row')}" for e in evaluations}
    again = Counter(names.values())
    return {key: name if again[name] == 1 else f"{name} · {key[-6:]}" for key, name in names.items()}


def arm_names(found: Comparison) -> list[str]:
    """A short name of each arm, equal ones told apart by their letter."""
    names = [label(arm.evaluation) for arm in found.arms]
    return [name if names.count(name) == 1 else f"{name} ({'ABCDEF'[place]})" for place, name in enumerate(names)]


def all_arms(found: Comparison) -> None:
    """Every arm by the first metric with its interval; a click holds it against the first."""
    frame = pd.DataFrame(
        [
            {
                "name": name,
                "value": arm.scores[found.primary],
                "kind": "tuned" if arm.evaluation.spec.arm.run else "base",
                "key": place,
            }
            | dict(zip(("low", "high"), arm.intervals.get(found.primary, (None, None)), strict=True))
            for place, (name, arm) in enumerate(zip(arm_names(found), found.arms, strict=True))
        ]
    )
    name, higher = tidy.METRICS.get(found.primary, (found.primary, True))
    charts.show(
        figures.leaderboard(frame, metric=tidy.axis(found.primary), higher_is_better=higher),
        key="all_arms",
        alt=f"All arms by {name} on the same rows, with 95 % intervals",
        table=frame[["name", "kind", "value", "low", "high"]],
        columns={
            "name": tables.text("Arm"), "value": tables.decimal(name),
            "low": tables.decimal("95 % from"), "high": tables.decimal("to"),
        },
        select=_hold_against,
    )  # fmt: skip


def _hold_against(points: list[dict[str, Any]]) -> None:
    if points and (place := int(points[0]["customdata"][0])):
        st.session_state["compare_arm"] = place


def default_arms(evaluations: list[Evaluation]) -> list[str]:
    """The newest fine-tune against the newest base prompt on the same rows; else the two newest that share rows."""
    for tuned in (e for e in evaluations if e.spec.arm.run):
        for base in (e for e in evaluations if not e.spec.arm.run):
            if _place(tuned) == _place(base):
                return [base.evaluation_id, tuned.evaluation_id]
    for one in evaluations:
        for other in evaluations:
            if one is not other and _place(one) == _place(other):
                return [other.evaluation_id, one.evaluation_id]
    return []


def choose(run: Run) -> None:
    """Have Compare look at a fine-tune: against the prompt on the same rows if both have answered, else as the next arm."""
    done = [e for e in list_evaluations(run.spec.data[0].dataset) if e.complete]
    mine = [e for e in done if e.spec.arm.run in (None, run.run_id)]
    pair = default_arms(mine) if any(e.spec.arm.run for e in mine) else []
    st.session_state[PREFERRED] = run.run_id
    if len(pair) == 2:
        st.session_state["arms"] = pair
    elif len(done) >= 2:
        st.session_state["compare_view"] = "Another arm"


def _place(evaluation: Evaluation) -> tuple[object, ...]:
    return evaluation.spec.dataset, evaluation.version, evaluation.spec.split, evaluation.task


def missing(evaluations: list[Evaluation], dataset: str) -> str:
    """What a comparison of a dataset still needs, where fewer than two evaluations are chosen."""
    if not evaluations:
        return f"Nothing has answered rows of {dataset} yet: to compare, two must answer the same ones"
    if len(evaluations) == 1:
        return f"Only {label(evaluations[0])} has answered rows of {dataset} yet: what it is compared with is still needed"
    return "Choose two that answered the same rows, to compare them"


def headline(found: Comparison, versus: Versus) -> str:
    """``LoRA answers 41 of 60 rows exactly against 3 by base prompt: +38 [+30, +45]``; in words where no row differs."""
    base = found.arms[0]
    arm = next(a for a in found.arms if a.evaluation.evaluation_id == versus.evaluation_id)
    theirs, ours, gold = told_apart(base.evaluation, arm.evaluation)
    rows = formats.count(found.rows)
    exact = [a.scores.get("exact_match", 0.0) for a in (arm, base)]  # of no use where neither has a row exactly right
    metric = "exact_match" if "exact_match" in versus.difference and any(exact) else found.primary
    change = versus.difference[metric]
    name = tidy.METRICS.get(metric, (metric, True))[0]
    if versus.alike:
        same = (
            f"{formats.count(exact[0] * found.rows)} exactly right"
            if any(exact)
            else f"{name} {formats.score(arm.scores[metric])}"
        )
        return f"{ours} and {theirs} score the same on each of {rows} rows{gold}: {same}"
    if metric != "exact_match":
        by = formats.unbroken(formats.interval(change["value"], change["low"], change["high"], signed=True))
        before = f"{formats.score(base.scores[metric])} by {theirs}{gold}"
        return f"{ours} reaches {name} {formats.score(arm.scores[metric])} against {before}: {by}"
    right, before = (formats.count(a.scores[metric] * found.rows) for a in (arm, base))
    value, low, high = (formats.difference(change[key] * found.rows, 0) for key in ("value", "low", "high"))
    change_of = formats.unbroken(f"{value} [{low}, {high}]")
    return f"{ours} answers {right} of {rows} rows exactly against {before} by {theirs}{gold}: {change_of}"


def detail(versus: Versus) -> str:
    """The verdict, without its first sentence where the headline says the same."""
    _, bound, rest = versus.verdict.partition(BOUND)
    return bound + rest if versus.alike and bound else versus.verdict


def differences(found: Comparison, versus: Versus) -> pd.DataFrame:
    """Differences worth a line in the forest plot: overall scores first, then each element, the largest change first."""
    lines = [(OVERALL[m], d) for m in OVERALL if (d := versus.difference.get(m))]
    each = [(m.removeprefix("f1:"), d) for m, d in versus.difference.items() if m.removeprefix("f1:") in found.named]
    lines += sorted(each, key=lambda line: -abs(line[1]["value"]))[:20]
    return pd.DataFrame([{"label": name, **{k: d[k] for k in ("value", "low", "high", "p")}} for name, d in lines])


def forest(found: Comparison, versus: Versus) -> None:
    """Differences with their intervals; a click on an element shows the rows in which its values fared otherwise."""
    frame = differences(found, versus)
    name = name_of(found, versus)
    charts.show(
        figures.forest(frame, x=f"Difference (right of the line: {name} is better)"),
        key="forest",
        alt="Differences of the two arms, overall and for each element, with 95 % intervals",
        table=frame,
        columns={
            "label": tables.text("Score"),
            "value": tables.decimal("Difference"),
            "low": tables.decimal("95 % from"),
            "high": tables.decimal("to"),
            "p": tables.probability("p", "Paired, two-sided; not corrected for many looks"),
        },
        select=lambda points: _filter_by(points, versus),
    )


def _filter_by(points: list[dict[str, Any]], versus: Versus) -> None:
    """After a click on the forest: the rows of that element."""
    named = str(points[0]["customdata"][0]) if points else ""
    st.session_state[ELEMENT] = named if f"f1:{named}" in versus.difference else None


def name_of(found: Comparison, versus: Versus) -> str:
    """The name of an arm that is held against the first."""
    place = next(n for n, arm in enumerate(found.arms) if arm.evaluation.evaluation_id == versus.evaluation_id)
    return arm_names(found)[place]


def matrix(found: Comparison, versus: Versus) -> None:
    """The error-transition matrix of a task with elements; a click on a cell shows its rows."""
    frame = pd.DataFrame(
        [
            {"before": KINDS[before], "after": KINDS[after], "rows": count}
            for before, line in versus.matrix.items()
            for after, count in line.items()
        ]
    )
    charts.show(
        matrices.transitions(frame, left=arm_names(found)[0], right=name_of(found, versus), order=kinds(versus)),
        key="matrix",
        alt="How each pair of element and value fared with one arm and with the other: counts by kind",
        table=frame[frame["rows"] > 0],
        columns={"before": tables.text("Before"), "after": tables.text("After"), "rows": tables.whole("Values")},
        select=_filter_cell,
    )
    st.caption("Green: better with the second; red: worse. Click a cell for its rows.")


def _filter_cell(points: list[dict[str, Any]]) -> None:
    """After a click on the matrix: the rows of that cell, of any element."""
    before, after = points[0]["customdata"][:2] if points else (None, None)
    st.session_state[BEFORE], st.session_state[AFTER], st.session_state[ELEMENT] = before, after, None


def kinds(versus: Versus) -> list[str]:
    """The kinds that occur, the best first."""
    there = set(versus.matrix)
    return [KINDS[kind] for kind in ("correct", "absent", *(k for k in KINDS if k not in ("correct", "absent"))) if kind in there]


def scores(found: Comparison) -> None:
    """All scores of all arms with their intervals, and what they cost."""
    names = arm_names(found)
    lines: list[dict[str, str]] = []
    for metric, (name, higher) in (tidy.METRICS | COSTS).items():
        if metric == "seconds_per_request" and all(arm.latency for arm in found.arms):
            continue  # median and 95th percentile say more than a mean
        if any(metric in arm.scores for arm in found.arms):
            lines.append({"score": f"{name} {'↑' if higher else '↓'}"} | {
                label: formats.interval(arm.scores.get(metric), *arm.intervals.get(metric, (None, None)))
                if metric not in PLAIN else formats.number(arm.scores.get(metric))
                for label, arm in zip(names, found.arms, strict=True)
            })  # fmt: skip
    timed = [arm.latency for arm in found.arms]
    for words, at, ends in (("Seconds a row, median", 0, 1), ("Seconds a row, 95 % of rows within", 2, 3)):
        if any(timed):
            lines.append({"score": f"{words} ↓"} | {
                label: formats.interval(one[at], *one[ends]) if one else formats.DASH
                for label, one in zip(names, timed, strict=True)
            })  # fmt: skip
    costs = [
        found.versus[0].costs[0] if found.versus[0].costs else None,
        *(v.costs[1] if v.costs else None for v in found.versus),
    ]
    if any(cost and cost.training_seconds for cost in costs):
        lines.append({"score": "Training ↓"} | {
            label: formats.duration(cost.training_seconds) if cost and cost.training_seconds else formats.DASH
            for label, cost in zip(names, costs, strict=True)
        })  # fmt: skip
    if any(cost and cost.request is not None for cost in costs):
        lines.append({"score": "1,000 requests cost ↓"} | {
            label: formats.number(1000 * cost.request) if cost and cost.request is not None else formats.DASH
            for label, cost in zip(names, costs, strict=True)
        })  # fmt: skip
    frame = pd.DataFrame(lines)
    columns = {"score": tables.text("Score", "↑ higher is better, ↓ lower is better; brackets are 95 % intervals")}
    columns |= {label: tables.text(label) for label in names}
    tables.show(frame, columns, alt="Scores of all arms", key="scores_table", height=560)
    for note in found.notes:
        st.caption(note)
    places = {one.machine: one.how for one in timed if one}
    for machine, how in places.items():
        st.caption(f"Seconds are {how}, timed on {states.plain(machine)}.")
    with st.container(horizontal=True):
        charts.take(frame, "scores", key="scores_take")
