"""Disk use, and deleting a dataset or a version: what hangs on it is shown first, and then confirmed.

Knows nothing of what hangs on what; ``core.store.usage`` tells and deletes.
"""

from __future__ import annotations

import pandas as pd
import streamlit as st

from core.records import Dataset, Version
from core.store.datasets import list_versions
from core.store.usage import Deletion, delete_with_all, usage, what_goes
from pages.ui import formats, shell, states, tables

CHOSEN = "storage_chosen"
LISTED = 12


def show(dataset: Dataset, version: Version) -> None:
    """What takes up disk; buttons that ask before they delete."""
    items = usage()
    st.markdown(f"The workspace and the models take up {formats.size(sum(item.bytes for item in items))}.")
    lines = [{"kind": item.kind.capitalize(), "name": item.name, "size": formats.size(item.bytes)} for item in items[:LISTED]]
    columns = {
        "kind": tables.text("What"), "name": tables.text("Name", width="large"), "size": tables.text("Size"),
    }  # fmt: skip
    tables.show(pd.DataFrame(lines), columns, alt="What takes up disk, the largest first")
    rest = items[LISTED:]
    if rest:
        st.caption(f"{formats.count(len(rest))} more, {formats.size(sum(item.bytes for item in rest))} together.")
    latest = list_versions(dataset.name)[-1].number
    with st.container(horizontal=True):
        if st.button(f"Delete {dataset.name}", key="delete_dataset", icon=":material/delete:"):
            st.session_state[CHOSEN] = ("dataset", dataset.name)
        older = version.number != latest
        if st.button(
            f"Delete version {version.number}", key="delete_version", icon=":material/delete:", disabled=not older,
            help=None if older else "The latest version stays. Select an earlier one, or undo a step.",
        ):  # fmt: skip
            st.session_state[CHOSEN] = ("version", f"{dataset.name}@{version.number}")
    if CHOSEN in st.session_state:
        _confirm(*st.session_state[CHOSEN])


def _close() -> None:
    st.session_state.pop(CHOSEN, None)


@st.dialog("Delete", width="medium", on_dismiss=_close)
def _confirm(kind: str, name: str) -> None:
    with states.catching("Nothing was deleted."):
        deletion = what_goes(kind, name)
        st.markdown(f"**This can't be undone.** {formats.size(deletion.bytes)} become free. With it goes:")
        _told(deletion)
        with st.container(horizontal=True):
            if st.button(f"Delete {states.plain(name)} and all of this", key="delete_go"):
                delete_with_all(kind, name)
                _close()
                if kind == "dataset":
                    for key in ("dataset", "version"):
                        st.session_state.pop(key, None)
                else:
                    shell.select(version="latest")
                st.toast(f"{name} was deleted.")
                st.rerun()
            if st.button("Keep it", key="delete_keep"):
                _close()
                st.rerun()


def _told(deletion: Deletion) -> None:
    lines = [{"kind": item.kind.capitalize(), "name": item.name, "size": formats.size(item.bytes)} for item in deletion.goes]
    columns = {"kind": tables.text("What"), "name": tables.text("Name"), "size": tables.text("Size")}
    tables.show(pd.DataFrame(lines), columns, alt="What is deleted", height=240)
    for text in deletion.stays:
        st.caption(f"{text[:1].upper()}{states.plain(text[1:])}.")
