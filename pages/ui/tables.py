"""Tables with headings that people read, the same everywhere. Knows nothing of where the rows come from."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any
from unicodedata import east_asian_width

import pandas as pd
import streamlit as st

Column = Any
LINE, BORDER = 36, 3
"""Height in pixels of a line of a table, and of its borders."""
_PLACE, _PADDING = 7.2, 10
"""Pixels of a Latin character in a table, on average, and at either side of a cell."""


def text(heading: str, help: str | None = None, width: Any = None) -> Column:
    """A column of text."""
    return st.column_config.TextColumn(heading, help=help, width=width)


def width_of(texts: Iterable[str], least: int = 140, most: int = 400) -> int:
    """Pixels in which the longest of these texts stands whole, within bounds: wide characters take two places."""
    places = (sum(2 if east_asian_width(c) in "WF" else 1 for c in text) for text in texts)
    return min(most, max(least, round(_PLACE * max(places, default=0)) + 2 * _PADDING))


def whole(heading: str, help: str | None = None) -> Column:
    """A column of whole numbers, thousands separated."""
    return st.column_config.NumberColumn(heading, help=help, format="localized", step=1)


def decimal(heading: str, help: str | None = None, places: int = 3) -> Column:
    """A column of numbers with ``places`` decimals."""
    return st.column_config.NumberColumn(heading, help=help, format=f"%.{places}f")


def probability(heading: str, help: str | None = None) -> Column:
    """A column of p values with two digits that count: a small one is never shown as 0."""
    return st.column_config.NumberColumn(heading, help=help, format="%.2g")


def share(heading: str, help: str | None = None, most: float = 1.0) -> Column:
    """A column of shares as bars."""
    return st.column_config.ProgressColumn(heading, help=help, min_value=0.0, max_value=most, format="percent")


def bar(heading: str, help: str | None = None, most: float = 1.0) -> Column:
    """A column of scores between 0 and 1 as bars, narrow enough to be whole beside a name on a telephone."""
    return st.column_config.ProgressColumn(heading, help=help, width=120, min_value=0.0, max_value=most, format="%.3f")


def moment(heading: str, help: str | None = None) -> Column:
    """A column of times."""
    return st.column_config.DatetimeColumn(heading, help=help, format="YYYY-MM-DD HH:mm")


def show(frame: pd.DataFrame, columns: dict[str, Column], *, alt: str, height: Any = "auto", key: str | None = None) -> None:
    """A table of the columns named, in their order, without an index; ``height`` is the most, in pixels."""
    st.dataframe(frame, key=key, alt=alt, **_look(frame, columns, height))


def pick(
    frame: pd.DataFrame,
    columns: dict[str, Column],
    *,
    alt: str,
    key: str,
    height: Any = "auto",
    on_pick: Callable[[int], None] | None = None,
) -> int | None:
    """The same, where a click chooses a row; returns its place in ``frame``. ``on_pick`` is told it before the page runs anew."""

    def told() -> None:
        rows = st.session_state[key]["selection"]["rows"]
        if on_pick and rows and rows[0] < len(frame):
            on_pick(rows[0])

    look = _look(frame, columns, height)
    clicked: Any = told if on_pick else "rerun"
    event = st.dataframe(frame, key=key, alt=alt, on_select=clicked, selection_mode="single-row", **look)
    rows = event["selection"]["rows"]
    return rows[0] if rows and rows[0] < len(frame) else None


def _look(frame: pd.DataFrame, columns: dict[str, Column], height: Any) -> dict[str, Any]:
    if isinstance(height, int) and LINE * (len(frame) + 1) + BORDER <= height:
        height = "content"
    shared = {"hide_index": True, "width": "stretch", "height": height, "placeholder": "–"}  # in a cell that holds nothing
    return {"column_config": columns, "column_order": list(columns), **shared}


def page_of(total: int, *, key: str, size: int = 20) -> tuple[int, int]:
    """Which window of ``total`` things to draw, with buttons that go on and back; returns (start, end)."""
    pages = max(1, -(-total // size))
    at = min(st.session_state.get(key, 0), pages - 1)
    if pages > 1:
        with st.container(horizontal=True, vertical_alignment="center", gap="xsmall"):
            back, on = ":material/chevron_left:", ":material/chevron_right:"
            st.button("", key=f"{key}_back", icon=back, help="Back", disabled=at == 0, on_click=_turn, args=(key, at - 1))
            st.markdown(f":gray[{at * size + 1:,} to {min(total, (at + 1) * size):,} of {total:,}]", width="content")
            st.button("", key=f"{key}_on", icon=on, help="On", disabled=at == pages - 1, on_click=_turn, args=(key, at + 1))
    return at * size, min(total, (at + 1) * size)


def _turn(key: str, page: int) -> None:
    st.session_state[key] = page
