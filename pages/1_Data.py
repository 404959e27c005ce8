"""Is my data good? Health, issues and their rows, the recipe that mends them; versions, ledger, quarantine, export."""

from __future__ import annotations

from functools import partial

import streamlit as st

from core.demo import EXTRACTION, load_samples
from pages.ui import datatabs, dataview, importer, issues, mixing, quarantine, recipe, shell, states, storage, views

chosen = shell.begin("Data")
importer.running()
if chosen.dataset is None or chosen.version is None:
    pressed = states.empty(
        "What is wrong with your data, and the rows behind it",
        "Import a file and this page counts duplicates, conflicts, broken answers, leaks between splits, values that "
        "aren't in the text, personal data and more, opens the rows of each, and mends them in steps that can each be undone.",
        "data",
        action="Import a file",
        also="Open the sample",
    )
    if pressed == "Open the sample":
        with states.catching("Nothing was changed."), st.spinner("Reading the samples"):
            load_samples()
            shell.select(dataset=EXTRACTION)
            st.rerun()
    if pressed == "Import a file":
        importer.ask()
    importer.open_or_not()
    st.stop()

dataset, version = chosen.dataset, chosen.version
with states.catching("Your data is as it was."):
    importer.open_or_not()
    tabs = {
        "Edit by hand": datatabs.edit,
        "Versions": datatabs.versions,
        "Ledger": datatabs.ledger,
        "Quarantine": quarantine.show,
        "Split": datatabs.splitting,
        "Mix": mixing.show,
        "Export": datatabs.exporting,
        "Storage": storage.show,
    }
    if not dataview.looking(dataset.name, version):
        found = dataview.profiled(dataset.name, version)
        frame = issues.frame(found)
        with st.container(horizontal=True, vertical_alignment="top", key="data_head"):
            with st.container(width="stretch"):
                shell.answer(*dataview.sentence(found, frame, version))
            st.button("Import a file", key="data_import", icon=":material/upload_file:", on_click=importer.ask)
        left, right = st.columns([7, 4], gap="large")
        with left:
            if frame.empty:
                with st.container(key="chart"):
                    dataview.contents(found, key="clean")
            else:
                clicked = dataview.chart(frame)
                dataview.rows_of_issue(dataset, version, found, frame, clicked)
        with right:
            recipe.panel(dataset, version, issues.remedies(frame))
        if not frame.empty:  # else they stand above
            tabs = {"Contents": lambda *_: dataview.contents(found, key="contents"), **tabs}

    views.tabs({name: partial(draw, dataset, version) for name, draw in tabs.items()}, key="data_view")
