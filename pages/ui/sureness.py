"""Pieces of Compare that say how far the verdict holds: tests, rows left out, leaked rows, and whether more data would help.

Computes nothing: comparison, leaks and learning curve are core's.
"""

from __future__ import annotations

import pandas as pd
import streamlit as st

from core.evaluation.compare import compare
from core.evaluation.comparison import Comparison, Versus
from core.evaluation.grouping import group_columns, grouping_sentence
from core.evaluation.learning import LearningCurve, curve_candidates
from core.evaluation.learning import learning_curve as fit
from core.evaluation.report import render_report
from core.evaluation.rescore import leaked_rows
from core.evaluation.scoring import RATES
from core.evaluation.words import p_value
from core.figures import evidence as figures
from core.figures import tidy
from core.records import Evaluation, Run
from pages.ui import charts, comparison, curvejobs, formats, states, tables

SINGLE = "nothing: each row by itself"


@st.cache_data(show_spinner="Looking for test rows that stand in the training data", max_entries=16)
def _leaked(evaluation_id: str) -> list[str]:
    return leaked_rows(evaluation_id)


@st.cache_data(show_spinner="Comparing without the leaked rows", max_entries=8)
def _without(ids: tuple[str, ...], rows: tuple[str, ...]) -> Comparison:
    return compare(ids, without=rows)


@st.cache_data(show_spinner="Fitting the curve", max_entries=16)
def _curve(points: tuple[tuple[int, str], ...], metric: str) -> LearningCurve:
    return fit(points, metric)


@st.cache_data(show_spinner=False, max_entries=16)
def _groups(evaluation_id: str, _record: Evaluation) -> dict[str, dict[str, str]]:
    return group_columns(_record)


@st.cache_data(show_spinner="Comparing by whole groups of rows", max_entries=8)
def _grouped(ids: tuple[str, ...], column: str, _groups_of: dict[str, str]) -> Comparison:
    return compare(ids, clusters=_groups_of)


def tests(found: Comparison, versus: Versus) -> None:
    """Rows won and lost with McNemar's p, and the rows that are not compared, each with its reason."""
    lines = [
        ("Rows won, lost, tied", f"{versus.won:,}, {versus.lost:,}, {versus.tied:,}", "By each row's own score."),
        (
            "McNemar",
            "–" if versus.mcnemar is None else p_value(versus.mcnemar) + _corrected(versus.mcnemar_holm, len(found.versus)),
            "Exact: as many rows turned wholly right as wrong?",
        ),
    ]
    for metric in dict.fromkeys((found.primary, "exact_match")):
        change = versus.difference.get(metric)
        if change:
            by = formats.interval(change["value"], change["low"], change["high"], signed=True)
            p = _corrected(change.get("p_holm"), len(found.versus))
            by_share = "Score interval of a share's change on the same rows (Tango)"
            by_rows = "Bootstrap over rows (Tango's where no resample differs)"
            how = f"{by_share if metric in RATES else by_rows}, p by random swaps of the arms' answers."
            lines.append((tidy.METRICS.get(metric, (metric, True))[0], f"{by}, {p_value(change['p'])}{p}", how))
    frame = pd.DataFrame(lines, columns=["what", "value", "how"])
    columns = {"what": tables.text("Test"), "value": tables.text("Result"), "how": tables.text("How", width="large")}
    tables.show(frame, columns, alt="Tests of the difference", key="sure_table")
    for note in found.notes:
        st.caption(note)
    _by_groups(found, found.versus.index(versus))
    left = _left_out(found)
    if left.empty:
        st.caption(f"All rows of every arm are compared: {formats.count(found.rows)}.")
        return
    st.markdown(
        f"**{formats.plural(len(left), 'answer is', 'answers are')} left out**, since only rows that all arms have count."
    )
    columns = {"arm": tables.text("Arm"), "row": tables.text("Row"), "why": tables.text("Why", width="large")}
    tables.show(left, columns, alt="Rows that are not compared", key="left_table", height=200)


def _by_groups(found: Comparison, place: int) -> None:
    """The verdict again where rows hang together by a column: whole groups are resampled."""
    first = found.arms[0].evaluation
    there = _groups(first.evaluation_id, first)
    if not there:
        return
    column = st.selectbox(
        "Rows that belong together share their", [SINGLE, *there], key="compare_group", bind="query-params", width=300,
        help="Rows of one document or conversation are no independent evidence: whole groups of them are resampled then.",
    )  # fmt: skip
    if column and column != SINGLE:
        with states.catching():
            again = _grouped(tuple(arm.evaluation.evaluation_id for arm in found.arms), column, there[column])
            st.markdown(f"**By whole groups**: {again.versus[place].verdict}")
            st.caption(grouping_sentence(again.groups))


def _corrected(p: float | None, arms: int) -> str:
    """A p that is corrected for several arms, beside the plain one."""
    return "" if p is None else f", {p_value(p)} corrected for {arms} arms"


def _left_out(found: Comparison) -> pd.DataFrame:
    lines = []
    for arm in found.arms:
        name = comparison.label(arm.evaluation)
        lines += [
            (name, row, "not in every arm, or with another gold answer") for row in found.left_out[arm.evaluation.evaluation_id]
        ]
        lines += [(name, row, why) for row, why in arm.evaluation.scores.get("left_out", {}).items()]
    return pd.DataFrame(lines, columns=["arm", "row", "why"])


def leaks(found: Comparison, number: int) -> None:
    """The finding with and without the rows whose question stands in the training data of any arm."""
    ids = tuple(arm.evaluation.evaluation_id for arm in found.arms)
    compared = set(found.row_ids)
    rows = tuple(sorted({row for key in ids for row in _leaked(key)} & compared))
    if not rows:
        st.markdown(f"None of the {formats.count(found.rows)} rows stands in the training data, exactly or nearly.")
        return
    if len(rows) == len(compared):
        st.markdown("**All rows** stand in the training data, exactly or nearly: these scores say nothing of new rows.")
        return
    clean = _without(ids, rows)
    part = formats.plural(len(rows), "row stands", "rows stand")
    st.markdown(f"**{part} in the training data**, exactly or nearly. Without them: {clean.versus[number - 1].verdict}")
    lines = []
    for metric in dict.fromkeys((found.primary, "exact_match")):
        for words, source in (("all rows", found), ("without leaked rows", clean)):
            change = source.versus[number - 1].difference.get(metric)
            if change is None:
                continue
            base, arm = source.arms[0], source.arms[number]
            lines.append(
                {
                    "metric": tidy.METRICS.get(metric, (metric, True))[0],
                    "rows": f"{words} ({source.rows:,})",
                    "base": formats.interval(base.scores[metric], *base.intervals.get(metric, (None, None))),
                    "arm": formats.interval(arm.scores[metric], *arm.intervals.get(metric, (None, None))),
                    "difference": formats.interval(change["value"], change["low"], change["high"], signed=True),
                }
            )
    columns = {
        "metric": tables.text("Score"), "rows": tables.text("On"),
        "base": tables.text(comparison.label(found.arms[0].evaluation)),
        "arm": tables.text(comparison.label(found.arms[number].evaluation)), "difference": tables.text("Difference"),
    }  # fmt: skip
    tables.show(pd.DataFrame(lines), columns, alt="Scores with and without leaked rows", key="leaks_table")


def enough(found: Comparison, evaluations: list[Evaluation], runs: list[Run]) -> None:
    """The learning curve of the compared fine-tune, or what is missing for one."""
    tuned = next((a.evaluation for a in found.arms if a.evaluation.spec.arm.run), None)
    if tuned is None:
        st.caption("No arm is a fine-tune, so there is no training data to have enough of.")
        return
    points = curve_candidates(tuned, evaluations, runs)
    if len(points) < 2:
        curvejobs.more(tuned)
        return
    curve = _curve(tuple(points), found.primary)
    name = tidy.METRICS.get(curve.metric, (curve.metric, True))[0]
    head = f"{name} over training rows, and what {curve.expected_rows:,} rows would be expected to bring"
    frame = pd.DataFrame(
        [{"rows": p.rows, "score": p.score, "low": p.low, "high": p.high, "runs": list(p.runs)} for p in curve.points]
    )
    low, high = curve.expected_interval
    st.markdown(curve.sentence)
    charts.show(
        figures.curve(
            frame, metric=tidy.axis(curve.metric), title=head,
            expected={"rows": curve.expected_rows, "value": curve.expected, "low": low, "high": high},
        ),
        key="enough", alt=head, table=frame.drop(columns="runs").assign(
            trainings=[", ".join(formats.score(score) for score in p.runs) for p in curve.points]
        ),
        columns={"rows": tables.whole("Training rows"), "score": tables.decimal(name),
                 "low": tables.decimal("95 % from"), "high": tables.decimal("to"), "trainings": tables.text("Each training")},
    )  # fmt: skip
    st.caption(
        "Intervals hold the chance in the test rows"
        + (
            "; ticks are single trainings, and what another seed would change is in the intervals, too."
            if curve.between_seeds is not None
            else ", not that of another training seed: each size was trained with one."
        )
    )
    curvejobs.seeds(tuned, curve)


def take(found: Comparison) -> None:
    """Downloads: the whole comparison as one page, and its rows."""
    with st.container(horizontal=True):
        st.download_button(
            "Report as one HTML page", data=lambda: render_report(found).encode(), file_name="comparison.html",
            mime="text/html", key="compare_report", icon=":material/description:", on_click="ignore",
        )  # fmt: skip
        st.download_button(
            "The same without texts",
            data=lambda: render_report(found, texts=False).encode(),
            file_name="comparison-numbers.html",
            mime="text/html",
            key="compare_report_bare",
            on_click="ignore",
            help="Rows are named but not quoted, to pass on.",
        )
        charts.take(found.frame.to_pandas(), "comparison", key="compare")
