"""The tabs of Data: edit by hand, versions, ledger, split, export. Each reads and hands to core."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import pandas as pd
import streamlit as st

from core.data import recipes
from core.data.export import FORMATS, export
from core.data.split import split
from core.data.windows import Positions, find_rows, read_window
from core.records import SPLITS, Dataset, Step, Version
from core.store.datasets import list_versions, read_ledger
from pages.ui import changes, formats, marks, shell, states, tables

WINDOW = 50
SEARCHED = ("instruction", "input", "output", "messages")
EDITED = ("instruction", "input", "output", "messages", "split")


def edit(dataset: Dataset, version: Version) -> None:
    """The grid: cells are changed here and saved as one step."""
    text = st.text_input("Rows that contain", key="edit_search", placeholder="any text of instruction, input or answer")
    found = _matching(dataset.name, version.number, text)
    start, end = tables.page_of(len(found), key=f"edit_page_{version.number}_{text}", size=WINDOW)
    if not len(found):
        st.caption("No row contains this.")
        return
    frame = read_window(dataset.name, version.number, found, offset=start, limit=end - start).to_pandas()
    talks = frame["messages"].notna().any()
    shown = ["line", "messages", "split"] if talks else ["line", "instruction", "input", "output", "split"]
    key = f"edit_grid_{dataset.name}_{version.number}_{start}_{text}"
    st.data_editor(
        frame, key=key, hide_index=True, width="stretch", height=380, column_order=shown, disabled=["line"], num_rows="fixed",
        placeholder="",
        column_config={
            "line": tables.whole("Line"), "instruction": tables.text("Instruction"), "input": tables.text("Input", width="large"),
            "output": tables.text("Answer", width="large"), "messages": tables.text("Messages", width="large"),
            "split": st.column_config.SelectboxColumn("Split", options=["", *SPLITS]),
        },
    )  # fmt: skip
    held = st.session_state.get(key, {}).get("edited_rows", {})
    edits = [
        {"row_id": frame["row_id"].iloc[int(place)], "column": column, "value": value if column == "messages" else value or ""}
        for place, cells in held.items()
        for column, value in cells.items()
        if column in EDITED
    ]
    st.caption("Changed cells become one step of the recipe: they are in the ledger and can be undone like any other.")
    if st.button(f"Save {formats.plural(len(edits), 'change')} as one step", key="edit_save", disabled=not edits):
        with states.catching("Your changes are still in the grid."):
            recipes.apply(dataset.name, [Step(op="hand_edit", params={"edits": edits})], note="edited by hand")
            shell.select(version="latest")
            st.rerun()


def versions(dataset: Dataset, version: Version) -> None:
    """All versions, the newest first; a click selects one."""
    lines = [
        {
            "number": f"v{v.number}",
            "parent": f"v{v.parent}" if v.parent else "",
            "note": v.note,
            "rows": v.rows,
            "quarantined": v.quarantined,
            "splits": formats.splits(v.split_sizes),
            "when": v.created_at,
        }
        for v in reversed(list_versions(dataset.name))
    ]
    columns = {
        "number": tables.text("Version"), "parent": tables.text("Made from"), "note": tables.text("How", width="large"),
        "rows": tables.whole("Rows"), "quarantined": tables.whole("Aside"), "splits": tables.text("Splits"),
        "when": tables.moment("When"),
    }  # fmt: skip
    place = tables.pick(pd.DataFrame(lines), columns, alt="All versions", key=f"versions_{dataset.name}")
    st.caption("Versions never change. A click selects one; the recipe always applies to the latest.")
    if place is not None and lines[place]["number"] != f"v{version.number}":
        shell.select(version=str(lines[place]["number"]))
        st.rerun()


def ledger(dataset: Dataset, version: Version) -> None:
    """Every row that this version dropped or changed against the one before."""
    table = read_ledger(dataset.name, version.number)
    if not table.num_rows:
        st.caption(f"Version {version.number} dropped and changed nothing: it brought rows in.")
        return
    st.markdown(f"{formats.plural(table.num_rows, 'entry', 'entries')} made version {version.number} out of the one before.")
    changes.show(table, key=f"ledger_{version.number}")


def splitting(dataset: Dataset, version: Version) -> None:
    """How the rows are split, and a new split that keeps what belongs together on one side."""
    sizes = version.split_sizes
    entries = [
        (name or "in no split", f"{formats.count(n)} rows, {formats.percent(n / max(1, version.rows))}")
        for name, n in sizes.items()
    ]
    left, right = st.columns(2, gap="large")
    with left:
        st.html(marks.facts(entries or [("Rows", "none")]))
        st.caption("The same question, and near duplicates, never stand on both sides of a split made here.")
    with right:
        dev = st.slider("Dev, share of rows", 0.0, 0.4, 0.1, 0.01, key="split_dev", format="percent")
        test = st.slider("Test, share of rows", 0.0, 0.4, 0.1, 0.01, key="split_test", format="percent")
        near = st.toggle("Keep near duplicates together", True, key="split_near")
        seed = st.number_input("Seed", 0, 1_000_000, 7, key="split_seed")
        if st.button(f"Split {formats.plural(version.rows, 'row')}", key="split_go"):
            with states.catching("The version before it is as it was."), st.spinner("Splitting"):
                split(dataset.name, dev=dev, test=test, seed=int(seed), near=near)
                shell.select(version="latest")
                st.rerun()


def exporting(dataset: Dataset, version: Version) -> None:
    """A version, its ledger or its quarantine as a file."""
    whats = {"rows": "Rows", "ledger": "Ledger", "quarantine": "Quarantine"}
    with st.container(horizontal=True, vertical_alignment="bottom"):
        what = st.selectbox("What", list(whats), format_func=whats.__getitem__, key="export_what", width=180)
        forms = [
            form for form in FORMATS if form != "datasets" and (what == "rows" or form in ("jsonl", "json", "csv", "parquet"))
        ]
        form = st.selectbox("Format", forms, key="export_form", width=180)
        names = ["", *(name for name in version.split_sizes if name)]
        part = st.selectbox(
            "Split", names, format_func=lambda s: s or "all", key="export_split", width=180, disabled=what != "rows"
        )
        st.download_button(
            "Download", data=lambda: _exported(dataset.name, version.number, form, part, what), key="export_go",
            on_click="ignore",
            file_name=f"{dataset.name}-v{version.number}{'-' + part if part else ''}-{what}{FORMATS[form]}",
        )  # fmt: skip
    st.caption("Spreadsheet cells that would be taken for formulas are made harmless in CSV.")


def _exported(name: str, number: int, form: str, part: str, what: Any) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"export{FORMATS[form]}"
        export(name, form, path, version=number, split=part or None, what=what)
        return path.read_bytes()


@st.cache_data(show_spinner=False, max_entries=16)
def _matching(name: str, number: int, text: str) -> Positions:
    """Positions of the rows in whose texts ``text`` stands."""
    return find_rows(name, number, text=text, columns=SEARCHED)
