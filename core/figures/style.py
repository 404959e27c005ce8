"""Colours with a meaning, the same in every figure and page, and the common layout.

The five were chosen so that every pair stays apart under protanopia, deuteranopia and
tritanopia, on white and on near-black (``tests/figures/test_figures.py`` simulates it).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import pandas as pd
import plotly.graph_objects as go

BASE = "#4c6ba6"
"""The base model or the prompt alone."""
TUNED = "#f38120"
"""A fine-tune."""
GOLD = "#3bb76e"
"""The gold answer; what is right."""
FAULT = "#c12224"
"""What is wrong."""
NEUTRAL = "#9da2a9"
"""Everything else."""
SERIES = (BASE, TUNED, GOLD, FAULT, NEUTRAL, "#8d6bb0", "#b59a2a")
"""At most seven series, in this order."""
OTHER_SERIES = (BASE, "#8d6bb0", "#b59a2a", NEUTRAL)
"""For things that are neither tuned nor right nor wrong: templates, tokenizers; at most four."""
SHADES = {
    "base": ((BASE,), (BASE, "#9aadd0"), (BASE, "#2f4470", "#9aadd0"), (BASE, "#2f4470", "#9aadd0", "#7d8fae")),
    "tuned": ((TUNED,), (TUNED, "#a8500a"), (TUNED, "#a8500a", "#f9bd8a"), (TUNED, "#a8500a", "#f9bd8a", "#d0681a")),
}
"""Shades for several arms of one kind: lightness tells them apart, the hue keeps its meaning; never that of gold or a fault."""
GRID = "rgba(157,162,169,0.22)"
AXIS = "rgba(157,162,169,0.55)"
AXIS_DARK = "#7b8087"
"""Lines over bars of any colour, on either ground."""
BAR_GAP = 0.28
"""Share of a group's place that is left empty."""
_WORD = re.compile(r"[⺀-鿿豈-﫿][，。、；：！？）》」』”]*\s*|[^\s⺀-鿿豈-﫿]+\s*")
"""What stays on one line: a word, or a Chinese character with the punctuation after it."""
HATCH: dict[str, Any] = {"shape": "/", "fillmode": "overlay", "fgcolor": "#ffffff", "fgopacity": 0.45, "size": 5}
"""A pattern over a colour, so that it isn't told by its colour alone."""
CHOSEN: dict[str, Any] = {"marker": {"opacity": 1.0}, "textfont": {"color": NEUTRAL}}
OTHERS: dict[str, Any] = {"marker": {"opacity": 0.4}, "textfont": {"color": NEUTRAL}}
"""A mark that was clicked, and the others of its figure."""
HIDDEN: dict[str, Any] = {
    "marker": {"size": 9, "opacity": 0},
    "selected": {"marker": {"opacity": 1}},
    "unselected": {"marker": {"opacity": 0}},
}
"""Marks along a line that show only where they were clicked: a line without marks can't be."""


def figure(title: str = "", *, height: int = 340, x: str = "", y: str = "", legend: bool = False, **layout: Any) -> go.Figure:
    """An empty figure in the common layout; ``title`` is the finding, ``x`` and ``y`` name the axes with their units.

    A key stands in a line of its own under the title, wraps where the window is narrow, and pushes the plot down.
    """
    pad = {"t": 17 if "<br>" in title else 6}  # Plotly sets a title of several lines 11 pixels too high
    made = go.Figure()
    made.update_layout(
        title={"text": title, "font": {"size": 15}, "x": 0, "xanchor": "left", "y": 1, "yanchor": "top", "pad": pad},
        height=height,
        margin={"l": 8, "r": 16, "b": 8, **top(title, 12)},
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        showlegend=legend,
        legend={"orientation": "h", "yref": "container", "yanchor": "top", "y": 1 - top(title, 0)["t"] / height, "x": 0},
        hoverlabel={"align": "left"},
        bargap=BAR_GAP,
        **layout,
    )
    plain_axes(made)
    made.update_xaxes(title=x)
    made.update_yaxes(title=y)
    return made


def plain_axes(made: go.Figure) -> None:
    """The look of all axes of a figure: faint lines, thousands separated (``1,204``, never ``1.2k``)."""
    look: dict[str, Any] = {"gridcolor": GRID, "zeroline": False, "automargin": True, "ticks": "", "linecolor": AXIS}
    look |= {"separatethousands": True, "exponentformat": "none"}
    made.update_xaxes(**look)
    made.update_yaxes(**look)


def shades(kind: str, count: int) -> tuple[str, ...]:
    """``count`` colours for arms of a kind (``base`` or ``tuned``); from the fifth on they come round again."""
    family = SHADES[kind]
    return tuple(family[min(count, len(family)) - 1][place % len(family)] for place in range(count))


def arm_colours(frame: pd.DataFrame, arms: Sequence[str], by: str = "arm") -> list[str]:
    """A shade for each arm (of the column ``by``) by its ``kind``: blue for the prompt alone, orange for a fine-tune."""
    kinds = [str(frame.loc[frame[by] == arm, "kind"].iloc[0]) for arm in arms]
    left = {kind: iter(shades(kind, kinds.count(kind))) for kind in set(kinds)}
    return [next(left[kind]) for kind in kinds]


def folded(title: str, width: int = 46) -> str:
    """A finding over several lines, so that it can be read on a telephone; a Chinese character is two wide."""
    found, line = [], ""
    for word in _WORD.findall(title):
        if line and wrapped((line + word).rstrip(), width) != (line + word).rstrip():
            found.append(line.rstrip())
            line = ""
        line += word
    return "<br>".join([*found, line.rstrip()])


def top(title: str, bare: int = 34) -> dict[str, int]:
    """The margin above a figure: ``bare`` pixels for what stands there, and the title's lines."""
    return {"t": bare + (32 + 20 * title.count("<br>") if title else 0)}


def errors(part: pd.DataFrame, colour: str, thickness: float = 2.5) -> dict[str, Any]:
    """Plotly's error bars of ``value`` from ``low`` to ``high``; none where an interval is missing."""
    return {
        "type": "data", "symmetric": False, "array": (part["high"] - part["value"]).fillna(0).tolist(),
        "arrayminus": (part["value"] - part["low"]).fillna(0).tolist(), "color": colour, "thickness": thickness, "width": 0,
    }  # fmt: skip


def wrapped(text: str, width: int = 28) -> str:
    """A label cut to ``width`` columns (a Chinese character is two wide), an ellipsis where it was cut."""
    from unicodedata import east_asian_width

    used = 0
    for place, character in enumerate(text):
        used += 2 if east_asian_width(character) in "WF" else 1
        if used > width:
            return text[: max(1, place - 1)] + "…"
    return text


def labels(texts: Sequence[str], width: int = 30, lines: int = 2) -> list[str]:
    """Names beside an axis: over ``lines`` (1 or 2) of ``width`` columns, cut after that unless two would then look the same."""
    cut = [wrapped(text, width if lines == 1 else 2 * width - 4) for text in texts]
    told_apart = [name if cut.count(name) == texts.count(text) else text for text, name in zip(texts, cut, strict=True)]
    return told_apart if lines == 1 else [folded(name, width) for name in told_apart]


def key_room(entries: int) -> int:
    """Height in pixels that a key of so many long names may take away from the plot in a narrow window."""
    return 12 * max(0, entries - 1)
