"""Import: elements whose cells hold several values, what separates them, and what that does to the first rows.

Nothing is split until it is chosen here. Knows nothing of how cells are taken apart (``core.data.several``).
"""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from core.data.readers.guessing import Guess
from core.data.readers.separators import KINDS, Several, separators_shown
from core.data.several import LINES, LIST
from pages.ui import formats, states

ONE = "one value"
ACROSS, ELEMENTS = 4, 24
"""Elements that are shown side by side, and in all; of further ones each cell is one value."""
_WORDS = {LINES: "Line breaks", LIST: "A JSON or Python list", " / ": "/ between blanks"}
_SIGNS = {_WORDS.get(kind[0], separators_shown(kind)): kind for kind in KINDS}
"""What can be chosen → the separators that it means."""


def choose(found: Guess, where: str) -> dict[str, list[str]]:
    """Element → separators, as chosen; ``where``: the file, whose choices are its own. Empty as long as nothing is split."""
    elements = [column for column, field in found.mapping.items() if field == "element"][:ELEMENTS]
    if not elements:
        return {}
    keys = {element: f"import_separator_{where}_{element}" for element in elements}
    likely = {one.column: one for one in found.suggested}
    chosen = {element: st.session_state.get(key) or ONE for element, key in keys.items()}
    open_ones = [one for element, one in likely.items() if chosen[element] == ONE]
    split = sum(sign != ONE for sign in chosen.values())
    told = f"{formats.plural(split, 'element')} split" if split else "none is split"
    if open_ones and not split:
        told = f"{formats.plural(len(open_ones), 'element seems', 'elements seem')} to have some"
    with st.expander(f"Cells with several values: {told}", expanded=bool(split or open_ones)):
        for one in open_ones:
            st.markdown(f"{_said(one)} look like several values{_example(one)}")
        if open_ones:
            signs = {keys[one.column]: _sign_of(one) for one in open_ones}
            label = f"Split {' and '.join(states.plain(one.column) for one in open_ones[:3])}{' …' if len(open_ones) > 3 else ''}"
            st.button(label, key="import_separators_suggested", on_click=st.session_state.update, args=(signs,))
        cells = []
        for place, element in enumerate(elements):
            if not place % ACROSS:
                cells = st.columns(min(ACROSS, len(elements)))
            with cells[place % ACROSS]:
                chosen[element] = st.selectbox(
                    states.plain(element), [ONE, *_SIGNS], key=keys[element], accept_new_options=True,
                    help="What separates the values in a cell. It can be typed, such as “ and ”. In quotes, in brackets and "
                    "inside numbers nothing separates. An element that is split is a list in every row.",
                ) or ONE  # fmt: skip
    return {element: list(_SIGNS.get(sign, (sign,))) for element, sign in chosen.items() if sign != ONE}


def show(several: Sequence[Several]) -> None:
    """What the chosen separators do to the cells of the first rows."""
    for one in several:
        st.markdown(f"{_said(one)} are split at {states.plain(one.shown)}{_example(one)}")


def _sign_of(one: Several) -> str:
    return next(sign for sign, kind in _SIGNS.items() if set(one.separators) <= set(kind))


def _said(one: Several) -> str:
    return f"**{states.plain(one.column)}**: {one.cells:,} of the first {formats.plural(one.filled, 'cell')}"


def _example(one: Several) -> str:
    """A cell and its values, told apart by what stands in no value."""
    if not one.examples:
        return "."
    cell, values = one.examples[0]
    return f", such as {_code(cell)} → {' '.join(map(_code, values))}"


def _code(text: str) -> str:
    """Text on a ground of its own, shortened, whatever signs are in it."""
    short = " ".join(text.split())
    return f":grey-background[{states.plain(short if len(short) <= 60 else short[:59] + '…')}]"
