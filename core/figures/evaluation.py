"""Figures about scores: leaderboards, elements, error kinds, differences, transitions, trends.

Knows nothing of how scores and intervals are computed.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from core.figures.style import AXIS, BASE, CHOSEN, FAULT, NEUTRAL, OTHERS, SERIES, TUNED, figure, shades, wrapped

KINDS = {"base": (BASE, "circle", "prompt alone"), "tuned": (TUNED, "diamond", "fine-tune")}


def leaderboard(frame: pd.DataFrame, *, metric: str, title: str = "", higher_is_better: bool = True) -> go.Figure:
    """Arms by a score, the best on top, each a point with its interval; the shape tells prompt from fine-tune.

    ``frame``: ``name`` (unique), ``value``, ``low``, ``high`` (null where there is no interval), ``kind``
    (``base`` or ``tuned``), ``key`` (given back on a click). ``metric`` names the axis with its direction.
    """
    ordered = frame.sort_values("value", ascending=higher_is_better)
    made = figure(title, height=88 + 40 * max(2, len(ordered)), x=metric, legend=ordered["kind"].nunique() > 1)
    for kind, (colour, symbol, words) in KINDS.items():
        part = ordered[ordered["kind"] == kind]
        if part.empty:
            continue
        made.add_scatter(
            y=part["name"].tolist(),
            x=part["value"].tolist(),
            mode="markers+text",
            name=words,
            marker={"color": colour, "symbol": symbol, "size": 12},
            error_x=_errors(part, colour),
            text=[f"{value:.2f}" for value in part["value"]],
            textposition="top center",
            selected=CHOSEN,
            unselected=OTHERS,
            customdata=part[["key", "low", "high"]]
            .astype(object)
            .where(part[["key", "low", "high"]].notna(), None)
            .to_numpy()
            .tolist(),
            hovertemplate="%{y}: %{x:.3f} [%{customdata[1]:.3f}, %{customdata[2]:.3f}]<extra></extra>",
        )
    made.update_yaxes(categoryorder="array", categoryarray=ordered["name"].tolist(), gridcolor="rgba(0,0,0,0)")
    made.update_yaxes(range=[-0.55, len(ordered) - 0.3], type="category")
    _score_axis(made, ordered)
    return made


def element_bars(frame: pd.DataFrame, *, title: str = "", metric: str = "F1 (higher is better)") -> go.Figure:
    """A score by element for up to seven arms, the worst element on top (by the first arm).

    ``frame``: ``element``, ``arm``, ``value``, ``kind`` (``base`` or ``tuned``).
    """
    arms = list(dict.fromkeys(frame["arm"]))[: len(SERIES)]
    lead = frame[frame["arm"] == arms[-1]].sort_values("value", ascending=False)["element"].tolist() if arms else []
    order = lead + [name for name in dict.fromkeys(frame["element"]) if name not in lead]
    made = figure(title, height=80 + (16 + 17 * max(1, len(arms))) * max(2, len(order)), x=metric, legend=len(arms) > 1)
    for arm, colour in zip(arms, _arm_colours(frame, arms), strict=True):
        part = frame[frame["arm"] == arm]
        made.add_bar(
            y=part["element"].tolist(),
            x=part["value"].tolist(),
            orientation="h",
            name=wrapped(arm, 40),
            marker={"color": colour},
            text=[f"{value:.2f}" for value in part["value"]],
            textposition="outside",
            cliponaxis=False,
            customdata=part["element"].tolist(),
            hovertemplate=f"%{{y}}, {wrapped(arm, 40)}: %{{x:.3f}}<extra></extra>",
        )
    made.update_layout(barmode="group", margin={"t": 66 if title else 34})
    made.update_yaxes(categoryorder="array", categoryarray=order, gridcolor="rgba(0,0,0,0)")
    made.update_xaxes(range=[0, 1.1], tickvals=[0, 0.25, 0.5, 0.75, 1])
    return made


def error_bars(frame: pd.DataFrame, *, title: str = "") -> go.Figure:
    """Error kinds by arm, the most frequent on top; a click gives the kind.

    ``frame``: ``key``, ``label``, ``arm``, ``rows``, ``kind``.
    """
    arms = list(dict.fromkeys(frame["arm"]))[: len(SERIES)]
    order = frame.groupby("label")["rows"].max().sort_values().index.tolist()
    made = figure(title, height=80 + (14 + 17 * max(1, len(arms))) * max(2, len(order)), x="Values", legend=len(arms) > 1)
    for arm, colour in zip(arms, _arm_colours(frame, arms), strict=True):
        part = frame[frame["arm"] == arm]
        made.add_bar(
            y=part["label"].tolist(),
            x=part["rows"].tolist(),
            orientation="h",
            name=wrapped(arm, 40),
            marker={"color": colour},
            text=[f"{rows:,}" for rows in part["rows"]],
            textposition="outside",
            cliponaxis=False,
            customdata=part["key"].tolist(),
            selected=CHOSEN,
            unselected=OTHERS,
            hovertemplate=f"%{{y}}, {wrapped(arm, 40)}: %{{x:,}}<extra></extra>",
        )
    made.update_layout(barmode="group", margin={"t": 66 if title else 34})
    made.update_yaxes(categoryorder="array", categoryarray=order, gridcolor="rgba(0,0,0,0)")
    made.update_xaxes(range=[0, max(1.0, float(frame["rows"].max() if len(frame) else 1)) * 1.15])
    return made


def forest(
    frame: pd.DataFrame, *, title: str = "", x: str = "Difference (right of the line: the fine-tune is better)"
) -> go.Figure:
    """Differences with intervals, in the order given from the top; an interval that holds zero is grey and hollow.

    ``frame``: ``label``, ``value``, ``low``, ``high``; a column ``key`` is given back on a click.
    """
    made = figure(title, height=84 + 32 * max(2, len(frame)), x=x)
    sure = (frame["low"] > 0) | (frame["high"] < 0)
    colours = np.where(~sure, NEUTRAL, np.where(frame["value"] > 0, TUNED, FAULT))
    keys = frame["key"] if "key" in frame else frame["label"]
    for place in range(len(frame)):
        row = frame.iloc[place]
        made.add_scatter(
            x=[row["value"]],
            y=[row["label"]],
            mode="markers",
            marker={
                "color": colours[place], "size": 12, "line": {"width": 2},
                "symbol": "circle" if sure.iloc[place] else "circle-open",
            },
            error_x={
                "type": "data", "symmetric": False, "array": [row["high"] - row["value"]],
                "arrayminus": [row["value"] - row["low"]], "color": colours[place], "thickness": 2.5, "width": 0,
            },
            customdata=[[keys.iloc[place], row["low"], row["high"]]],
            hovertemplate="%{y}: %{x:+.3f} [%{customdata[1]:+.3f}, %{customdata[2]:+.3f}]<extra></extra>",
            showlegend=False,
        )  # fmt: skip
        made.add_annotation(
            x=1.0, xref="paper", xanchor="right", y=row["label"], yshift=0, showarrow=False, align="right",
            text=f"{row['value']:+.2f} [{row['low']:+.2f}, {row['high']:+.2f}]".replace("-", "−"),
        )  # fmt: skip
    made.add_vline(x=0, line={"color": AXIS, "width": 1.5, "dash": "dash"})
    made.update_yaxes(categoryorder="array", categoryarray=frame["label"].tolist()[::-1], gridcolor="rgba(0,0,0,0)")
    if len(frame):
        low, high = min(0.0, float(frame["low"].min())), max(0.0, float(frame["high"].max()))
        reach = max(0.05, high - low)
        made.update_xaxes(range=[low - 0.06 * reach, high + 0.45 * reach])
    return made


def transitions(frame: pd.DataFrame, *, left: str, right: str, order: list[str], title: str = "") -> go.Figure:
    """Which kind of answer became which: squares whose size is the number of rows, numbers in them.

    ``frame``: ``before``, ``after``, ``rows``; ``order`` names the kinds, the best first. Squares are markers,
    since a heatmap's cells can't be clicked; customdata is ``[before, after]``.
    """
    made = figure(title, height=110 + 58 * max(2, len(order)), x=f"With {right}", y=f"With {left}")
    place = {kind: i for i, kind in enumerate(order)}
    counted = frame[frame["rows"] > 0]
    most = float(counted["rows"].max()) if len(counted) else 1.0
    gained = [place[b] - place[a] for b, a in zip(counted["before"], counted["after"], strict=True)]
    made.add_scatter(
        x=counted["after"].tolist(),
        y=counted["before"].tolist(),
        mode="markers+text",
        text=[f"{rows:,}" for rows in counted["rows"]],
        textfont={"color": "#ffffff", "size": 13},
        marker={
            "symbol": "square",
            "size": (26 + 26 * np.sqrt(counted["rows"] / most)).tolist(),
            "color": [GOLD_DARK if g > 0 else FAULT if g < 0 else GREY_DARK for g in gained],
        },
        customdata=counted[["before", "after"]].to_numpy().tolist(),
        hovertemplate=f"{left}: %{{y}}<br>{right}: %{{x}}<br>%{{text}} rows<extra></extra>",
        showlegend=False,
    )
    made.update_xaxes(categoryorder="array", categoryarray=order, side="top", range=[-0.6, len(order) - 0.4], type="category")
    made.update_yaxes(categoryorder="array", categoryarray=order[::-1], range=[-0.6, len(order) - 0.4], type="category")
    made.update_layout(margin={"t": 92 if title else 50})
    return made


def trend(frame: pd.DataFrame, *, metric: str, title: str = "", x: str = "Evaluation, the oldest first") -> go.Figure:
    """A score from evaluation to evaluation for up to seven groups, evenly spaced, each labelled with its time.

    ``frame``: ``when`` (datetime), ``value``, ``group``, ``kind`` (``base`` or ``tuned``), ``name``, ``key``.
    """
    ordered = frame.sort_values("when").reset_index(drop=True)
    made = figure(title, height=320, x=x, y=metric, legend=ordered["group"].nunique() > 1)
    groups = list(dict.fromkeys(ordered["group"]))[: len(SERIES)]
    colours = _arm_colours(ordered.rename(columns={"group": "arm"})[["arm", "kind"]], groups)
    for place, group in enumerate(groups):
        part = ordered[ordered["group"] == group]
        made.add_scatter(
            x=part.index.tolist(),
            y=part["value"].tolist(),
            mode="lines+markers",
            name=wrapped(str(group), 40),
            line={"color": colours[place], "width": 2},
            marker={"size": 10, "symbol": ("circle", "diamond", "square", "triangle-up", "cross", "star", "x")[place]},
            customdata=part[["key", "name"]].to_numpy().tolist(),
            hovertemplate="%{customdata[1]}: %{y:.3f}<extra></extra>",
        )
    shown = ordered.index[:: max(1, -(-len(ordered) // 8))]
    made.update_xaxes(tickvals=shown.tolist(), ticktext=[f"{ordered['when'][n]:%d %b %H:%M}" for n in shown])
    made.update_xaxes(range=[-0.5, len(ordered) - 0.5])
    made.update_layout(margin={"t": 66 if title else 34})
    return made


GOLD_DARK, GREY_DARK = "#1f8a4f", "#68707a"
"""Grounds that carry white figures: the meaning of ``GOLD`` and ``NEUTRAL``, dark enough to be read on."""


def _arm_colours(frame: pd.DataFrame, arms: list[str]) -> list[str]:
    """A shade for each arm: blue-grey for the prompt alone, orange for a fine-tune, so that colour keeps its meaning."""
    kinds = [str(frame.loc[frame["arm"] == arm, "kind"].iloc[0]) for arm in arms]
    there = {kind: kinds.count(kind) for kind in kinds}
    left = {kind: iter(shades(kind, count)) for kind, count in there.items()}
    return [next(left[kind]) for kind in kinds]


def _errors(part: pd.DataFrame, colour: str) -> dict[str, Any]:
    high, low = (part["high"] - part["value"]).fillna(0), (part["value"] - part["low"]).fillna(0)
    return {
        "type": "data",
        "symmetric": False,
        "array": high.tolist(),
        "arrayminus": low.tolist(),
        "color": colour,
        "thickness": 2.5,
        "width": 0,
    }


def _score_axis(made: go.Figure, frame: pd.DataFrame) -> None:
    if len(frame) and frame["value"].max() <= 1.0 and frame["value"].min() >= 0:
        made.update_xaxes(range=[-0.02, 1.04], tickvals=[0, 0.25, 0.5, 0.75, 1])
