"""The pieces of the Compare page: which arms, the finding, the matrix of errors, and the rows behind them.

Reads a ``Comparison``; computes nothing but what is shown of it.
"""

from __future__ import annotations

import pandas as pd
import streamlit as st

from core.evaluation.compare import Comparison, Versus, compare
from core.evaluation.transitions import rows_behind
from core.figures import evaluation as figures
from core.records import Evaluation
from pages.ui import charts, formats, rowview, tables

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
RESULTS = {"won": "Gained", "lost": "Lost", "tied": "Unchanged", "all": "All"}


@st.cache_data(show_spinner="Comparing row by row", max_entries=16)
def load(ids: tuple[str, ...]) -> Comparison:
    """The comparison of finished evaluations, which never change."""
    return compare(ids)


def label(evaluation: Evaluation) -> str:
    """A short name of an arm."""
    return evaluation.spec.arm.name or evaluation.name


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


def _place(evaluation: Evaluation) -> tuple[object, ...]:
    return evaluation.spec.dataset, evaluation.version, evaluation.spec.split, evaluation.task


def headline(found: Comparison, versus: Versus) -> str:
    """``LoRA answers 41 of 60 rows exactly, base prompt 3: +38 [+30, +45]``."""
    base = found.arms[0]
    arm = next(a for a in found.arms if a.evaluation.evaluation_id == versus.evaluation_id)
    metric = "exact_match" if "exact_match" in versus.difference else found.primary
    change = versus.difference[metric]
    ours, theirs = label(arm.evaluation), label(base.evaluation)
    if metric != "exact_match":
        by = formats.interval(change["value"], change["low"], change["high"], signed=True)
        return f"{ours} reaches {formats.score(arm.scores[metric])}, {theirs} {formats.score(base.scores[metric])}: {by}"
    right, before = (formats.count(a.scores[metric] * found.rows) for a in (arm, base))
    value, low, high = (formats.difference(change[key] * found.rows, 0) for key in ("value", "low", "high"))
    return f"{ours} answers {right} of {formats.count(found.rows)} rows exactly, {theirs} {before}: {value} [{low}, {high}]"


def differences(versus: Versus) -> pd.DataFrame:
    """Differences worth a line in the forest plot: overall scores first, then each element, the largest change first."""
    lines = [(OVERALL[m], d) for m in OVERALL if (d := versus.difference.get(m))]
    each = [(m.removeprefix("f1:"), d) for m, d in versus.difference.items() if m.startswith("f1:")]
    lines += sorted(each, key=lambda line: -abs(line[1]["value"]))[:20]
    return pd.DataFrame([{"label": name, **{k: d[k] for k in ("value", "low", "high", "p")}} for name, d in lines])


def forest(found: Comparison, versus: Versus) -> None:
    """Differences with their intervals."""
    frame = differences(versus)
    arm = next(a for a in found.arms if a.evaluation.evaluation_id == versus.evaluation_id)
    charts.show(
        figures.forest(frame, x=f"Difference (right of the line: {label(arm.evaluation)} is better)"),
        key="forest",
        alt="Differences of the two arms, overall and for each element, with 95 % intervals",
        table=frame,
        columns={
            "label": tables.text("Score"),
            "value": tables.decimal("Difference"),
            "low": tables.decimal("95 % from"),
            "high": tables.decimal("to"),
            "p": tables.decimal("p", "Paired, two-sided; not corrected for many looks"),
        },
    )


def matrix(found: Comparison, versus: Versus) -> list[str] | None:
    """The error-transition matrix; returns the rows of the cell that was clicked."""
    frame = pd.DataFrame(
        [
            {"before": KINDS[before], "after": KINDS[after], "rows": count}
            for before, line in versus.matrix.items()
            for after, count in line.items()
        ]
    )
    if frame.empty:
        st.caption("No pairs to follow: this task has no elements.")
        return None
    there = set(versus.matrix)
    order = [
        KINDS[kind] for kind in ("correct", "absent", *(k for k in KINDS if k not in ("correct", "absent"))) if kind in there
    ]
    arm = next(a for a in found.arms if a.evaluation.evaluation_id == versus.evaluation_id)
    points = charts.show(
        figures.transitions(frame, left=label(found.arms[0].evaluation), right=label(arm.evaluation), order=order),
        key="matrix",
        alt="How each pair of element and value fared with one arm and with the other: counts by kind",
        table=frame[frame["rows"] > 0],
        columns={"before": tables.text("Before"), "after": tables.text("After"), "rows": tables.whole("Values")},
        select=True,
    )
    if not points:
        return None
    back = {name: kind for kind, name in KINDS.items()}
    before, after = points[0]["customdata"][:2]
    return rows_behind(versus.moves, back[before], back[after])


def rows(found: Comparison, number: int, only: list[str] | None) -> None:
    """Rows side by side: which are gained, lost or unchanged, and one of them whole."""
    frame = found.frame.to_pandas()
    result, score = f"result_{number}", f"score_{number}"
    if only is not None:
        frame = frame[frame["row_id"].isin(only)]
        st.caption(f"{formats.plural(len(frame), 'row')} of the cell that you clicked; click it again to see all.")
    counts = frame[result].value_counts()
    sizes = {key: len(frame) if key == "all" else int(counts.get(key, 0)) for key in RESULTS}
    chosen = st.segmented_control(
        "Rows",
        list(RESULTS),
        default="won" if sizes["won"] else "all",
        format_func=lambda key: f"{RESULTS[key]} {sizes[key]:,}",
        key=f"compare_result_{only is not None}",
        label_visibility="collapsed",
    )
    if chosen not in (None, "all"):
        frame = frame[frame[result] == chosen]
    frame = frame.assign(change=frame[score] - frame["score_0"]).sort_values("change", ascending=chosen == "lost", kind="stable")
    names = [label(a.evaluation) for a in found.arms]
    columns = {
        "input": tables.text("Source text", width="large"),
        "output": tables.text("Gold", width="medium"),
        "prediction_0": tables.text(names[0], width="medium"),
        f"prediction_{number}": tables.text(names[number], width="medium"),
        "change": st.column_config.NumberColumn("Change", help="Of the row's own F1, 0 to 1", format="%+.2f", width="small"),
    }
    place = tables.pick(frame, columns, alt="Rows with the answers of both arms", key=f"compare_rows_{chosen}", height=260)
    if len(frame):
        _row(found, frame.iloc[place or 0], names, number)


def _row(found: Comparison, row: pd.Series, names: list[str], number: int) -> None:
    st.caption(f"Row {row['row_id']} · {row['source']}" + ("" if number == 1 else f" · arm {number + 1}"))
    cells = st.columns(2, gap="large")
    for cell, place in zip(cells, (0, number), strict=True):
        with cell:
            st.markdown(f"**{names[place]}** · row F1 {formats.score(row[f'score_{place}'])}")
            rowview.show(
                row["input"],
                row["output"],
                row[f"prediction_{place}"],
                key=f"pair_{place}_{row['row_id']}",
                extraction=found.task == "extraction",
                instruction=row["instruction"],
            )
