"""Will it fit, and what would be cut? Lengths in tokens against a maximum length, one row's tokens, templates."""

from __future__ import annotations

import streamlit as st

from core.figures import budget
from core.figures import lengths as figures
from core.lengths.statistics import lengths as lengths_of
from pages.ui import charts, formats, shell, states, tables, tokenview
from pages.ui.registry import DATA

chosen = shell.begin("Tokens")
if chosen.dataset is None or chosen.version is None or chosen.template is None:
    pressed = states.empty(
        "How long your rows are, and what a maximum length would cost",
        "This page counts the tokens of every row with the model's own tokenizer and the prompt template, shows how many rows "
        "fit a maximum length, and colours the tokens of one row so that you see what is learnt.",
        "tokens",
        action="Choose a dataset",
    )
    if pressed:
        shell.go(DATA)
    st.stop()

with states.catching("Your data is as it was."):
    measured = tokenview.measured(chosen)
    whole = lengths_of(measured, "whole")
    if not len(whole):
        shell.answer("No row of this dataset could be written with this template.", "The faults are listed below.")
        tokenview.faults(measured)
        st.stop()

    head = st.container()
    left, right = st.columns([7, 4], gap="large")
    options = budget.steps(int(whole.max()))
    with left:
        limit = tokenview.slider(options, budget.sound(whole))
        with st.container(key="chart"):
            charts.show(
                figures.histogram(whole, limit),
                key="lengths",
                alt=f"Histogram of the rows' lengths in tokens with the share of rows up to each length, and the line at {limit}",
                table=tokenview.percentiles(measured, limit),
                columns={
                    "part": tables.text("Part"), "p50": tables.whole("Median"), "p90": tables.whole("90 %"),
                    "p95": tables.whole("95 %"), "p99": tables.whole("99 %"), "max": tables.whole("Longest"),
                    "total": tables.whole("All rows together"),
                },
            )  # fmt: skip
    over = int((whole > limit).sum())
    with head:
        shell.answer(*tokenview.sentence(chosen, whole, limit, over))
    with right:
        tokenview.lost(chosen, measured, limit)
        if st.button(f"Train with max length {formats.count(limit)}", type="primary", key="tokens_train"):
            tokenview.hand_to_training(limit)

    views = ["One row", "Templates side by side", "Padding and packing", "Longest rows"]
    if measured["fault"].null_count < measured.num_rows:
        views.append("Faults")
    tabs = dict(zip(views, st.tabs(views, key="tokens_view", bind="query-params"), strict=True))
    for view, draw in {
        "One row": lambda: tokenview.one_row(chosen, limit),
        "Templates side by side": lambda: tokenview.templates(chosen, limit),
        "Padding and packing": lambda: tokenview.batches(whole, limit),
        "Longest rows": lambda: tokenview.longest_rows(chosen, measured),
        "Faults": lambda: tokenview.faults(measured),
    }.items():
        if view in tabs and tabs[view].open:
            with tabs[view]:
                draw()
