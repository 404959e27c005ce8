"""Figures about token lengths: how long rows are and what a maximum length cuts. Knows nothing of tokenizers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import plotly.graph_objects as go

from core.figures.style import (
    AXIS,
    BASE,
    CHOSEN,
    FAULT,
    HATCH,
    HIDDEN,
    NEUTRAL,
    OTHER_SERIES,
    OTHERS,
    figure,
    key_room,
    top,
    wrapped,
)

LONG_TAIL = 4
"""From this many times the 95th percentile on, the longest row makes the axis logarithmic."""
MOST_STEPS = 1_000
"""Points of an ECDF: more can't be seen."""
TICKS = tuple(base * 10**power for power in range(6) for base in (1, 2, 5))


def histogram(tokens: Sequence[int], max_length: int, *, title: str = "", bins: int = 40) -> go.Figure:
    """Whole rows' lengths in tokens as a histogram, their ECDF over it, and the line of ``max_length``.

    Bars beyond the line are red and hatched. ``tokens``: one length a row, at least one. No row is hidden: the axis
    reaches the longest row or the line, and is logarithmic where a few rows are far longer than the rest. A click gives the
    lengths ``[first, last]`` of a bar, on the curve those of the bar that it passes.
    """
    values, rows = _counted(tokens)
    reach = max(int(values[-1]), max_length)
    skewed = _is_skewed(values, rows, reach)
    low = max(1, int(values[0])) if skewed else 0
    edges = _edges(low, reach, bins, skewed)
    made = figure(title, height=360, x="Tokens of a whole row (prompt and answer)", y="Rows")
    _add_bars(made, np.histogram(values, bins=edges, weights=rows)[0].astype(np.int64), edges, max_length)
    _add_shares(made, *_ecdf(values, rows), edges, (low, reach))
    fits = float(rows[values <= max_length].sum() / rows.sum())
    made.add_vline(x=max_length, line={"color": AXIS, "width": 2, "dash": "dash"})
    left = max_length > 0.6 * reach
    made.add_annotation(
        x=np.log10(max_length) if skewed else max_length,
        y=1.0,
        yref="paper",
        text=f"max length {max_length:,}: {_share(fits)} of rows fit",
        showarrow=False,
        xanchor="right" if left else "left",
        yanchor="bottom",
        xshift=-4 if left else 4,
    )
    made.update_layout(margin={"r": 8, **top(title, 28)})
    if skewed:
        _make_logarithmic(made, low, reach)
    else:
        made.update_xaxes(range=[0, reach * 1.02 + 1])
    return made


def _add_bars(made: go.Figure, counts: npt.NDArray[np.int64], edges: npt.NDArray[np.int64], max_length: int) -> None:
    """Rows in each bin, red and hatched from the first bin on that begins beyond ``max_length``."""
    over = edges[:-1] > max_length
    for mask, colour, shape, words in ((~over, BASE, "", "fits"), (over, FAULT, "/", "too long")):
        if counts[mask].sum() == 0:
            continue
        made.add_bar(
            x=((edges[:-1] + edges[1:]) / 2)[mask].tolist(),
            y=counts[mask].tolist(),
            width=(np.diff(edges) * 0.92)[mask].tolist(),
            name=words,
            marker={"color": colour, "pattern": {**HATCH, "shape": shape}},
            customdata=np.stack([edges[:-1][mask], edges[1:][mask] - 1], axis=1).tolist(),
            selected=CHOSEN,
            unselected=OTHERS,
            hovertemplate="%{customdata[0]:,} to %{customdata[1]:,} tokens: %{y:,} rows<extra></extra>",
        )


def _add_shares(made: go.Figure, at: list[int], shares: list[float], edges: npt.NDArray[np.int64], span: tuple[int, int]) -> None:
    """The ECDF on an axis of its own at the right, from one end of ``span`` to the other; a click gives the bar below."""
    ends = [span[0], *at, span[1]]
    bar = (np.searchsorted(edges, ends, side="right") - 1).clip(0, len(edges) - 2)
    made.add_scatter(
        x=ends,
        y=[0.0, *shares, 1.0],
        customdata=np.stack([edges[bar], edges[bar + 1] - 1], axis=1).tolist(),
        mode="lines+markers",
        **HIDDEN,
        line={"color": NEUTRAL, "width": 2.5, "shape": "hv"},
        name="share of rows up to this length",
        yaxis="y2",
        hovertemplate="%{y:.1%} of rows have at most %{x:,} tokens<extra></extra>",
    )
    made.update_layout(
        yaxis2={
            "overlaying": "y", "side": "right", "range": [0, 1.04], "tickformat": ".0%", "showgrid": False,
            "title": "Share of rows", "automargin": True, "zeroline": False, "tickvals": [0, 0.25, 0.5, 0.75, 1],
        },
    )  # fmt: skip


def _counted(tokens: Sequence[int] | npt.NDArray[np.int64]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """The different lengths, ascending, and how many rows have each."""
    counts = np.bincount(np.asarray(tokens, dtype=np.int64))
    values = np.flatnonzero(counts)
    return values, counts[values]


def _ecdf(values: npt.NDArray[np.int64], rows: npt.NDArray[np.int64]) -> tuple[list[int], list[float]]:
    """Where the share of rows steps up, and to what: a point for each different length, thinned out beyond ``MOST_STEPS``.

    A point a row would be twelve megabytes of a million rows.
    """
    shares = np.cumsum(rows) / rows.sum()
    if len(values) > MOST_STEPS:
        wanted = np.unique(np.searchsorted(shares, np.linspace(shares[0], 1.0, MOST_STEPS)).clip(0, len(values) - 1))
        values, shares = values[wanted], shares[wanted]
    return values.tolist(), shares.tolist()


def _is_skewed(values: npt.NDArray[np.int64], rows: npt.NDArray[np.int64], top: int) -> bool:
    """Whether a few of the lengths, or the line, lie so far out that the rest would be squeezed together."""
    most = values[np.searchsorted(np.cumsum(rows), int(0.95 * (rows.sum() - 1)), side="right")]
    return top > LONG_TAIL * max(1, int(most))


def _make_logarithmic(made: go.Figure, low: int, top: int) -> None:
    ends = [np.log10(low * 0.95), np.log10(top * 1.06)]
    ticks = [tick for tick in TICKS if low <= tick <= top * 1.06]
    made.update_xaxes(type="log", range=ends, tickvals=ticks, ticktext=[f"{tick:,}" for tick in ticks])


def _edges(low: int, top: int, bins: int, skewed: bool) -> npt.NDArray[np.int64]:
    """Whole-numbered edges of bins that are equally wide, or equally wide on a logarithmic axis."""
    if skewed:
        return np.unique(np.round(np.geomspace(low, top + 1, bins + 1)).astype(np.int64))
    width = max(1, -(-(top + 1) // bins))
    return np.arange(0, top + width + 1, width, dtype=np.int64)


def ecdf_overlay(series: dict[str, Sequence[int]], *, title: str = "", x: str = "Tokens of a whole row") -> go.Figure:
    """ECDFs of several templates or tokenizers over each other, at most four. A click gives ``[name, length]``."""
    made = figure(title, height=320 + key_room(len(series)), x=x, y="Share of rows")
    for place, (name, tokens) in enumerate(list(series.items())[: len(OTHER_SERIES)]):
        if not len(tokens):
            continue
        at, shares = _ecdf(*_counted(tokens))
        made.add_scatter(
            x=[at[0], *at],
            y=[0.0, *shares],
            customdata=[[name, end] for end in (at[0], *at)],
            mode="lines+markers",
            **HIDDEN,
            name=name,
            line={
                "color": OTHER_SERIES[place],
                "width": 2,
                "dash": ("solid", "dash", "dot", "dashdot")[place % 4],
                "shape": "hv",
            },
            hovertemplate=f"{wrapped(name)}: %{{y:.1%}} of rows have at most %{{x:,}} tokens<extra></extra>",
        )
    drawn = np.concatenate([np.asarray(tokens, dtype=np.int64) for tokens in series.values()])
    values, rows = _counted(drawn) if len(drawn) else (drawn, drawn)
    if len(drawn) and _is_skewed(values, rows, int(values[-1])):
        _make_logarithmic(made, max(1, int(values[0])), int(values[-1]))
    made.update_layout(showlegend=True)
    made.update_yaxes(tickformat=".0%", range=[0, 1.04])
    return made


def group_ranges(groups: dict[str, dict[str, Any]], max_length: int, *, title: str = "") -> go.Figure:
    """Lengths by group as median, 95 % and longest on one line each, with the line of ``max_length``.

    ``groups`` maps a name to ``core.lengths.summary`` of its rows; the first twelve are drawn. A click gives ``[name, length]``.
    """
    names = list(groups)[:12][::-1]
    wholes = [groups[name]["whole"] for name in names]
    labels = [wrapped(name or "none") for name in names]
    made = figure(title, height=130 + 34 * len(names), x="Tokens of a whole row", legend=True)
    for name, label, whole in zip(names, labels, wholes, strict=True):
        ends = [whole["p50"], whole["max"]]
        made.add_scatter(
            x=ends, y=[label, label], mode="lines", line={"color": NEUTRAL, "width": 2}, showlegend=False, hoverinfo="skip",
            name=name,
        )  # fmt: skip
    for key, words, symbol in (("p50", "half of the rows", "circle"), ("p95", "95 %", "diamond"), ("max", "longest", "line-ns")):
        values = [whole[key] for whole in wholes]
        made.add_scatter(
            x=values, y=labels, mode="markers", name=words, customdata=list(zip(names, values, strict=True)),
            selected=CHOSEN, unselected=OTHERS,
            marker={
                "symbol": symbol, "size": 11, "color": BASE, "line": {"width": 2, "color": BASE},
            },
            hovertemplate=f"%{{y}}, {words}: %{{x:,}} tokens<extra></extra>",
        )  # fmt: skip
    made.add_vline(x=max_length, line={"color": AXIS, "width": 2, "dash": "dash"})
    if (top := max(whole["max"] for whole in wholes)) > LONG_TAIL * max(1, *(whole["p95"] for whole in wholes)):
        _make_logarithmic(made, max(1, min(whole["p50"] for whole in wholes) // 2), top)
    else:
        made.update_xaxes(rangemode="tozero")
    made.update_yaxes(gridcolor="rgba(0,0,0,0)")
    return made


def density_bars(series: dict[str, dict[str, float]], *, title: str = "") -> go.Figure:
    """Characters that one token holds, by language, for at most four tokenizers; more is better."""
    kinds = list(dict.fromkeys(kind for found in series.values() for kind in found))[::-1]
    words = {"zh": "Chinese", "en": "English", "mixed": "mixed"}
    drawn = list(series.items())[: len(OTHER_SERIES)]
    made = figure(
        title,
        height=110 + 26 * len(kinds) * len(drawn),
        x="Characters one token holds (more: shorter rows)",
        legend=len(drawn) > 1,
    )
    for place, (name, found) in list(enumerate(drawn))[::-1]:
        made.add_bar(
            y=[words.get(kind, kind) for kind in kinds], x=[found.get(kind) for kind in kinds], orientation="h", name=name,
            marker={"color": OTHER_SERIES[place], "pattern": {**HATCH, "shape": ("", "/", "x", ".")[place % 4]}},
            text=["" if kind not in found else f"{found[kind]:.2f}" for kind in kinds], textposition="auto",
            hovertemplate=f"{wrapped(name)}, %{{y}}: %{{x:.2f}} characters a token<extra></extra>",
        )  # fmt: skip
    made.update_layout(barmode="group", legend_traceorder="reversed")
    made.update_yaxes(gridcolor="rgba(0,0,0,0)")
    return made


def budget_bars(parts: dict[str, tuple[int, int]], *, title: str = "") -> go.Figure:
    """What an epoch computes on: ``parts`` maps a way of batching to (useful tokens, padding tokens)."""
    made = figure(title, height=110 + 34 * len(parts), x="Tokens of an epoch", legend=True)
    names = list(parts)[::-1]
    made.add_bar(y=names, x=[parts[n][0] for n in names], orientation="h", name="tokens of rows", marker={"color": BASE})
    made.add_bar(
        y=names,
        x=[parts[n][1] for n in names],
        orientation="h",
        name="padding",
        marker={"color": NEUTRAL, "pattern": HATCH},
    )
    made.update_layout(barmode="stack", legend_traceorder="normal")
    made.update_traces(hovertemplate="%{y}: %{x:,} %{fullData.name}<extra></extra>")
    made.update_yaxes(gridcolor="rgba(0,0,0,0)")
    return made


def _share(share: float) -> str:
    percent = share * 100
    if 99.9 < percent < 100:
        return ">99.9 %"
    if 0 < percent < 0.1:
        return "<0.1 %"
    return f"{percent:.0f} %" if percent in (0, 100) else f"{percent:.1f} %"
