"""Import: choose a file, see what it would be read as on its first rows, change that, bring it in.

Knows nothing of how files are read; ``core.data.importing`` guesses and imports.
"""

from __future__ import annotations

import re
import tempfile
from pathlib import Path
from typing import Any, get_args

import pandas as pd
import streamlit as st

from core.data.importing import import_file
from core.data.mapping import FIELDS
from core.data.readers.guessing import Guess, guess
from core.records import SPLITS, Task
from core.store.datasets import list_datasets
from pages.ui import formats, shell, states, tables

UNUSED = "not used"


OPEN = "data_import_open"


def open_or_not() -> None:
    """Draw the dialog if it was asked for; it stays open over reruns until it is closed."""
    if st.session_state.get(OPEN):
        dialog()


def ask() -> None:
    """Open the dialog, from the next run on."""
    st.session_state[OPEN] = True


def _close() -> None:
    st.session_state.pop(OPEN, None)


@st.dialog("Import a file", width="large", on_dismiss=_close)
def dialog() -> None:
    """The whole of it; closes when the file is in."""
    path = _file()
    if path is None:
        st.caption(
            "JSON, JSON Lines, CSV, TSV, Excel, Parquet and CoNLL; alpaca, ShareGPT, OpenAI messages and many more shapes; "
            "also compressed. The columns are guessed and shown before anything is imported."
        )
        return
    with states.catching("Nothing was imported; the workspace is as it was."):
        first = _guess(str(path), path.stat().st_mtime_ns, None, ())
        shape = st.session_state.get("import_shape")
        shape = shape if shape in (first.shape, *first.alternatives) else None
        mapping = _mapping(first if shape in (None, first.shape) else _guess(str(path), path.stat().st_mtime_ns, shape, ()))
        found = _guess(str(path), path.stat().st_mtime_ns, shape, tuple(sorted(mapping.items())))
        _preview(found)
        _bring_in(path, found, mapping, shape)


def _file() -> Path | None:
    """The uploaded file as a path, or one that is named."""
    upload = st.file_uploader("File", key="import_file", label_visibility="collapsed")
    if upload is not None:
        held = st.session_state.get("_import_path")
        if held is None or st.session_state.get("_import_id") != upload.file_id:
            folder = Path(tempfile.mkdtemp(prefix="tunewise-import-"))
            held = folder / Path(upload.name).name
            held.write_bytes(upload.getvalue())
            st.session_state["_import_path"], st.session_state["_import_id"] = held, upload.file_id
        return held
    named = st.text_input("Or a path on this machine", key="import_path", placeholder="/data/contracts.jsonl")
    if not named.strip():
        return None
    path = Path(named.strip()).expanduser()
    if not path.exists():
        st.error(f"There is no file {path}.", icon=":material/error:")
        return None
    return path


def _mapping(found: Guess) -> dict[str, str]:
    """Which column is which, as guessed, each to be changed."""
    if not found.columns:
        return {}
    options = [UNUSED, *FIELDS]
    chosen: dict[str, str] = {}
    st.markdown("**Which column is what**")
    cells = st.columns(min(4, len(found.columns)))
    for place, column in enumerate(found.columns[:24]):
        with cells[place % len(cells)]:
            guessed = found.mapping.get(column, UNUSED)
            picked = st.selectbox(
                column,
                options,
                index=options.index(guessed) if guessed in options else 0,
                key=f"import_column_{found.shape}_{column}",
            )
            if picked != UNUSED:
                chosen[column] = picked
    return chosen


def _preview(found: Guess) -> None:
    """The first rows as they would be imported, and the first that would be kept aside."""
    kind = f"{found.container}, {found.encoding}" if found.encoding else found.container
    documents = f"{formats.plural(found.documents, 'document')}. " if found.documents > 1 else ""
    st.caption(f"{documents}Read as {kind}. The first {formats.plural(len(found.preview), 'row')} as they would come in:")
    frame = pd.DataFrame(list(found.preview))
    if len(frame):
        shown = [
            name for name in ("instruction", "input", "output", "messages", "split") if frame[name].fillna("").astype(str).any()
        ]
        tables.show(frame, {name: tables.text(name.capitalize()) for name in shown}, alt="The first rows", height=210)
    if found.faults:
        with st.expander(f"{formats.plural(len(found.faults), 'record')} of the first {found.sampled:,} would be kept aside"):
            for fault in found.faults[:10]:
                st.markdown(f"Line {fault.line}: {states.plain(fault.reason)}")


def _bring_in(path: Path, found: Guess, mapping: dict[str, str], shape: str | None) -> None:
    tasks = list(get_args(Task))
    cells = st.columns([3, 2, 2, 2])
    with cells[0]:
        suggested = re.sub(r"[^\w.\-]+", "-", path.name.split(".")[0]).strip("-._") or "dataset"
        name = st.text_input("Name of the dataset", suggested, key=f"import_name_{path.name}").strip()
    known = {dataset.name: dataset for dataset in list_datasets()}
    with cells[1]:
        task = st.selectbox(
            "Task",
            tasks,
            index=tasks.index(known[name].task if name in known else found.task),
            key="import_task",
            disabled=name in known,
        )
    with cells[2]:
        split = st.selectbox("Split", ["", *SPLITS], format_func=lambda s: s or "as in the file", key="import_split")
    with cells[3]:
        st.selectbox(
            "Shape",
            [found.shape, *found.alternatives],
            key="import_shape",
            format_func=lambda s: s.replace("_", " ").capitalize(),
        )
    elements = (
        st.text_input("Elements, separated by commas", key="import_elements", placeholder="inferred from the answers")
        if task == "extraction"
        else ""
    )
    if name in known:
        st.caption(f"{name} exists: the rows are added to it as a new version.")
    if st.button("Add the rows" if name in known else f"Import {path.name}", type="primary", key="import_go"):
        with states.catching("Nothing was imported; the workspace is as it was."), st.spinner("Importing"):
            made = import_file(
                path, name, task=None if name in known else _task(task), mapping=mapping, split=split or "",
                shape=shape or found.shape,
                elements=[part.strip() for part in re.split("[,，、]", elements) if part.strip()],
            )  # fmt: skip
            aside = f"; {formats.plural(made.quarantined, 'row')} kept aside in quarantine" if made.quarantined else ""
            st.toast(f"{formats.plural(made.rows, 'row')} imported into {name}{aside}.")
            _close()
            shell.select(dataset=name, version="latest")
            st.rerun()


def _task(task: str) -> Any:
    return task


@st.cache_data(show_spinner="Reading the first rows", max_entries=16)
def _guess(path: str, _changed: int, shape: str | None, mapping: tuple[tuple[str, str], ...]) -> Guess:
    return guess(path, mapping=dict(mapping) or None, shape=shape)
