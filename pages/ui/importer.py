"""Import: choose a file, folder or hub name, see what it would be read as on its first rows, change that, bring it in.

Knows nothing of how files are read; ``core.data.importing`` guesses and imports.
"""

from __future__ import annotations

import re
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import pandas as pd
import streamlit as st

from core.data.elements import separated_names
from core.data.importing import IMPORT, import_file
from core.data.mapping import guess_flat
from core.data.readers.base import Limits
from core.data.readers.guessing import Guess, guess
from core.data.readers.hub import fetched, parse_address
from core.errors import InputFileError, UnnamedColumnsError
from core.jobs.queue import enqueue_import
from core.records import ENDED_STATES, LIVE_STATES, SPLITS, Task
from core.store.datasets import get_version, list_datasets
from core.store.files import check_name
from core.store.jobs import get_job, list_jobs
from core.store.usage import size_of
from pages.ui import columns, formats, separators, shell, states, tables

LARGE, LARGE_PACKED = 20 * 2**20, 4 * 2**20
"""Bytes from which on a file, or a packed one, is imported by a worker instead of in the page."""
FILES = 24
"""Files whose split is shown to be changed; further ones stay as their name tells."""
OPEN, JOB = "data_import_open", "data_import_job"


@dataclass(frozen=True, slots=True)
class Source:
    """What is imported: ``where`` as core takes it, ``local`` where its first rows are read, and its name and size in bytes.

    ``size`` None: on a hub, where it isn't known before it is fetched. ``upload``: it was put there for this import alone.
    """

    where: str
    local: Path
    name: str
    size: int | None
    upload: bool = False

    @property
    def large(self) -> bool:
        """Whether a worker should import it."""
        packed = self.local.suffix.lower() in (".gz", ".zip", ".parquet", ".xlsx")
        return self.size is None or self.size > (LARGE_PACKED if packed else LARGE)


def open_or_not() -> None:
    """Draw the dialog if it was asked for; it stays open over reruns until it is closed."""
    if st.session_state.get(OPEN):
        dialog()


def ask() -> None:
    """Open the dialog, from the next run on."""
    st.session_state[OPEN] = True


def _close() -> None:
    st.session_state.pop(OPEN, None)


def running() -> None:
    """Imports that a worker does: how far they are; the one that was begun here is selected when it is in."""
    mine = st.session_state.get(JOB)
    for job in list_jobs(LIVE_STATES | {"queued"}):
        if job.kind == "import" and job.job_id != mine:
            states.working(job.job_id)
    if mine is None:
        return
    job = get_job(mine)
    if job.state == "finished":
        st.session_state.pop(JOB)
        brought = [step for step in get_version(job.subject).recipe if step.op == IMPORT][-1].params
        _arrived(job.subject, brought["rows"], brought["quarantined"])
    states.working(mine)
    if job.state in ENDED_STATES and st.button("Close", key="import_job_close"):
        st.session_state.pop(JOB)
        st.rerun()


def _arrived(name: str, rows: int, quarantined: int) -> None:
    aside = f"; {formats.plural(quarantined, 'row')} kept aside in quarantine" if quarantined else ""
    st.toast(f"{formats.plural(rows, 'row')} imported into {name}{aside}.")
    _close()
    shell.select(dataset=name, version="latest")
    st.rerun()


@st.dialog("Import a file", width="large", on_dismiss=_close)
def dialog() -> None:
    """The whole of it; closes when the file is in."""
    with states.catching("Nothing was imported; the workspace is as it was."):
        source = _source()
        if source is None:
            st.caption(
                "JSON, JSON Lines, CSV, TSV, Excel, Parquet and CoNLL; alpaca, ShareGPT, OpenAI messages and many more "
                "shapes; also compressed, and a folder of such files or one that `save_to_disk` wrote. "
                "The columns are guessed and shown before anything is imported."
            )
            return
        local, changed = str(source.local), source.local.stat().st_mtime_ns
        try:
            first, named = _guess(local, changed, None, ()), {}
        except UnnamedColumnsError as unnamed:
            named = columns.mapping("", unnamed.columns, guess_flat(unnamed.columns), unnamed.likely)
            if told := columns.missing(named):
                st.info(told)
                return
            first = _guess(local, changed, None, tuple(sorted(named.items())))
        shape = st.session_state.get("import_shape")
        shape = shape if shape in (first.shape, *first.alternatives) and shape != first.shape else None
        guessed = first if shape is None else _guess(local, changed, shape, tuple(sorted(named.items())))
        splits = _splits(first)
        mapping = named or columns.mapping(guessed.shape, guessed.columns, guessed.mapping)
        if "element" in mapping.values() and (told := columns.missing(mapping)):
            st.info(told)
            return
        asked = (tuple(sorted(mapping.items())), tuple(sorted(splits.items())))
        shape = None if "element" in mapping.values() else shape
        found = _guess(local, changed, shape, *asked) if mapping or splits else guessed
        signs = separators.choose(found, local)
        if signs:
            found = _guess(local, changed, shape, *asked, tuple((column, tuple(told)) for column, told in signs.items()))
            separators.show(found.several)
        _preview(found)
        _bring_in(source, found, shape, {"mapping": mapping or None, "splits": splits or None, "separators": signs or None})


def _source() -> Source | None:
    """The uploaded file, or what is named: a file, a folder, a dataset on a hub."""
    upload = st.file_uploader("File", key="import_file", label_visibility="collapsed")
    if upload is not None:
        held = st.session_state.get("_import_path")
        if held is None or st.session_state.get("_import_id") != upload.file_id or not held.exists():
            folder = Path(tempfile.mkdtemp(prefix="tunewise-import-"))
            held = folder / Path(upload.name).name
            held.write_bytes(upload.getbuffer())
            st.session_state["_import_path"], st.session_state["_import_id"] = held, upload.file_id
        return Source(str(held), held, held.name, upload.size, upload=True)
    named = st.text_input(
        "Or a file or folder on this machine, or a dataset on a hub",
        key="import_path",
        placeholder="/data/contracts.jsonl, hub:org/name or modelscope:org/name",
    ).strip()
    if not named:
        return None
    address = parse_address(named)
    if address is not None:
        return Source(named, Path(_fetched(named)), address.name.split("/")[1], None)
    path = Path(named).expanduser()
    if not path.exists():
        raise InputFileError(f"There is no file or folder {path}", "Check the path; it is looked for where Tunewise runs.")
    return Source(str(path), path, path.resolve().name, size_of(path))


@st.cache_data(show_spinner="Fetching from the hub", max_entries=4, ttl=3600)
def _fetched(named: str) -> str:
    """A folder with a copy of a hub's dataset, to show its first rows from while its import is set up."""
    address = parse_address(named)
    assert address is not None, "only called with an address"
    folder = Path(tempfile.mkdtemp(prefix="tunewise-hub-")) / address.name.split("/")[1]
    with fetched(address, Limits.current()) as temporary:
        shutil.copytree(temporary, folder)
    return str(folder)


def _preview(found: Guess) -> None:
    """The first rows as they would be imported, and the first that would be kept aside."""
    of = f" of {states.plain(found.files[0][0])}" if len(found.files) > 1 else ""
    st.caption(f"Read as {found.read_as}. The first {formats.plural(len(found.preview), 'row')}{of} as they would come in:")
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


def _splits(first: Guess) -> dict[str, str]:
    """The splits of a folder's or archive's files, as their names tell them, each to be changed; those that were."""
    if len(first.files) < 2:
        return {}
    st.markdown(f"**{formats.plural(len(first.files), 'file')}, and the split that the name of each tells**")
    options = ["", *SPLITS]
    cells = st.columns(min(4, len(first.files)))
    changed: dict[str, str] = {}
    for place, (name, split) in enumerate(first.files[:FILES]):
        with cells[place % len(cells)]:
            chosen = st.selectbox(
                states.plain(name.partition("/")[2]), options, index=options.index(split), key=f"import_split_of_{name}",
                format_func=lambda s: s or "none",
            )  # fmt: skip
        if chosen != split:
            changed[name] = chosen
    if len(first.files) > FILES:
        st.caption(f"{len(first.files) - FILES} more are in the split that their name tells.")
    return changed


def _bring_in(source: Source, found: Guess, shape: str | None, chosen: dict[str, Any]) -> None:
    tasks = list(get_args(Task))
    cells = st.columns([3, 2, 2, 2])
    with cells[0]:
        suggested = re.sub(r"[^\w.\-]+", "-", source.name.split(".")[0]).strip("-._") or "dataset"
        name = st.text_input("Name of the dataset", suggested, key=f"import_name_{source.name}").strip()
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
        if task == "extraction" and found.shape != "columns"
        else ""
    )
    if name in known:
        st.caption(f"{name} exists: the rows are added to it as a new version.")
    if source.large:
        st.caption("It is imported in the background; the page says how far it is.")
    if st.button("Add the rows" if name in known else f"Import {source.name}", type="primary", key="import_go"):
        given = chosen | {"shape": shape, "split": split or "", "task": None if name in known else task}
        given["elements"] = separated_names(elements)
        with states.catching("Nothing was imported; the workspace is as it was."):
            _import(source, name, given)


def _import(source: Source, name: str, given: dict[str, Any]) -> None:
    check_name(name, "dataset name")
    if source.large:
        st.session_state[JOB] = enqueue_import(source.where, name, upload=source.upload, **given).job_id
        _close()
        st.rerun()
    with st.spinner("Importing"):
        made = import_file(source.where, name, **given)
    _arrived(name, made.rows, made.quarantined)


@st.cache_data(show_spinner="Reading the first rows", max_entries=16)
def _guess(
    path: str,
    changed: int,
    shape: str | None,
    mapping: tuple[tuple[str, str], ...],
    splits: tuple[tuple[str, str], ...] = (),
    separators: tuple[tuple[str, tuple[str, ...]], ...] = (),
) -> Guess:
    """``changed``: when the file was, so that another file at the same path is looked at anew."""
    del changed
    return guess(path, mapping=dict(mapping) or None, shape=shape, splits=dict(splits), separators=dict(separators))
