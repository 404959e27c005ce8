"""Figures of a comparison: differences with their intervals, and how errors of one arm became those of another.

Takes tidy frames; knows nothing of how they were computed.
"""

from __future__ import annotations

import math

import pandas as pd
import plotly.graph_objects as go

from core.figures import style


def forest(frame: pd.DataFrame, *, x: str, title: str = "", one: str = "better before", other: str = "better after") -> go.Figure:
    """Differences with intervals around a line at zero, one line a row of ``frame``, the first on top.

    ``frame`` has ``label``, ``value``, ``low``, ``high`` and, where known, ``rows``. An interval that holds
    zero is drawn hollow and grey: nothing is shown to differ.
    """
    made = style.figure(title, height=70 + 34 * max(1, len(frame)) + (30 if title else 0), x=x)
    drawn = frame.iloc[::-1]
    labels = [style.wrapped(str(label), 26) for label in drawn["label"]]
    sure = [low > 0 or high < 0 for low, high in zip(drawn["low"], drawn["high"], strict=True)]
    colours = [
        (style.TUNED if value > 0 else style.BASE) if is_sure else style.NEUTRAL
        for value, is_sure in zip(drawn["value"], sure, strict=True)
    ]
    for label, low, high, colour in zip(labels, drawn["low"], drawn["high"], colours, strict=True):
        made.add_scatter(x=[low, high], y=[label, label], mode="lines", line={"color": colour, "width": 3}, hoverinfo="skip")
    made.add_scatter(
        x=drawn["value"],
        y=labels,
        mode="markers+text",
        marker={
            "color": colours,
            "size": 11,
            "symbol": ["circle" if is_sure else "circle-open" for is_sure in sure],
            "line": {"width": 2, "color": colours},
        },
        text=[f"{value:+.2f}".replace("-", "−") for value in drawn["value"]],
        textposition="top center",
        textfont={"size": 11},
        customdata=drawn["label"],
        hovertemplate="%{customdata}<br>%{text}<extra></extra>",
    )
    reach = max(0.05, *(abs(v) for v in [*frame["low"], *frame["high"]] if math.isfinite(v))) * 1.15 if len(frame) else 1.0
    made.add_vline(x=0, line={"color": style.AXIS, "width": 1.5})
    made.update_xaxes(range=[-reach, reach], tickformat="+.2f")
    made.update_yaxes(range=[-0.6, len(frame) - 0.2], showgrid=False)
    for side, text in ((0.0, f"← {one}"), (1.0, f"{other} →")):
        made.add_annotation(
            x=side,
            y=1.0,
            xref="paper",
            yref="paper",
            yanchor="bottom",
            xanchor="left" if side == 0 else "right",
            text=text,
            showarrow=False,
            opacity=0.7,
        )
    made.update_layout(margin={"t": 60 if title else 30})
    return made


def transitions(frame: pd.DataFrame, *, x: str, y: str, title: str = "") -> go.Figure:
    """A matrix of counts as squares that can be clicked: from the rows' kind (``before``) to the columns' (``after``).

    ``frame`` has ``before``, ``after``, ``count``. The diagonal stays the same and is grey; what became right is
    green, what became wrong red; the number stands in each square.
    """
    order = [kind for kind in dict.fromkeys([*frame["before"], *frame["after"]]) if kind != "right"]
    order = (["right"] if "right" in {*frame["before"], *frame["after"]} else []) + order
    made = style.figure(title, height=130 + 46 * max(1, len(order)), x=x, y=y)
    most = max(1, int(frame["count"].max())) if len(frame) else 1
    there = frame[frame["count"] > 0]
    colours = [
        style.NEUTRAL if b == a else style.GOLD if a == "right" else style.FAULT if b == "right" else style.BASE
        for b, a in zip(there["before"], there["after"], strict=True)
    ]
    made.add_scatter(
        x=there["after"],
        y=there["before"],
        mode="markers+text",
        marker={
            "symbol": "square",
            "size": [22 + 20 * math.sqrt(count / most) for count in there["count"]],
            "color": colours,
            "opacity": [0.3 + 0.6 * math.sqrt(count / most) for count in there["count"]],
            "line": {"width": 0},
        },
        text=[f"{count:,}" for count in there["count"]],
        textfont={"size": 12},
        customdata=there[["before", "after", "count"]].to_numpy(),
        hovertemplate="%{customdata[0]} → %{customdata[1]}: %{customdata[2]:,}<extra></extra>",
    )
    made.update_xaxes(categoryorder="array", categoryarray=order, side="top", range=[-0.6, len(order) - 0.4])
    made.update_yaxes(categoryorder="array", categoryarray=order[::-1], range=[-0.6, len(order) - 0.4])
    made.update_layout(margin={"t": 70 if title else 50})
    return made


def arms(frame: pd.DataFrame, *, x: str, title: str = "") -> go.Figure:
    """Scores of arms with their intervals, one line an arm: ``label``, ``value``, ``low``, ``high``, ``tuned`` (bool)."""
    made = style.figure(title, height=80 + 36 * max(1, len(frame)) + (30 if title else 0), x=x)
    drawn = frame.iloc[::-1]
    for tuned, colour, symbol in ((False, style.BASE, "square"), (True, style.TUNED, "circle")):
        part = drawn[drawn["tuned"] == tuned]
        made.add_scatter(
            x=part["value"],
            y=[style.wrapped(str(label), 30) for label in part["label"]],
            mode="markers+text",
            marker={"color": colour, "size": 11, "symbol": symbol},
            error_x={
                "type": "data",
                "symmetric": False,
                "array": part["high"] - part["value"],
                "arrayminus": part["value"] - part["low"],
                "thickness": 2.5,
                "width": 0,
                "color": colour,
            },
            text=[f"{value:.2f}" for value in part["value"]],
            textposition="top center",
            customdata=part[["label", "low", "high"]].to_numpy(),
            hovertemplate="%{customdata[0]}<br>%{x:.3f} [%{customdata[1]:.3f}, %{customdata[2]:.3f}]<extra></extra>",
        )
    made.update_xaxes(range=[-0.02, 1.05])
    made.update_yaxes(
        categoryorder="array", categoryarray=[style.wrapped(str(label), 30) for label in drawn["label"]], showgrid=False
    )
    return made
