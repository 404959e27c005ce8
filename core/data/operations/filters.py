"""Keeping or dropping rows by a condition on one column: its words, its length, its number, its elements.

A condition is a named test with a value, never an expression. Knows nothing of recipes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar, Literal, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import model_validator

from core.data.columns import column_values
from core.data.operations.base import Context, Mask, Operation, Outcome, State
from core.data.rules import blank, parse_column
from core.errors import UserError

Test = Literal[
    "contains", "equals", "starts_with", "ends_with", "matches", "one_of", "is_empty", "longer_than", "shorter_than",
    "greater_than", "less_than", "has_element",
]  # fmt: skip
Value = str | int | float | tuple[str, ...]


class Filter(Operation):
    """Rows that meet a condition on one column: dropped, or kept while the others go.

    ``column``: one of the rows' columns, or one that was imported beside them. Lengths are in characters;
    ``matches`` is a regular expression (RE2); ``greater_than`` and ``less_than`` read the cell as a number, and a
    cell that is none meets neither; ``has_element`` looks into the answer.
    """

    op: ClassVar[str] = "filter"
    title: ClassVar[str] = "Filter rows"
    column: str = "input"
    test: Test
    value: Value = ""
    action: Literal["keep", "drop"] = "drop"
    invert: bool = False
    ignore_case: bool = False

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.test in ("longer_than", "shorter_than", "greater_than", "less_than"):
            try:
                float(self.value)  # type: ignore[arg-type]
            except (TypeError, ValueError):
                raise ValueError(f"{self.test} needs a number, not {self.value!r}") from None
        elif (self.test == "one_of") != isinstance(self.value, tuple):
            raise ValueError("one_of needs a list of values, the other tests one value")
        return self

    def run(self, state: State, context: Context) -> Outcome:
        met = condition(state.rows, self.column, self.test, self.value, self.ignore_case)
        if self.invert:
            met = ~met
        words = self._words()
        if self.action == "keep":
            return self.drop(state, context, ~met, f"not: {words}")
        return self.drop(state, context, met, words)

    def _words(self) -> str:
        if self.test == "has_element":
            return f"the answer has {'no ' if self.invert else ''}{self.value}"
        shown = "" if self.test == "is_empty" else f" {', '.join(self.value) if isinstance(self.value, tuple) else self.value!r}"
        return f"{'not ' if self.invert else ''}{self.column} {self.test.replace('_', ' ')}{shown}"


_SEARCHES: dict[str, Callable[..., pa.ChunkedArray]] = {
    "contains": pc.match_substring,
    "starts_with": pc.starts_with,
    "ends_with": pc.ends_with,
    "matches": pc.match_substring_regex,
}


def condition(rows: pa.Table, column: str, test: str, value: Value, ignore_case: bool = False) -> Mask:
    """Rows whose cell meets a test. UserError for a column that isn't there or a wrong regular expression."""
    if test == "has_element":
        held = [value in answer.elements for answer in parse_column(rows["output"])]
        return np.array(held, dtype=np.bool_)
    cells = column_values(rows, column)
    if test == "is_empty":
        return blank(cells)
    if test in ("greater_than", "less_than"):
        return _compared(cells, test, float(value))  # type: ignore[arg-type]
    cells = pc.fill_null(cells, "")
    met: Mask
    if test in ("longer_than", "shorter_than"):
        lengths, limit = pc.utf8_length(cells), float(value)  # type: ignore[arg-type]
        met = (pc.greater(lengths, limit) if test == "longer_than" else pc.less(lengths, limit)).to_numpy()
    elif test in ("equals", "one_of"):
        wanted = [str(each) for each in (value if isinstance(value, tuple) else (value,))]
        if ignore_case:
            cells, wanted = pc.utf8_lower(cells), [each.lower() for each in wanted]
        met = pc.is_in(cells, pa.array(wanted, pa.large_string())).to_numpy()
    else:
        try:
            met = _SEARCHES[test](cells, str(value), ignore_case=ignore_case).to_numpy()
        except pa.ArrowInvalid as error:
            raise UserError(f"{value!r} is no regular expression: {error}", "RE2 syntax, without look-around.") from None
    return met


def _compared(cells: pa.ChunkedArray, test: str, limit: float) -> Mask:
    numbers = np.full(len(cells), np.nan)
    for place, cell in enumerate(cells.to_pylist()):
        try:
            numbers[place] = float(str(cell).replace(",", ""))
        except ValueError:
            continue
    met: Mask = numbers > limit if test == "greater_than" else numbers < limit
    return met
