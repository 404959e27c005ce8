"""Import: which column of a file is what, as guessed, each to be changed, and which columns are elements.

Knows nothing of how files are read.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import streamlit as st

from core.data.mapping import BESIDE_ELEMENTS, FIELDS, guess_beside_elements
from pages.ui import states

UNUSED = "not used"
COLUMNS = 24
"""Columns that are shown to be changed; further ones stay as guessed."""
ACROSS = 4
"""Columns that are shown side by side."""
TABLES = ("", "flat")
"""Shapes whose columns can be elements; ``""``: no shape fits yet."""


def mapping(
    shape: str, columns: Sequence[str], guessed: Mapping[str, str], likely: Mapping[str, str] | None = None
) -> dict[str, str]:
    """Which column is which, and which are elements; empty as long as all stay as ``guessed``.

    ``likely``: column → field as the cells tell, which the choice of elements begins with.
    """
    if not columns:
        return {}
    st.markdown("**Which column is what**")
    elements = _elements(columns, likely or {}) if shape in TABLES and len(columns) > 1 else {}
    if not elements:
        return _fields(shape, columns, guessed, [field for field in FIELDS if field not in ("element", "extra")])
    text = {column: field for column, field in (likely or {}).items() if field == "input" and column not in elements}
    beside = {column: field for column, field in guess_beside_elements(columns, text | elements).items() if field != "element"}
    rest = [column for column in columns if column not in elements]
    return beside | _fields("columns", rest, beside, [field for field in BESIDE_ELEMENTS if field != "extra"]) | elements


def missing(chosen: Mapping[str, str]) -> str:
    """What is still to be chosen before a mapping names a text and an answer; empty if nothing is."""
    fields = set(chosen.values())
    text = bool(fields & {"input", "instruction"})
    if "element" in fields:
        return "" if text else "Choose which column holds the text (input)."
    if text and "output" in fields:
        return ""
    return (
        "Choose which column holds the text (input) and which the answer (output), or which columns are elements: "
        "their names don't tell."
    )


def _elements(columns: Sequence[str], likely: Mapping[str, str]) -> dict[str, str]:
    standing = [column for column in columns if likely.get(column) == "element"]
    chosen = st.multiselect(
        "Columns that are elements",
        columns,
        standing,
        key=f"import_element_columns_{'|'.join(columns)}",
        placeholder="none: the answer is in one column",
        help="For a table with a column for each element. The answer of a row is made of its cells that aren't empty; "
        "the headings name the elements.",
    )
    if standing and set(chosen) == set(standing):
        text = next(column for column, field in likely.items() if field == "input")
        st.caption(f"Chosen since their cells stand in {states.plain(text)}. Change it where that isn't what is to be found.")
    return dict.fromkeys((column for column in columns if column in chosen), "element")


def _fields(shape: str, columns: Sequence[str], guessed: Mapping[str, str], fields: Sequence[str]) -> dict[str, str]:
    """What is chosen for each column; empty as long as all stay as ``guessed``.

    A column that is set to be unused is named as ``extra``, for one that isn't named would be guessed again.
    """
    if not columns:
        return {}
    options = [UNUSED, *fields]
    chosen: dict[str, str] = {}
    cells = []
    for place, column in enumerate(columns[:COLUMNS]):
        across = place % ACROSS
        if not across:  # a row of its own each time, so that the order is the file's on a narrow screen too
            cells = st.columns(min(ACROSS, len(columns)))
        with cells[across]:
            field = guessed.get(column, UNUSED)
            chosen[column] = st.selectbox(
                column,
                options,
                index=options.index(field) if field in options else 0,
                format_func=lambda name: "kept beside" if name == UNUSED else name,
                key=f"import_column_{shape}_{column}",
            )
    if UNUSED in chosen.values():
        st.caption("A column that is kept beside is no part of question and answer: it stays with its row, and is exported.")
    as_guessed = {column: field if (field := guessed.get(column, UNUSED)) in options else UNUSED for column in chosen}
    if chosen == as_guessed:
        return {}
    rest = {column: field for column, field in guessed.items() if column not in chosen}
    return rest | {column: "extra" if field == UNUSED else field for column, field in chosen.items()}
