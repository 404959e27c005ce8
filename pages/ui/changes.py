"""Changes of rows, page by page, each with its reason and a diff in the cell. Used by preview, undo and ledger."""

from __future__ import annotations

import json
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import streamlit as st

from core.data.operations.registry import OPERATIONS
from pages.ui import formats, marks, tables

PAGE = 8
COLUMNS = ("split", "instruction", "input", "output", "messages")


def show(table: pa.Table, *, key: str) -> None:
    """``table`` has the columns of ``core.data.ledger.CHANGES`` (or of a ledger)."""
    if not table.num_rows:
        st.caption("No row would change.")
        return
    counted = pc.value_counts(table["op"]).to_pylist()
    names = {part["values"]: f"{_title(part['values'])} ({formats.count(part['counts'])})" for part in counted}
    if len(names) > 1:
        only = st.selectbox("Step", ["", *names], format_func=lambda op: names.get(op, "all steps"), key=f"{key}_op", width=420)
        table = table.filter(pc.equal(table["op"], only)) if only else table
    start, end = tables.page_of(table.num_rows, key=f"{key}_page", size=PAGE)
    for entry in table.slice(start, end - start).to_pylist():
        with st.container(border=True, gap="xsmall"):
            st.html(f'<div class="tw-key"><b>{marks.escape(_title(entry["op"]))}</b><span>{marks.escape(entry["reason"])}</span>'
                    f'<span>{marks.escape(entry["row_id"])}</span></div>')  # fmt: skip
            _entry(entry)


def _entry(entry: dict[str, Any]) -> None:
    before, after = (_cells(entry[side]) for side in ("before", "after"))
    if not after:
        st.html(marks.facts([(name.capitalize(), str(before[name])[:400]) for name in COLUMNS if before.get(name)]))
        return
    if not before:
        st.html(marks.facts([(name.capitalize(), str(after[name])[:400]) for name in COLUMNS if after.get(name)]))
        return
    for name in COLUMNS:
        if name in after and before.get(name) != after.get(name):
            st.html(marks.diff(str(before.get(name) or ""), str(after.get(name) or "")))


def _cells(text: str | None) -> dict[str, Any]:
    found = json.loads(text) if text else {}
    return found if isinstance(found, dict) else {}


def _title(op: str) -> str:
    return OPERATIONS[op].title if op in OPERATIONS else op.replace("_", " ").capitalize()
