"""Figures about a dataset: issues, elements, languages. Knows nothing of how they were counted."""

from __future__ import annotations

import pandas as pd
import plotly.graph_objects as go

from core.figures.style import BASE, CHOSEN, FAULT, GOLD, HATCH, NEUTRAL, OTHERS, figure, labels, wrapped

SEVERITIES = {
    "error": (FAULT, "", "harms training"),
    "warning": (NEUTRAL, "/", "worth a look"),
    "note": (NEUTRAL, ".", "good to know"),
}


def issue_bars(frame: pd.DataFrame, *, title: str = "") -> go.Figure:
    """Issues as bars in the order given, from the top; a click gives the issue's key.

    ``frame``: ``key``, ``label``, ``rows`` (count), ``share`` (of all rows), ``severity`` (``error``, ``warning``
    or ``note``).
    """
    ordered = frame.iloc[::-1].assign(shown=labels(frame["label"].tolist()[::-1], 20))
    made = figure(title, height=84 + 30 * max(3, len(ordered)), x="Rows", legend=ordered["severity"].nunique() > 1)
    for severity, (colour, shape, words) in SEVERITIES.items():
        part = ordered[ordered["severity"] == severity]
        if part.empty:
            continue
        made.add_bar(
            y=part["shown"].tolist(),
            x=part["rows"].tolist(),
            orientation="h",
            name=words,
            customdata=part[["key", "share"]].to_numpy().tolist(),
            marker={
                "color": colour,
                "pattern": {**HATCH, "shape": shape},
            },
            text=[f"{rows:,} · {_share(share)}" for rows, share in zip(part["rows"], part["share"], strict=True)],
            textposition="outside",
            cliponaxis=False,
            selected=CHOSEN,
            unselected=OTHERS,
            hovertemplate="%{y}: %{x:,} rows, %{customdata[1]:.1%} of all<extra></extra>",
        )
    made.update_layout(
        barmode="overlay", bargap=0.32, yaxis={"categoryorder": "array", "categoryarray": ordered["shown"].tolist()}
    )
    made.update_xaxes(range=[0, max(1.0, float(frame["rows"].max() if len(frame) else 1)) * 1.04], nticks=5)
    made.update_layout(margin_r=84)  # the longest bar's words, also in a narrow window
    made.update_yaxes(gridcolor="rgba(0,0,0,0)")
    return made


def element_bars(frame: pd.DataFrame, *, title: str = "") -> go.Figure:
    """How many rows name each element. ``frame``: ``element``, ``rows``, ``values`` (counts)."""
    ordered = frame.sort_values("rows")
    made = figure(title, height=70 + 26 * max(3, len(ordered)), x="Rows that name the element")
    made.add_bar(
        y=[wrapped(name) for name in ordered["element"]],
        x=ordered["rows"].tolist(),
        orientation="h",
        marker={"color": GOLD},
        customdata=ordered[["element", "values"]].to_numpy().tolist(),
        text=[f"{rows:,}" for rows in ordered["rows"]],
        textposition="outside",
        cliponaxis=False,
        hovertemplate="%{customdata[0]}: %{x:,} rows, %{customdata[1]:,} values<extra></extra>",
    )
    made.update_yaxes(gridcolor="rgba(0,0,0,0)")
    return made


def share_bars(frame: pd.DataFrame, *, title: str = "", x: str = "Rows") -> go.Figure:
    """A few groups with their row counts. ``frame``: ``label``, ``rows``."""
    ordered = frame.sort_values("rows")
    made = figure(title, height=60 + 28 * max(3, len(ordered)), x=x)
    made.add_bar(
        y=[wrapped(str(name)) for name in ordered["label"]],
        x=ordered["rows"].tolist(),
        orientation="h",
        marker={"color": BASE},
        text=[f"{rows:,}" for rows in ordered["rows"]],
        textposition="outside",
        cliponaxis=False,
        hovertemplate="%{y}: %{x:,} rows<extra></extra>",
    )
    made.update_yaxes(gridcolor="rgba(0,0,0,0)")
    return made


def _share(share: float) -> str:
    if share >= 0.1:
        return f"{share:.0%}".replace("%", " %")
    return f"{share:.1%}".replace("%", " %") if share >= 0.001 else "<0.1 %"
