"""The tabs of Data: edit by hand, versions, ledger, split, export. Each reads and hands to core."""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

import pandas as pd
import streamlit as st

from core.data import recipes
from core.data.export import FORMATS, export, left_out_of, remarks
from core.data.split import SplitPreview, preview_split, split
from core.data.windows import Positions, find_rows, read_window
from core.errors import UserError
from core.records import SPLITS, Dataset, Step, Version
from core.store.datasets import list_versions, read_ledger
from pages.ui import changes, formats, marks, shell, states, tables

WINDOW = 50
SEARCHED = ("instruction", "input", "output", "messages")
WORDS = {
    "jsonl": "JSON Lines", "json": "JSON", "csv": "CSV", "parquet": "Parquet", "alpaca": "alpaca", "sharegpt": "ShareGPT",
    "openai": "OpenAI messages", "datasets": "datasets folder, zipped",
}  # fmt: skip
ABOUT = {
    "csv": "Spreadsheet cells that would be taken for formulas are made harmless by a leading ' and named in a last column, by "
    "which an import takes it off again.",
    "alpaca": "For LLaMA-Factory and others, which pass over the columns beside a row; an import brings them back.",
    "sharegpt": "For LLaMA-Factory, TRL and others, which pass over the columns beside a row; an import brings them back.",
    "openai": "For OpenAI's fine-tuning and others that take messages.",
    "datasets": "For `load_from_disk` of the datasets library; it comes back as it is when it is imported again.",
}
LIVE_SPLIT = 5_000
"""With more rows than this the leaks are counted on demand, since near ones take seconds."""
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
    with right:
        dev = st.slider("Dev, share of rows", 0.0, 0.4, 0.1, 0.01, key="split_dev", format="percent")
        test = st.slider("Test, share of rows", 0.0, 0.4, 0.1, 0.01, key="split_test", format="percent")
        near = st.toggle("Keep near duplicates together", True, key="split_near")
        group = st.text_input(
            "Keep rows together that are equal in this column", key="split_group", placeholder="none, or a column such as source"
        ).strip()
        seed = st.number_input("Seed", 0, 1_000_000, 7, key="split_seed")
        dealt = {name: size for name, size in sizes.items() if name}
        keep = bool(dealt) and st.toggle(
            "Leave rows that are in a split where they are", False, key="split_keep",
            help="Otherwise all rows are dealt anew, those of a test set that came with the data, too.",
        )  # fmt: skip
        asked = {"dev": dev, "test": test, "seed": int(seed), "near": near, "group": group, "keep": keep}
        amount = version.rows - sum(dealt.values()) if keep else version.rows
        if st.button(f"Split {formats.plural(amount, 'row')}", key="split_go", disabled=not amount):
            with states.catching("The version before it is as it was."), st.spinner("Splitting"):
                split(dataset.name, **asked)
                shell.select(version="latest")
                st.rerun()
    with left:
        st.html(marks.facts(entries or [("Rows", "none")]))
        _leaks(dataset, version, asked)
        st.caption("The same question, and near duplicates, never stand on both sides of a split made here.")


def _leaks(dataset: Dataset, version: Version, asked: dict[str, Any]) -> None:
    """What leaks from dev and test into train, now and after the split that is set up beside it."""
    if version.rows > LIVE_SPLIT and st.session_state.get("split_counted") != version.number:
        if st.button("Count what leaks, before and after", key="split_count"):
            st.session_state["split_counted"] = version.number
            st.rerun()
        return
    with states.catching():
        seen = _split_preview(dataset.name, version.number, json.dumps(asked, sort_keys=True))
        lines = [
            {"when": when, "exact": report.exact, "near": report.near, "sizes": formats.splits(sizes)}
            for when, report, sizes in (
                ("Now", seen.before, version.split_sizes), ("After this split", seen.after, seen.sizes),
            )
        ]  # fmt: skip
        columns = {
            "when": tables.text("Leaks"), "exact": tables.whole("Exact", "Dev and test rows whose question stands in train"),
            "near": tables.whole("Near", "Dev and test rows at least 0.8 alike to one in train"), "sizes": tables.text("Splits"),
        }  # fmt: skip
        tables.show(pd.DataFrame(lines), columns, alt="What leaks into train, now and after the split")


@st.cache_data(show_spinner="Counting what leaks", max_entries=16)
def _split_preview(name: str, number: int, asked: str) -> SplitPreview:
    return preview_split(name, number, **json.loads(asked))


def exporting(dataset: Dataset, version: Version) -> None:
    """A version, its ledger or its quarantine as a file."""
    whats = {"rows": "Rows", "ledger": "Ledger", "quarantine": "Quarantine"}
    with st.container(horizontal=True, vertical_alignment="bottom"):
        what = st.selectbox("What", list(whats), format_func=whats.__getitem__, key="export_what", width=180)
        forms = [form for form in FORMATS if what == "rows" or form in ("jsonl", "json", "csv", "parquet")]
        form = st.selectbox("Format", forms, format_func=lambda f: WORDS.get(f, f), key="export_form", width=240)
        names = ["", *(name for name in version.split_sizes if name)]
        part = st.selectbox(
            "Split", names, format_func=lambda s: s or "all", key="export_split", width=180, disabled=what != "rows"
        )
        told, refused = _remarks(dataset.name, version.number, form, part) if what == "rows" else ([], "")
        st.download_button(
            "Download", data=lambda: _exported(dataset.name, version.number, form, part, what), key="export_go",
            on_click="ignore", disabled=bool(refused),
            file_name=f"{dataset.name}-v{version.number}{'-' + part if part else ''}-{what}{FORMATS[form] or '.zip'}",
        )  # fmt: skip
    if refused:
        st.markdown(f":red[:material/error: {states.plain(refused)}]")
    for line in told:
        st.markdown(f":orange[:material/warning:] {states.plain(line)}")
    st.caption(ABOUT.get(form, "It comes back as it is when it is imported again."))


@st.cache_data(show_spinner="Looking what the format has a place for", max_entries=32)
def _remarks(name: str, number: int, form: str, part: str) -> tuple[list[str], str]:
    """What somebody should know of the file before it is made, and why it can't be made, if it can't."""
    left = left_out_of(name, form, version=number, split=part or None)
    try:
        return remarks(name, form, left, version=number, split=part or None), ""
    except UserError as fault:
        return [], f"{fault.message}. {fault.hint}"


def _exported(name: str, number: int, form: str, part: str, what: Any) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"export{FORMATS[form]}"
        export(name, form, path, version=number, split=part or None, what=what)
        if path.is_dir():
            path = Path(shutil.make_archive(str(path), "zip", path))
        return path.read_bytes()


@st.cache_data(show_spinner=False, max_entries=16)
def _matching(name: str, number: int, text: str) -> Positions:
    """Positions of the rows in whose texts ``text`` stands."""
    return find_rows(name, number, text=text, columns=SEARCHED)
