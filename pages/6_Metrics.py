"""What do the numbers say over everything? All evaluations ranked, by element, by error, over time, down to rows."""

from __future__ import annotations

import streamlit as st

from core.figures import evaluation as figures
from core.figures import tidy
from core.store.runs import list_evaluations, list_runs
from pages.ui import charts, evidence, formats, leaderboard, shell, states, tables
from pages.ui.registry import COMPARE

chosen = shell.begin("Metrics")
records = [e for e in list_evaluations() if e.complete]
if not records:
    pressed = states.empty(
        "Every evaluation, ranked, with how sure its score is",
        "Once a prompt or a fine-tune has answered some rows, this page ranks them all by the metric you choose, shows which "
        "elements and which kinds of error make the difference, and opens the rows behind every number.",
        "metrics",
        action="Evaluate a prompt on Compare",
    )
    if pressed:
        shell.go(COMPARE)
    st.stop()

everything = tidy.evaluations(records, list_runs())
head = st.container()
frame, metric = leaderboard.filters(everything, chosen)
if frame.empty:
    with head:
        shell.answer("No evaluation matches these filters.", "Take a filter away, or evaluate on this dataset.")
    if st.button("Show all", type="primary", key="metrics_all"):
        leaderboard.clear()
        st.rerun()
    st.stop()

kept = [e for e in records if e.evaluation_id in set(frame["key"])]
ranked = tidy.ranked(frame, metric)
with head:
    shell.answer(*leaderboard.sentence(frame, ranked, metric))

with st.container(key="chart"):
    shown = ranked.head(12)
    points = charts.show(
        figures.leaderboard(shown, metric=tidy.axis(metric), higher_is_better=tidy.METRICS[metric][1]),
        key="leaderboard",
        alt=f"Evaluations ranked by {tidy.axis(metric)}, each with its 95 % interval",
        table=ranked[["name", "kind", "value", "low", "high"]],
        columns={
            "name": tables.text("Evaluation"),
            "value": tables.decimal(tidy.METRICS[metric][0]),
            "low": tables.decimal("95 % from"),
            "high": tables.decimal("to"),
        },
        select=True,
    )
st.caption("Click a point, or a line of the table, to see its rows. Lines are 95 % intervals.")

picked = leaderboard.table(frame, metric)
focus = picked or (
    str(points[0]["customdata"][0]) if points else str(ranked["key"].iloc[0] if len(ranked) else frame["key"].iloc[0])
)
record = next(e for e in kept if e.evaluation_id == focus)

names = ["By element", "Errors", "Slices", "Suspicious gold", "Over time", "Rows", "How it was counted"]
by_element, by_error, sliced, doubted, over_time, of_rows, counted = st.tabs(names, key="metrics_view", bind="query-params")
if by_element.open:
    with by_element:
        leaderboard.elements(kept)
if by_error.open:
    with by_error:
        leaderboard.errors(kept)
if sliced.open:
    with sliced:
        evidence.slices(record, metric)
if doubted.open:
    with doubted:
        evidence.doubtful(record, kept)
if over_time.open:
    with over_time:
        trend = frame[frame[metric].notna()].assign(
            value=lambda f: f[metric], group=lambda f: f["dataset"] + " · " + f["adapter"].where(f["kind"] == "tuned", "prompt")
        )
        charts.show(
            figures.trend(trend, metric=tidy.axis(metric)),
            key="trend",
            alt=f"{tidy.axis(metric)} of evaluations over time",
            table=trend[["when", "name", "group", "value"]],
        )
if of_rows.open:
    with of_rows:
        leaderboard.rows(record)
if counted.open:
    with counted:
        st.markdown(
            f"**{record.name}**, {formats.plural(record.rows, 'row')}, answered with the template `{record.template.ref}`."
        )
        for name, how in record.signature.items():
            st.markdown(f"- {name}: `{how}`")
