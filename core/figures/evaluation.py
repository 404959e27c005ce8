"""Figures about scores: leaderboards, elements, error kinds, differences, trends.

Knows nothing of how scores and intervals are computed.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from core.evaluation.verdict import CLEAR
from core.figures.style import (
    AXIS,
    AXIS_DARK,
    BAR_GAP,
    BASE,
    CHOSEN,
    FAULT,
    NEUTRAL,
    OTHERS,
    SERIES,
    TUNED,
    arm_colours,
    errors,
    figure,
    folded,
    key_room,
    labels,
    wrapped,
)

KINDS = {"base": (BASE, "circle", "prompt alone"), "tuned": (TUNED, "diamond", "fine-tune")}


def leaderboard(frame: pd.DataFrame, *, metric: str, title: str = "", higher_is_better: bool = True) -> go.Figure:
    """Arms by a score, the best on top, each a point with its interval; the shape tells prompt from fine-tune.

    ``frame``: ``name`` (unique), ``value``, ``low``, ``high`` (null where there is no interval), ``kind``
    (``base`` or ``tuned``), ``key`` (given back on a click). ``metric`` names the axis with its direction.
    """
    ordered = frame.sort_values("value", ascending=higher_is_better)
    ordered = ordered.assign(shown=labels(ordered["name"].tolist()))
    title = folded(title)
    made = figure(title, height=88 + 40 * max(2, len(ordered)), x=metric, legend=ordered["kind"].nunique() > 1)
    for kind, (colour, symbol, words) in KINDS.items():
        part = ordered[ordered["kind"] == kind]
        if part.empty:
            continue
        made.add_scatter(
            y=part["shown"].tolist(),
            x=part["value"].tolist(),
            mode="markers+text",
            name=words,
            marker={"color": colour, "symbol": symbol, "size": 12},
            error_x=errors(part, colour),
            text=[f"{value:,.2f}" for value in part["value"]],
            textposition="top center",
            cliponaxis=False,  # a score of 0 stands on the axis
            selected=CHOSEN,
            unselected=OTHERS,
            customdata=part[["key", "low", "high"]]
            .astype(object)
            .where(part[["key", "low", "high"]].notna(), None)
            .to_numpy()
            .tolist(),
            hovertemplate="%{y}: %{x:,.3f} [%{customdata[1]:,.3f}, %{customdata[2]:,.3f}]<extra></extra>",
        )
    made.update_yaxes(categoryorder="array", categoryarray=ordered["shown"].tolist(), gridcolor="rgba(0,0,0,0)")
    made.update_yaxes(range=[-0.55, len(ordered) - 0.3], type="category")
    _score_axis(made, ordered)
    return made


def element_bars(frame: pd.DataFrame, *, title: str = "", metric: str = "F1 (higher is better)") -> go.Figure:
    """A score by element for up to seven arms with its interval, the worst element on top (by the last arm).

    ``frame``: ``element``, ``arm``, ``key`` (of the arm), ``value``, ``low``, ``high`` (null: no interval), ``kind`` (``base``
    or ``tuned``). A click gives ``[element, key]``.
    """
    arms = list(dict.fromkeys(frame["arm"]))[: len(SERIES)]
    lead = frame[frame["arm"] == arms[-1]].sort_values("value", ascending=False)["element"].tolist() if arms else []
    order = lead + [name for name in dict.fromkeys(frame["element"]) if name not in lead]
    bare = frame.assign(text="")
    made = _arm_bars(bare, "element", "value", order, x=metric, title=title, hover="%{x:.3f}", click=("element", "key"))
    notes = []
    for place, arm in enumerate(arms):  # beside the interval: a bar's own text would lie under it
        shift = (1 - BAR_GAP) * ((place + 0.5) / len(arms) - 0.5)
        for row in frame[frame["arm"] == arm].to_dict("records"):
            end = max(value for value in (row["value"], row.get("high")) if pd.notna(value))
            at = {"x": end, "y": order.index(row["element"]) + shift, "xanchor": "left", "xshift": 3}
            notes.append({**at, "text": f"{row['value']:.2f}", "showarrow": False})
    made.update_layout(annotations=notes)  # all at once: plotly checks the whole list at each that is added
    made.update_xaxes(range=[0, 1.08], tickvals=[0, 0.25, 0.5, 0.75, 1])
    return made


def error_bars(frame: pd.DataFrame, *, title: str = "") -> go.Figure:
    """Error kinds by arm, the most frequent on top; a click gives ``[kind, key of the arm]``.

    ``frame``: ``error`` (the kind), ``label``, ``arm``, ``key``, ``rows``, ``kind`` (``base`` or ``tuned``).
    """
    order = frame.groupby("label")["rows"].max().sort_values().index.tolist()
    drawn = frame.assign(text=[f"{rows:,}" for rows in frame["rows"]])
    made = _arm_bars(drawn, "label", "rows", order, x="Values", title=title, hover="%{x:,}", click=("error", "key"))
    made.update_xaxes(range=[0, max(1.0, float(frame["rows"].max() if len(frame) else 1)) * 1.15])
    return made


def _arm_bars(
    frame: pd.DataFrame, y: str, x_column: str, order: list[str], *, x: str, title: str, hover: str, click: tuple[str, ...]
) -> go.Figure:
    """Bars in groups, one an arm, in the arms' shades; ``order`` names the groups from below; ``text`` is written at each bar."""
    arms = list(dict.fromkeys(frame["arm"]))[: len(SERIES)]
    title = folded(title)
    height = 80 + (16 + 17 * max(1, len(arms))) * max(2, len(order)) + key_room(len(arms))
    made = figure(title, height=height, x=x, legend=len(arms) > 1)
    shown = dict(zip(order, labels(order, 18), strict=True))
    for arm, colour in zip(arms, arm_colours(frame, arms), strict=True):
        part = frame[frame["arm"] == arm]
        made.add_bar(
            y=[shown[name] for name in part[y]],
            x=part[x_column].tolist(),
            orientation="h",
            name=wrapped(arm, 40),
            marker={"color": colour},
            error_x=errors(part.rename(columns={x_column: "value"}), AXIS_DARK, 1.5) if "low" in part else None,
            text=part["text"].tolist(),
            textposition="outside",
            cliponaxis=False,
            customdata=part[list(click)].to_numpy().tolist(),
            selected=CHOSEN,
            unselected=OTHERS,
            hovertemplate=f"%{{y}}, {wrapped(arm, 40)}: {hover}<extra></extra>",
        )
    made.update_layout(barmode="group", legend_traceorder="reversed")
    made.update_yaxes(categoryorder="array", categoryarray=[shown[name] for name in order], gridcolor="rgba(0,0,0,0)")
    return made


def forest(
    frame: pd.DataFrame, *, title: str = "", x: str = "Difference (right of the line: the fine-tune is better)"
) -> go.Figure:
    """Differences with intervals, in the order given from the top; one that isn't clear is grey and hollow: its interval holds
    zero, or its ``p`` is 0.05 or more, as the verdict has it.

    ``frame``: ``label``, ``value``, ``low``, ``high``, maybe ``p``; a column ``key`` is given back on a click.
    """
    title = folded(title)
    made = figure(title, height=100 + 32 * max(2, len(frame)), x=folded(x, 32))
    sure = (frame["low"] > 0) | (frame["high"] < 0)
    if "p" in frame:
        sure &= frame["p"] < CLEAR
    colours = np.where(~sure, NEUTRAL, np.where(frame["value"] > 0, TUNED, FAULT))
    keys = frame["key"] if "key" in frame else frame["label"]
    drawn = frame.assign(key=keys, colour=colours, sure=sure)
    for (colour, clear), part in drawn.groupby(["colour", "sure"], sort=False):
        made.add_scatter(
            x=part["value"].tolist(),
            y=part["label"].tolist(),
            mode="markers",
            marker={
                "color": colour,
                "size": 12,
                "line": {"width": 2, "color": colour},
                "symbol": "circle" if clear else "circle-open",
            },
            error_x=errors(part, str(colour)),
            customdata=part[["key", "low", "high"]].astype(object).to_numpy().tolist(),
            hovertemplate="%{y}: %{x:+.3f} [%{customdata[1]:+.3f}, %{customdata[2]:+.3f}]<extra></extra>",
            selected=CHOSEN,
            unselected=OTHERS,
            showlegend=False,
        )
    made.update_layout(
        annotations=[
            {
                "x": 1.0, "xref": "paper", "xanchor": "left", "xshift": 6, "y": row["label"], "showarrow": False,
                "text": f"{_signed(row['value'])} [{_signed(row['low'])}, {_signed(row['high'])}]",
            }
            for row in frame.to_dict("records")
        ],
        margin_r=112,  # the numbers have a place of their own, so that no interval lies under them
    )  # fmt: skip
    made.add_vline(x=0, line={"color": AXIS, "width": 1.5, "dash": "dash"})
    made.update_yaxes(categoryorder="array", categoryarray=frame["label"].tolist()[::-1], gridcolor="rgba(0,0,0,0)")
    if len(frame):
        low, high = min(0.0, float(frame["low"].min())), max(0.0, float(frame["high"].max()))
        reach = max(0.05, high - low)
        made.update_xaxes(range=[low - 0.06 * reach, high + 0.06 * reach])
    return made


def trend(frame: pd.DataFrame, *, metric: str, x: str, title: str = "") -> go.Figure:
    """A score along versions, runs or time for up to seven groups, with intervals.

    ``frame``: ``place`` (where on the axis), ``at`` (what stands there), ``value``, ``low``, ``high``, ``group``, ``kind``
    (``base`` or ``tuned``), ``name``, ``key`` (given back on a click).
    """
    groups = list(dict.fromkeys(frame["group"]))[: len(SERIES)]
    title = folded(title)
    made = figure(title, height=340 + key_room(len(groups)), x=x, y=metric, legend=len(groups) > 1)
    colours = arm_colours(frame, groups, by="group")
    nudge = 0.04 if frame["place"].nunique() < 12 else 0.0
    for place, group in enumerate(groups):
        part = frame[frame["group"] == group].sort_values("place")
        made.add_scatter(
            x=(part["place"] + nudge * (place - (len(groups) - 1) / 2)).tolist(),
            y=part["value"].tolist(),
            mode="lines+markers",
            name=wrapped(str(group), 40),
            line={"color": colours[place], "width": 2},
            marker={"size": 10, "symbol": ("circle", "diamond", "square", "triangle-up", "cross", "star", "x")[place]},
            error_y=errors(part, colours[place], 1.5),
            customdata=part[["key", "name"]].to_numpy().tolist(),
            selected=CHOSEN,
            unselected=OTHERS,
            hovertemplate="%{customdata[1]}: %{y:,.3f}<extra></extra>",
        )
    ticks = frame.drop_duplicates("place").sort_values("place")
    ticks = ticks.iloc[:: max(1, -(-len(ticks) // 8))]
    made.update_xaxes(tickvals=ticks["place"].tolist(), ticktext=[wrapped(str(text), 18) for text in ticks["at"]])
    made.update_xaxes(range=[float(frame["place"].min()) - 0.5, float(frame["place"].max()) + 0.5])
    return made


def _score_axis(made: go.Figure, frame: pd.DataFrame) -> None:
    if len(frame) and frame["value"].max() <= 1.0 and frame["value"].min() >= 0:
        made.update_xaxes(range=[-0.04, 1.04], tickvals=[0, 0.25, 0.5, 0.75, 1])


def _signed(value: float) -> str:
    """``+0.33``, ``−0.05``; what rounds to zero has no sign."""
    return f"{value:+.2f}".replace("-", "−") if round(value, 2) else "0.00"
