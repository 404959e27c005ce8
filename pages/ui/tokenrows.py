"""The rows behind a mark of the figures on Tokens, in a window: a table by length, and one row whole. Counts nothing itself."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import streamlit as st

from core.store.datasets import read_rows
from pages.ui import formats, rowview, tables
from pages.ui.selection import Selection

SHOWN = 200
TOKENS = {"whole": "Tokens", "prompt": "Prompt", "answer": "Answer tokens"}
"""Counts of a row and their headings."""
_CLICKED = "_tokens_clicked"


def on_click(chart: str) -> Callable[[list[dict[str, Any]]], None]:
    """What ``charts.show`` is to call at a click on a figure of Tokens: the next run opens the rows behind the mark."""
    return lambda points: st.session_state.update({_CLICKED: (chart, points[0]["customdata"])} if points else {})


def clicked(chart: str) -> list[Any] | None:
    """What the mark stands for that was clicked last on ``chart``, told once."""
    if st.session_state.get(_CLICKED, ("",))[0] != chart:
        return None
    found: list[Any] = list(st.session_state.pop(_CLICKED)[1])
    return found


def between(chosen: Selection, table: pa.Table, first: int, last: int, where: str = "") -> None:
    """Open the rows of ``table`` (columns of ``measure``) of ``first`` to ``last`` tokens, the longest first."""
    lengths = table["whole"].fill_null(0).to_numpy()
    places = np.flatnonzero((lengths >= max(1, first)) & (lengths <= last))
    places = places[np.argsort(-lengths[places], kind="stable")]
    words = f"of {first:,} to {last:,} tokens" if first else f"of at most {last:,} tokens"
    words = f"of {formats.plural(last, 'token')}" if first == last else words
    title = f"{formats.plural(len(places), 'row')} {words}{where}"
    st.dialog(title, width="large")(_rows)(chosen, table.take(pa.array(places)))


def _rows(chosen: Selection, counts: pa.Table) -> None:
    listed(chosen, counts, key="clicked", alt="Rows behind the mark")


def listed(chosen: Selection, counts: pa.Table, *, key: str, alt: str) -> None:
    """A table of rows in the order given, and the one that is chosen there whole.

    ``counts``: ``row_id``, ``whole`` (tokens) and, where known, ``prompt`` and ``answer``.
    """
    dataset, version = chosen.data
    if counts.num_rows > SHOWN:
        st.caption(f"The first {SHOWN} of {formats.count(counts.num_rows)}.")
    known = [name for name in TOKENS if name in counts.column_names]
    frame: pd.DataFrame = counts.select(["row_id", *known]).slice(0, SHOWN).to_pandas()
    rows = read_rows(dataset.name, version.number)
    rows = rows.filter(pc.is_in(rows["row_id"], pa.array(frame["row_id"].tolist(), pa.large_string())))
    frame = frame.merge(rows.to_pandas(), on="row_id", how="left")
    columns = {name: tables.whole(TOKENS[name]) for name in known} | {
        "split": tables.text("Split"), "input": tables.text("Input", width="large"), "output": tables.text("Answer"),
        "line": tables.whole("Line"),
    }  # fmt: skip
    place = tables.pick(frame, columns, alt=alt, key=f"{key}_rows", height=320)
    if place is None:
        st.caption("Choose a row to see it whole.")
        return
    row = frame.iloc[place]
    messages = row["messages"] if isinstance(row["messages"], str) else None
    rowview.show(
        str(row["input"] or ""), str(row["output"] or ""), key=f"{key}_row", messages=messages,
        extraction=dataset.task == "extraction",
    )  # fmt: skip
