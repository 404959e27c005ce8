"""Figures about how answers come out beside gold: their lengths, and how likely the model finds the gold answers.

Knows nothing of metrics or of how likelihoods were measured.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from core.figures.style import (
    AXIS,
    CHOSEN,
    HIDDEN,
    OTHERS,
    arm_colours,
    errors,
    figure,
    folded,
    key_room,
    wrapped,
)

SYMBOLS = ("circle", "diamond", "square", "triangle-up")


def length_calibration(frame: pd.DataFrame, *, title: str = "") -> go.Figure:
    """How long answers are where gold is so long, for up to four arms; the dashed line is as long as gold.

    ``frame``: ``arm``, ``kind`` (``base`` or ``tuned``), ``gold`` (characters), ``value`` (mean characters of the answers),
    ``low``, ``high``, ``rows``, ``first`` and ``last`` (the characters of gold that the point stands for), ``key`` (of the
    arm). A click gives ``[key, first, last, rows]``.
    """
    arms = list(dict.fromkeys(frame["arm"]))[: len(SYMBOLS)]
    title = folded(title)
    made = figure(title, height=360 + key_room(len(arms)), legend=len(arms) > 1)
    made.update_xaxes(title="Characters of the gold answer", rangemode="tozero")
    made.update_yaxes(title="Characters of the answer", rangemode="tozero")
    most = float(max(frame["gold"].max(), 1)) if len(frame) else 1.0
    made.add_scatter(
        x=[0, most], y=[0, most], mode="lines", line={"color": AXIS, "width": 1.5, "dash": "dash"}, hoverinfo="skip",
        showlegend=False,
    )  # fmt: skip
    made.add_annotation(x=most, y=most, text="as long as gold", showarrow=False, xanchor="right", yanchor="bottom", yshift=12)
    for place, (arm, colour) in enumerate(zip(arms, arm_colours(frame, arms), strict=True)):
        part = frame[frame["arm"] == arm].sort_values("gold")
        made.add_scatter(
            x=part["gold"].tolist(), y=part["value"].tolist(), mode="lines+markers", name=wrapped(arm, 40),
            line={"color": colour, "width": 2}, marker={"size": 10, "symbol": SYMBOLS[place]},
            error_y=errors(part, colour, 1.5), selected=CHOSEN, unselected=OTHERS,
            customdata=part[["key", "first", "last", "rows"]].astype(object).to_numpy().tolist(),
            hovertemplate="gold of %{customdata[1]:,} to %{customdata[2]:,} characters, %{customdata[3]:,} rows: "
            f"answers of %{{y:,.0f}}<extra>{wrapped(arm, 30)}</extra>",
        )  # fmt: skip
    return made


def likelihoods(frame: pd.DataFrame, *, title: str = "") -> go.Figure:
    """Share of the gold answers whose perplexity is at most so much (ECDF), for up to four arms; medians are marked.

    ``frame``: ``arm``, ``kind``, ``key`` (of the arm), ``perplexity`` (of one row's gold answer given its prompt). A click
    gives ``[key, perplexity]``.
    """
    arms = list(dict.fromkeys(frame["arm"]))[: len(SYMBOLS)]
    title = folded(title)
    made = figure(
        title,
        height=360 + key_room(len(arms)),
        x="Perplexity of a gold answer (lower is better)",
        y="Share of rows",
        legend=len(arms) > 1,
    )
    for place, (arm, colour) in enumerate(zip(arms, arm_colours(frame, arms), strict=True)):
        mine = frame[frame["arm"] == arm]
        key, middle = str(mine["key"].iloc[0]), float(mine["perplexity"].median())
        values = np.sort(mine["perplexity"].to_numpy(dtype=float))
        at = np.unique(np.linspace(0, len(values) - 1, min(len(values), 400)).astype(int))
        made.add_scatter(
            x=values[at].tolist(), y=((at + 1) / len(values)).tolist(), mode="lines+markers",
            name=f"{wrapped(arm, 34)}, median {middle:,.2f}", customdata=[[key, value] for value in values[at].tolist()],
            line={"color": colour, "width": 2.5, "shape": "hv", "dash": ("solid", "dash", "dot", "dashdot")[place]},
            **HIDDEN,
            hovertemplate=f"%{{y:.0%}} of rows at %{{x:,.2f}} or less<extra>{wrapped(arm, 30)}</extra>",
        )  # fmt: skip
        made.add_scatter(
            x=[middle], y=[0.5], mode="markers", showlegend=False,
            marker={"color": colour, "size": 11, "symbol": SYMBOLS[place]},
            customdata=[[key, middle]], selected=CHOSEN, unselected=OTHERS,
            hovertemplate=f"{wrapped(arm, 30)}: median %{{x:,.2f}}<extra></extra>",
        )  # fmt: skip
    low, high = (float(end) for end in np.log10([frame["perplexity"].min(), frame["perplexity"].max()]))
    ticks = [m * 10.0**k for k in range(int(low) - 1, int(high) + 2) for m in (1, 2, 5) if low <= np.log10(m) + k <= high]
    made.update_xaxes(type="log", tickvals=ticks[:: 1 if len(ticks) < 9 else 3] if len(ticks) > 2 else None)
    made.update_yaxes(range=[0, 1.02], tickformat=".0%")
    return made
