"""Figures about a training run: loss and dev score by step, runs over each other. Knows nothing of trainers."""

from __future__ import annotations

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from core.evaluation.words import said_metric
from core.figures.style import BASE, GOLD, NEUTRAL, SERIES, SHADES, TUNED, figure, key_room, plain_axes, wrapped

FEW_STEPS = 10
"""Up to so many steps each has its mark on the axis; there are no halves of a step."""


SPANS = 100
"""A long run's loss is smoothed over so many stretches of it; a short one's over nine steps."""


def smoothed(values: pd.Series) -> pd.Series:
    """Exponential moving average, corrected for its start (Kingma and Ba 2015, section 3), as TensorBoard draws it."""
    return values.astype(float).ewm(span=max(9, len(values) / SPANS), adjust=True).mean()


def thinned(frame: pd.DataFrame, column: str, most: int = 1500) -> pd.DataFrame:
    """At most about ``most`` rows: of each stretch of steps the least and the greatest ``column``, so that a spike stays."""
    if len(frame) <= most:
        return frame
    values = frame[column].to_numpy(dtype=float)
    width = -(-len(values) // (most // 2))
    padded = np.full(-(-len(values) // width) * width, np.nan)
    padded[: len(values)] = values
    stretches = padded.reshape(-1, width)
    told = ~np.isnan(stretches).all(axis=1)
    begin = np.arange(len(stretches))[told] * width
    least, most_of = np.nanargmin(stretches[told], axis=1), np.nanargmax(stretches[told], axis=1)
    keep = np.unique(np.concatenate(([0, len(values) - 1], begin + least, begin + most_of)))
    return frame.iloc[keep]


def curves(
    steps: pd.DataFrame, dev: pd.DataFrame | None = None, *, title: str = "", score: str = "micro_f1", total: int | None = None
) -> go.Figure:
    """Loss (raw faint, smoothed over it) above, the dev score below, with shared steps.

    ``steps``: ``step``, ``loss``; a column ``eval_loss`` in ``dev`` is drawn with the loss. ``dev``: ``step`` and
    the column ``score`` names. ``total`` is the last step that is planned, so that the axis shows what is to come.
    """
    named = said_metric(score)
    scored = dev is not None and score in dev and bool(dev[score].notna().any())
    made = make_subplots(
        rows=2 if scored else 1, cols=1, shared_xaxes=True, vertical_spacing=0.08, row_heights=[0.6, 0.4] if scored else None
    )
    made.update_layout(figure(title, height=430 if scored else 320).layout)
    losses = steps[steps["loss"].notna()]
    line = "lines" if len(losses) > 1 else "lines+markers"  # a line through one point shows nothing
    raw, smooth = thinned(losses, "loss"), thinned(losses.assign(loss=smoothed(losses["loss"])), "loss")
    made.add_scatter(
        x=raw["step"].tolist(), y=raw["loss"].tolist(), mode=line, name="loss of each step",
        line={"color": SHADES["base"][3][3], "width": 1}, hovertemplate="step %{x:,}: loss %{y:.4f}<extra></extra>", row=1, col=1,
    )  # fmt: skip
    made.add_scatter(
        x=smooth["step"].tolist(), y=smooth["loss"].tolist(), mode=line, name="loss, smoothed",
        line={"color": BASE, "width": 3}, hovertemplate="step %{x:,}: smoothed %{y:.4f}<extra></extra>", row=1, col=1,
    )  # fmt: skip
    if dev is not None and "eval_loss" in dev:
        part = dev[dev["eval_loss"].notna()]
        made.add_scatter(
            x=part["step"].tolist(), y=part["eval_loss"].tolist(), mode="lines+markers", name="loss on dev",
            line={"color": GOLD, "width": 2}, marker={"symbol": "square", "size": 8},
            hovertemplate="step %{x:,}: dev loss %{y:.4f}<extra></extra>", row=1, col=1,
        )  # fmt: skip
    if scored and dev is not None:
        part = dev[dev[score].notna()]
        made.add_scatter(
            x=part["step"].tolist(), y=part[score].tolist(), mode="lines+markers", name=f"{named} on dev",
            line={"color": TUNED, "width": 2.5}, marker={"symbol": "diamond", "size": 9},
            hovertemplate=f"step %{{x:,}}: {named} %{{y:.3f}}<extra></extra>", row=2, col=1,
        )  # fmt: skip
        made.update_yaxes(title=f"{named}<br>(higher is better)", range=[-0.05, 1.05], row=2, col=1)
    plain_axes(made)
    made.update_yaxes(title="Loss<br>(lower is better)", rangemode="tozero", row=1, col=1)
    made.update_xaxes(title="Step", row=2 if scored else 1, col=1)
    if total:
        made.update_xaxes(range=[0, total * 1.01])
    if max([total or 0, *steps["step"].tail(1)]) <= FEW_STEPS:
        made.update_xaxes(dtick=1)
    made.update_layout(showlegend=True)
    return made


def overlay(
    runs: dict[str, pd.DataFrame], *, column: str = "loss", title: str = "", y: str = "Loss, smoothed (lower is better)"
) -> go.Figure:
    """A measured value of several runs over each other; at most seven. Frames: ``step`` and ``column``.

    Values of every step are smoothed; those of looks at dev (``dev_…``), which are few, stand as they are, with markers.
    """
    looks = column.startswith("dev_")
    made = figure(title, height=340 + key_room(len(runs)), x="Step", y=y, legend=len(runs) > 1)
    for place, (name, frame) in enumerate(list(runs.items())[: len(SERIES)]):
        there = frame[frame[column].notna()]
        part = there if looks else thinned(there.assign(**{column: smoothed(there[column])}), column)
        made.add_scatter(
            x=part["step"].tolist(), y=part[column].tolist(), mode="lines+markers" if looks else "lines", name=wrapped(name, 40),
            line={"color": SERIES[place], "width": 2.5, "dash": ("solid", "dash", "dot", "dashdot")[place % 4]},
            hovertemplate=f"{wrapped(name, 40)}, step %{{x:,}}: %{{y:.4f}}<extra></extra>",
        )  # fmt: skip
    return made


def measure(steps: pd.DataFrame, column: str, *, title: str = "", y: str = "") -> go.Figure:
    """One measured value by step (learning rate, tokens per second, memory). ``steps``: ``step`` and ``column``."""
    part = thinned(steps[steps[column].notna()], column)
    made = figure(title, height=220, x="Step", y=y or column)
    made.add_scatter(
        x=part["step"].tolist(), y=part[column].tolist(), mode="lines", line={"color": NEUTRAL, "width": 2}, showlegend=False
    )
    made.update_yaxes(rangemode="tozero")
    return made
