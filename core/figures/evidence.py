"""Figures about how far a score holds: slices against the rest, the learning curve.

Knows nothing of how slices are found or curves fitted.
"""

from __future__ import annotations

import pandas as pd
import plotly.graph_objects as go

from core.figures.style import (
    AXIS,
    CHOSEN,
    FAULT,
    NEUTRAL,
    OTHERS,
    TUNED,
    errors,
    figure,
    folded,
    top,
    wrapped,
)


def slice_points(
    frame: pd.DataFrame, *, metric: str, overall: float, higher_is_better: bool = True, title: str = ""
) -> go.Figure:
    """Slices with intervals, the worst on top, the score over all rows as a line; a clear one is filled, the others hollow.

    ``frame``, the worst first: ``label`` (unique), ``score``, ``low``, ``high``, ``rows``, ``difference``, ``clear``, ``key``
    (given back on a click).
    """
    title = folded(title)
    made = figure(title, height=92 + 34 * max(2, len(frame)), x=metric)
    worse = frame["difference"] < 0 if higher_is_better else frame["difference"] > 0
    for clear, colour, symbol, part in (
        (True, FAULT, "circle", frame[frame["clear"] & worse]),
        (True, NEUTRAL, "circle", frame[frame["clear"] & ~worse]),
        (False, NEUTRAL, "circle-open", frame[~frame["clear"]]),
    ):
        if part.empty:
            continue
        made.add_scatter(
            x=part["score"].tolist(),
            y=[wrapped(label, 44) for label in part["label"]],
            mode="markers",
            marker={"color": colour, "symbol": symbol, "size": 12, "line": {"width": 2}},
            error_x=errors(part.rename(columns={"score": "value"}), colour),
            customdata=part[["key", "rows", "low", "high"]].astype(object).to_numpy().tolist(),
            selected=CHOSEN,
            unselected=OTHERS,
            hovertemplate="%{y}, %{customdata[1]:,} rows: %{x:.3f} [%{customdata[2]:.3f}, %{customdata[3]:.3f}]<extra></extra>",
            name="clearly apart" if clear else "not clearly apart",
            showlegend=False,
        )  # fmt: skip
    made.add_vline(x=overall, line={"color": AXIS, "width": 1.5, "dash": "dash"})
    made.add_annotation(x=overall, y=1.0, yref="paper", yanchor="bottom", text=f"all rows {overall:.2f}", showarrow=False)
    order = [wrapped(label, 44) for label in frame["label"]][::-1]
    made.update_yaxes(categoryorder="array", categoryarray=order, gridcolor="rgba(0,0,0,0)", type="category")
    made.update_layout(margin=top(title))
    return made


def curve(points: pd.DataFrame, *, metric: str, expected: dict[str, float], title: str = "") -> go.Figure:
    """A learning curve: a point with its interval for each size, and what is expected of more, hollow and dashed.

    ``points``: ``rows``, ``score``, ``low``, ``high``, and ``runs``, the score of each training with another seed, drawn as a
    tick where there are several. ``expected``: ``rows``, ``value``, ``low``, ``high``.
    """
    title = folded(title)
    made = figure(title, height=330, x="Training rows (logarithmic)", y=metric)
    ordered = points.sort_values("rows")
    single = [
        (rows, score) for rows, runs in zip(ordered["rows"], ordered["runs"], strict=True) for score in runs if len(runs) > 1
    ]
    if single:
        made.add_scatter(
            x=[rows for rows, _ in single], y=[score for _, score in single], mode="markers", showlegend=False,
            marker={"color": TUNED, "symbol": "line-ew-open", "size": 16, "line": {"width": 2}},
            hovertemplate="one training on %{x:,} rows: %{y:.3f}<extra></extra>",
        )  # fmt: skip
    made.add_scatter(
        x=[ordered["rows"].iloc[-1], expected["rows"]], y=[ordered["score"].iloc[-1], expected["value"]], mode="lines",
        line={"color": TUNED, "width": 2, "dash": "dot"}, showlegend=False, hoverinfo="skip",
    )  # fmt: skip
    ahead = pd.DataFrame([{"rows": expected["rows"], "score": expected["value"], **{k: expected[k] for k in ("low", "high")}}])
    for frame, mode, symbol, words in (
        (ordered, "lines+markers", "diamond", ""),
        (ahead, "markers", "diamond-open", "expected "),
    ):
        made.add_scatter(
            x=frame["rows"].tolist(),
            y=frame["score"].tolist(),
            mode=f"{mode}+text",
            text=[f"{words}{score:.2f}" for score in frame["score"]],
            textposition=["bottom right" if words == "" and not n else "top left" for n in range(len(frame))],  # inside the axes
            line={"color": TUNED, "width": 2},
            marker={"color": TUNED, "symbol": symbol, "size": 12, "line": {"width": 2}},
            error_y=errors(frame.rename(columns={"score": "value"}), TUNED),
            customdata=frame[["low", "high"]].to_numpy().tolist(),
            hovertemplate="%{x:,} rows: %{y:.3f} [%{customdata[0]:.3f}, %{customdata[1]:.3f}]<extra></extra>",
            showlegend=False,
        )  # fmt: skip
    ticks = [*ordered["rows"].tolist(), expected["rows"]]
    made.update_xaxes(type="log", tickvals=ticks, ticktext=[f"{round(rows):,}" for rows in ticks])
    return made
