"""A figure on a page: drawn in the theme, its table beside it, PNG, SVG, HTML, CSV and Parquet to take away.

Knows nothing of what figures show; ``core.figures`` builds them.
"""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable
from html import escape
from typing import Any

import pandas as pd
import plotly.graph_objects as go
import streamlit as st

from pages.ui import tables

WIDE = 620
"""Width of the table beside a chart, in pixels."""
_EXPORT = """<div class="tw-take"><button data-format="png">PNG</button><button data-format="svg">SVG</button></div>
<script>
(() => {
  const name = %(name)s, selector = ".st-key-" + %(key)s;
  for (const button of document.querySelectorAll(%(scope)s + " .tw-take button")) {
    button.onclick = () => {
      const plot = document.querySelector(selector + " .js-plotly-plot");
      if (!plot) return;
      plot._context.toImageButtonOptions = { format: button.dataset.format, filename: name, scale: 2 };
      plot.querySelector('.modebar-btn[data-title*="ownload"]')?.click();
    };
  }
})();
</script>"""


def show(
    figure: go.Figure,
    *,
    key: str,
    alt: str,
    table: pd.DataFrame | None = None,
    columns: dict[str, Any] | None = None,
    name: str = "",
    select: bool | Callable[[list[dict[str, Any]]], None] = False,
) -> list[dict[str, Any]]:
    """Draw ``figure``; below it a quiet button opens its table and the downloads.

    ``alt`` says what it shows. ``table`` holds the numbers behind it (``columns`` as ``pages.ui.tables`` makes
    them). With ``select``, returns the points that were clicked: ``[{"x", "y", "customdata", …}]``; a function is called with
    them before the page runs anew, so that it can set what widgets say.
    """
    name = name or re.sub(r"\W+", "-", key)
    config = {"displaylogo": False, "displayModeBar": "hover", "modeBarButtons": [["toImage"]], "scrollZoom": False}
    with st.container(key=f"{key}_figure", gap="xsmall"):
        if select:
            clicked: Any = "rerun" if select is True else _told(key, select)
            event = st.plotly_chart(
                figure, width="stretch", key=key, config=config, alt=alt, on_select=clicked, selection_mode="points"
            )
        else:
            event = None
            st.plotly_chart(figure, width="stretch", key=key, config=config, alt=alt)
        if table is not None:
            _beside(figure, table, columns, key, name, alt)
    return list(event["selection"]["points"]) if event else []


def _told(key: str, say: Callable[[list[dict[str, Any]]], None]) -> Callable[[], None]:
    return lambda: say(list(st.session_state[key]["selection"]["points"]))


def _beside(figure: go.Figure, table: pd.DataFrame, columns: dict[str, Any] | None, key: str, name: str, alt: str) -> None:
    with st.popover("Table and downloads", type="tertiary", icon=":material/table_chart:", key=f"{key}_more"):
        columns = columns or dict.fromkeys(table.columns)
        with st.container(width=WIDE):
            tables.show(table, columns, alt=f"Table: {alt}", key=f"{key}_table")
        with st.container(horizontal=True, vertical_alignment="center", key=f"{key}_take"):
            take(table, name, key=key)
            st.download_button(
                "HTML", data=lambda: to_html(figure, alt), file_name=f"{name}.html", mime="text/html", key=f"{key}_html",
                on_click="ignore", help="The chart as a page of its own that works without a network.",
            )  # fmt: skip
            fields = {"name": name, "key": f"{key}_figure", "scope": f".st-key-{key}_take"}
            st.html(_EXPORT % {k: json.dumps(v).replace("<", "\\u003c") for k, v in fields.items()}, unsafe_allow_javascript=True)


def pair(key: str) -> list[Any]:
    """Two places side by side, or one under the other where a chart would be too narrow to be read (``style.css``)."""
    with st.container(key=f"pair_{key}"):
        return list(st.columns(2, gap="large"))


def take(table: pd.DataFrame, name: str, *, key: str) -> None:
    """Buttons that download a table as CSV and as Parquet; made when they are pressed."""
    csv(table, name, key=f"{key}_csv")
    st.download_button(
        "Parquet", data=lambda: to_parquet(table), file_name=f"{name}.parquet", mime="application/vnd.apache.parquet",
        key=f"{key}_parquet", on_click="ignore",
    )  # fmt: skip


def csv(table: pd.DataFrame, name: str, *, key: str, label: str = "CSV") -> None:
    """A button that downloads a table; made when it is pressed. Cells that a spreadsheet would run are made harmless."""
    st.download_button(label, data=lambda: to_csv(table), file_name=f"{name}.csv", mime="text/csv", key=key, on_click="ignore")


def to_csv(table: pd.DataFrame) -> bytes:
    """CSV in UTF-8 with a byte order mark (Excel reads it right), formulas made harmless by a leading quote."""
    safe = table.copy()
    for column in safe.columns:
        if not pd.api.types.is_numeric_dtype(safe[column]):
            written = safe[column].astype("str")
            safe[column] = written.where(~written.str.match(r"^[=+\-@\t\r]"), "'" + written)
    return safe.to_csv(index=False).encode("utf-8-sig")


def to_parquet(table: pd.DataFrame) -> bytes:
    """Parquet, values as they are (no formula guard: nothing runs them)."""
    buffer = io.BytesIO()
    table.to_parquet(buffer, index=False)
    return buffer.getvalue()


def to_html(figure: go.Figure, title: str) -> bytes:
    """A page of its own, Plotly inside it, on a plain white ground."""
    drawn = go.Figure(figure).update_layout(template="plotly_white", paper_bgcolor="#ffffff", plot_bgcolor="#ffffff")
    page: str = drawn.to_html(include_plotlyjs=True, full_html=True, config={"displaylogo": False})
    return page.replace("<head>", f"<head><title>{escape(title)}</title>", 1).encode("utf-8")
