"""Matrices of counts as squares that can be clicked: which kind of answer became which, which label was taken for which.

Knows nothing of how answers are counted.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from core.figures.style import FAULT, figure, folded, labels, wrapped

GOLD_DARK, GREY_DARK = "#1f8a4f", "#68707a"
"""Grounds that carry white figures: the meaning of ``GOLD`` and ``NEUTRAL``, dark enough to be read on."""


def transitions(frame: pd.DataFrame, *, left: str, right: str, order: list[str], title: str = "") -> go.Figure:
    """Which kind of answer became which: squares whose size is the number of values, numbers in them.

    ``frame``: ``before``, ``after``, ``rows``; ``order`` names the kinds, the best first. A click gives ``[before, after]``.
    """
    place = {kind: i for i, kind in enumerate(order)}
    counted = frame[frame["rows"] > 0]
    gained = [place[b] - place[a] for b, a in zip(counted["before"], counted["after"], strict=True)]
    drawn = counted.rename(columns={"before": "line", "after": "column"}).assign(
        colour=[GOLD_DARK if g > 0 else FAULT if g < 0 else GREY_DARK for g in gained]
    )
    hover = f"{left}: %{{y}}<br>{right}: %{{x}}<br>%{{text}} values<extra></extra>"
    return _squares(drawn, order, order, x=f"With {right}", y=f"With {left}", title=title, hover=hover)


def confusion(frame: pd.DataFrame, *, gold: list[str], predicted: list[str], title: str = "") -> go.Figure:
    """Which label was taken for which: squares whose size is the number of rows; right ones on the diagonal.

    ``frame``: ``gold``, ``predicted``, ``rows``; the lists name the labels in their order. A click gives ``[gold, predicted]``.
    """
    counted = frame[frame["rows"] > 0]
    right = counted["gold"] == counted["predicted"]
    drawn = counted.rename(columns={"gold": "line", "predicted": "column"}).assign(colour=np.where(right, GOLD_DARK, FAULT))
    hover = "gold %{y}, predicted %{x}: %{text} rows<extra></extra>"
    return _squares(drawn, gold, predicted, x="Predicted", y="Gold", title=title, hover=hover)


def _squares(frame: pd.DataFrame, lines: list[str], columns: list[str], *, x: str, y: str, title: str, hover: str) -> go.Figure:
    """A matrix of squares. ``frame``: ``line``, ``column``, ``rows``, ``colour``.

    Squares are markers, since a heatmap's cells can't be clicked; customdata is ``[line, column]``.
    """
    step = 46 if len(lines) <= 12 else 30
    title = folded(title)
    room = step * max(3, len(lines))
    made = figure(title, height=110 + room, x=x, y=wrapped(y, room // 7))  # 7 px a letter; the hover has the whole name
    most = float(frame["rows"].max()) if len(frame) else 1.0
    smallest, widest = (20, 14) if step == 46 else (18, 10)  # so that they stand apart on a telephone, too
    down = dict(zip(lines, labels(lines, 16), strict=True))
    along = dict(zip(columns, labels(columns, 20, lines=1), strict=True))
    made.add_scatter(
        x=[along.get(name, name) for name in frame["column"]],
        y=[down.get(name, name) for name in frame["line"]],
        mode="markers+text",
        text=[f"{rows:,}" for rows in frame["rows"]],
        textfont={"color": "#ffffff", "size": 12 if step == 46 else 10},
        marker={
            "symbol": "square",
            "size": (smallest + widest * np.sqrt(frame["rows"] / most)).tolist(),
            "color": frame["colour"].tolist(),
            "opacity": 1.0,
        },
        customdata=frame[["line", "column"]].to_numpy().tolist(),
        selected={"marker": {"opacity": 1.0}, "textfont": {"color": "#ffffff"}},
        unselected={"marker": {"opacity": 0.45}, "textfont": {"color": "#ffffff"}},
        hovertemplate=hover,
        showlegend=False,
    )
    made.update_xaxes(categoryarray=list(along.values()), range=[-0.6, len(columns) - 0.4], autotickangles=[0, -45])
    made.update_yaxes(categoryarray=list(down.values())[::-1], range=[-0.6, len(lines) - 0.4])
    for update in (made.update_xaxes, made.update_yaxes):
        update(categoryorder="array", type="category")
    return made
