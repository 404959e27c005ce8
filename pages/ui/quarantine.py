"""Quarantine: what was kept aside and why; a row's raw text is mended, with a proposal shown as a diff, and taken in.

Knows nothing of how a text becomes a row; ``core.data.quarantine`` proposes, reads and takes in.
"""

from __future__ import annotations

import json
from typing import Any

import pyarrow.compute as pc
import streamlit as st

from core.data.quarantine import Proposal, is_from_file, propose, read, repair
from core.data.repair import propose_repair
from core.errors import UserError
from core.records import SPLITS, Dataset, Version
from core.store.datasets import get_version, read_quarantine
from pages.ui import formats, marks, rowview, shell, states, tables

WINDOW = 50
LONGEST = 20_000
"""Characters up to which a proposal is made unasked."""
FIELDS = {"instruction": "Instruction", "input": "Input", "output": "Answer", "messages": "Messages"}


def show(dataset: Dataset, version: Version) -> None:
    """What was kept aside, with its reason; a row is mended here and taken in."""
    table = read_quarantine(dataset.name, version.number)
    if not table.num_rows:
        st.caption("Nothing is kept aside. A row that can't be read at an import, or that a step puts aside, waits here.")
        return
    reasons = pc.value_counts(table["reason"]).to_pylist()
    st.markdown(f"{formats.plural(table.num_rows, 'row')} kept aside, for {formats.plural(len(reasons), 'reason')}.")
    start, end = tables.page_of(table.num_rows, key=f"quarantine_page_{version.number}", size=WINDOW)
    frame = table.slice(start, end - start).to_pandas()
    columns = {
        "source": tables.text("File"), "line": tables.whole("Line"), "reason": tables.text("Reason", width="medium"),
        "raw": tables.text("As it lies in the file", width="large"),
    }  # fmt: skip
    place = tables.pick(frame, columns, alt="Quarantine", key=f"quarantine_{version.number}_{start}", height=240)
    entry = frame.iloc[place or 0]
    latest = get_version(dataset.name)
    if latest.number != version.number:
        st.caption(f"You look at version {version.number}. Rows are taken into the latest, version {latest.number}: select it.")
        st.code(entry["raw"], language=None, wrap_lines=True)
        return
    line = f"{entry['source']}, line {formats.count(entry['line'])}" if entry["source"] else entry["quarantine_id"]
    st.markdown(f"**Mend and take in** :gray[{states.plain(line)}: {states.plain(entry['reason'])}]")
    with states.catching("The row is still kept aside."):
        if is_from_file(dataset.name, entry["quarantine_id"]):
            _mend_text(dataset, entry["quarantine_id"], entry["raw"])
        else:
            _mend_fields(dataset, entry["quarantine_id"], entry["raw"])


def _mend_text(dataset: Dataset, name: str, raw: str) -> None:
    """A line that couldn't be read: its raw text is mended, and what it then makes is shown at once."""
    key = f"mend_raw_{name}"
    if len(raw) <= LONGEST or st.toggle("Look for a proposal in this long text", key=f"mend_look_{name}"):
        _proposal(propose(dataset.name, name), key)
    text = st.text_area("Text of the row, as it should have been", raw, key=key, height=140)
    try:
        row = read(dataset.name, name, text)
    except UserError as fault:
        st.markdown(f":red[{states.plain(fault.message)}.] {states.plain(fault.hint)}")
        st.button("Take this row in", key=f"mend_go_{name}", disabled=True)
        return
    st.caption("The row that this text makes")
    rowview.show(
        row["input"], row["output"], key=f"mend_row_{name}", extraction=dataset.task == "extraction",
        instruction=row["instruction"], messages=row["messages"],
    )  # fmt: skip
    if st.button("Take this row in", key=f"mend_go_{name}"):
        _take_in(dataset, name, text)


def _proposal(proposal: Proposal, key: str) -> None:
    if proposal.text is None:
        st.caption("There is no proposal for this text: mend it by hand.")
        return
    st.caption(f"A proposal: {proposal.how}. Nothing is changed until you take the row in.")
    st.html(marks.stretches((change.before, change.after) for change in proposal.changes))
    if proposal.problem:
        st.caption(f"It would still not be a row. {proposal.problem}.")
    if st.button("Put the proposal into the field", key=f"{key}_proposal"):
        st.session_state[key] = proposal.text


def _mend_fields(dataset: Dataset, name: str, raw: str) -> None:
    """A row that a step put aside: it has columns, which are mended one by one."""
    cells = _cells(raw)
    proposal = propose_repair(cells["output"]) if dataset.task == "extraction" and len(cells["output"]) <= LONGEST else None
    if proposal is not None and proposal != cells["output"]:
        st.caption("A proposal for the answer: JSON mended by json-repair, which can change values. Compare.")
        st.html(marks.diff(cells["output"], proposal))
        if st.button("Put the proposal into the field", key=f"mend_proposal_{name}"):
            st.session_state[f"mend_output_{name}"] = proposal
    with st.form(f"mend_{name}"):
        row: dict[str, Any] = {}
        for field in ("instruction", "messages") if cells["messages"] else ("instruction", "input", "output"):
            row[field] = st.text_area(FIELDS[field], cells[field], key=f"mend_{field}_{name}", height=90)
        splits = ["", *SPLITS]
        place = splits.index(cells["split"]) if cells["split"] in splits else 0
        row["split"] = st.selectbox(
            "Split", splits, index=place, key=f"mend_split_{name}", format_func=lambda s: s or "none", width=220
        )
        if st.form_submit_button("Take this row in"):
            held = {"output": cells["output"], **row}
            _take_in(dataset, name, json.dumps({**held, "messages": row.get("messages") or None}, ensure_ascii=False))


def _take_in(dataset: Dataset, name: str, text: str) -> None:
    with states.catching("The row is still kept aside."):
        repair(dataset.name, name, text, note="taken in from quarantine")
        shell.select(version="latest")
        st.toast("Taken in as a new version. The step can be undone.")
        st.rerun()


def _cells(raw: str) -> dict[str, str]:
    """The columns of a row that a step put aside; a text that can't be read stands as its input."""
    try:
        found = json.loads(raw)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        found = {"input": raw}
    cells = {name: found.get(name) or "" for name in (*FIELDS, "split")}
    return {name: cell if isinstance(cell, str) else json.dumps(cell, ensure_ascii=False) for name, cell in cells.items()}
