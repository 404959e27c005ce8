"""What do the numbers say over everything? All evaluations ranked, by element, by error, over time, down to rows."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import streamlit as st

from core.figures import tidy
from core.store.runs import list_evaluations, list_runs
from pages.ui import counted, evidence, leaderboard, otherevals, scored, shell, states, trends, views
from pages.ui.registry import COMPARE, DATA
from pages.ui.selection import known_models

chosen = shell.begin("Metrics")
records = [e for e in list_evaluations() if e.complete]
if not records:
    pressed = states.empty(
        "Every evaluation, ranked, with how sure its score is",
        "Once a prompt or a fine-tune has answered some rows, this page ranks them all by the metric you choose, shows which "
        "elements and which kinds of error make the difference, and opens the rows behind every number.",
        "metrics",
        action="Evaluate a prompt on Compare" if chosen.dataset else "Open or import a dataset",
    )
    if pressed:
        shell.go(COMPARE if chosen.dataset else DATA)
    with st.expander("Code tasks and plain text need no evaluation"):
        otherevals.show([], list_runs(), known_models())
    st.stop()

runs = list_runs()
everything = tidy.evaluations(records, runs)
head = st.container()
frame, metric = leaderboard.filters(everything, chosen)
if frame.empty:
    with head:
        shell.answer("No evaluation matches these filters.", "Take a filter away, or evaluate on this dataset.")
    if st.button("Show all", type="primary", key="metrics_all"):
        leaderboard.clear()
        st.rerun()
    st.stop()

left = set(frame["key"])
kept = [e for e in records if e.evaluation_id in left]
names = leaderboard.unique_names(kept)
ranked = tidy.ranked(frame, metric).assign(name=lambda found: found["key"].map(names))
best = ranked[ranked["key"].isin(frame["key"][leaderboard.newest_gold(frame, metric)])]
with head:
    shell.answer(*leaderboard.sentence(frame, best, metric))
with st.container(key="chart"):
    leaderboard.chart(best, metric, names)
leaderboard.table(frame, metric, names)

record = leaderboard.focus(kept, best, names)
few = leaderboard.peers(record, kept, ranked)
record = few[-1]
of_task: dict[str, dict[str, Callable[[], None]]] = {
    "extraction": {
        "By element": partial(scored.elements, few),
        "Errors": partial(scored.errors, few),
    },
    "classification": {
        "By label": partial(scored.elements, few),
        "Confusion": partial(scored.confusion, record),
    },
}
gold: dict[str, Callable[[], None]] = {"Suspicious gold": partial(evidence.doubtful, record, kept)}
views.tabs(
    {
        **of_task.get(record.task, {}),
        "Slices": partial(evidence.slices, record, metric),
        **(gold if record.task == "extraction" else {}),
        "Trends": partial(trends.trend, frame, metric, runs),
        "Training": partial(trends.curves, kept, ranked, metric, runs),
        "Lengths": partial(trends.lengths, few),
        "Rows": partial(scored.rows, record),
        "Judges, code, text": partial(otherevals.show, records, runs, known_models()),
        "How it was counted": partial(counted.show, record),
    },
    key="metrics_view",
)
