"""Will it fit, and what would be cut? Lengths in tokens against a maximum length, one row's tokens, templates."""

from __future__ import annotations

import numpy as np
import streamlit as st

from core.figures import budget
from core.figures import lengths as figures
from core.lengths.statistics import lengths as lengths_of
from pages.ui import (
    charts,
    formats,
    shell,
    states,
    studio,
    tables,
    tokencost,
    tokenloss,
    tokenrow,
    tokenrows,
    tokensides,
    tokenview,
    views,
)
from pages.ui.registry import DATA

chosen = shell.begin("Tokens")
if chosen.dataset is None or chosen.version is None or chosen.template is None:
    pressed = states.empty(
        "How long your rows are, and what a maximum length would cost",
        "This page counts the tokens of every row with the model's own tokenizer and the prompt template, shows how many rows "
        "fit a maximum length, and colours the tokens of one row so that you see what is learnt.",
        "tokens",
        action="Open or import a dataset",
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
        studio.show(chosen)
        st.stop()

    head = st.container()
    left, right = st.columns([7, 4], gap="large")
    where = tokenloss.found(chosen)
    at = tokenloss.simulator(chosen, measured, where) if where is not None else None
    advised = at.recommend()[0] if at is not None else budget.sound(whole)
    with left:
        limit = tokenview.slider(tokenview.offered(int(whole.max()), advised), advised)
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
                select=tokenrows.on_click("lengths"),
            )  # fmt: skip
            st.caption("Click a bar to see its rows.")
        if (ends := tokenrows.clicked("lengths")) is not None:
            tokenrows.between(chosen, measured, *ends)
    over = int((whole > limit).sum())
    with right:
        overflow = tokenloss.policy()
        if at is None:
            st.caption("Which values are lost at this length takes a while to find in so many rows.")
            st.button("Find the values that are lost", key="tokens_find_now", on_click=tokenloss.find)
            tokenloss.empties(measured)
        else:
            tokenloss.show(chosen, at, limit, overflow)
        dropped = at.simulate(limit, overflow).dropped if at is not None else None
        none_left = dropped == len(whole)
        with st.container(horizontal=True):
            words = f"Train with max length {formats.count(limit)}"
            if st.button(words, type="secondary" if none_left else "primary", key="tokens_train", disabled=none_left):
                tokenview.hand_to_training(limit, overflow)
            if at is not None:
                tokenloss.recommended(at, limit, primary=none_left)
        if at is not None:
            tokenloss.reason(at, limit)
    with head:
        shell.answer(*tokenview.sentence(whole, limit, over, overflow, dropped))

    every = measured["whole"].fill_null(0).to_numpy()
    kept = at.kept(limit, overflow) if at is not None else np.where(every <= limit, every, 0)
    draws = {
        "One row": lambda: tokenrow.show(chosen, limit, overflow),
        "Template studio": lambda: studio.show(chosen),
        "Templates side by side": lambda: tokensides.templates(chosen, limit),
        "Tokenizers": lambda: tokensides.tokenizers(chosen, limit),
        "Groups": lambda: tokensides.groups(chosen, measured, limit, where),
        "Padding and packing": lambda: tokencost.show(chosen, measured, kept, limit, overflow),
        "Longest rows": lambda: tokenview.longest_rows(chosen, measured),
    }
    if measured["fault"].null_count < measured.num_rows:
        draws["Faults"] = lambda: tokenview.faults(measured)
    views.tabs(draws, key="tokens_view")
