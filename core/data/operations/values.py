"""Operations that take out of answers what doesn't belong there: unknown elements, values that aren't in the text.

What is left of an answer may say nothing, or less than another answer to the same question: such a row is put aside.
"""

from __future__ import annotations

from collections import Counter
from typing import Any, ClassVar, Literal, Self

import numpy as np
import pyarrow as pa
from pydantic import Field

from core.data.answers import canonical, parse_answer
from core.data.grounding import Source
from core.data.keys import question_codes, source_texts
from core.data.operations.base import Context, Outcome, State, then
from core.data.operations.items import AnswerOperation, Edit, Items
from core.data.rules import known_elements

Emptied = Literal["quarantine", "keep"]
"""What becomes of a row of whose answer nothing is left."""


class _TakingOut(AnswerOperation):
    """Base of both: values taken out of the answer, or the whole row taken out for them."""

    def _take_rows_out(self, state: State, context: Context, edit: Edit, *, aside: bool) -> Outcome:
        """Each row whose answer ``edit`` would change dropped, or put aside."""
        _, reasons = self.edited(state, edit)
        return self.drop_each(state, context, reasons, aside=aside)

    def _take_values_out(self, state: State, context: Context, edit: Edit, emptied: Emptied) -> Outcome:
        """Each answer without the values that ``edit`` takes out; where the rest says nothing of its own, the row is put aside.

        It is put aside as it was: a row with nothing left (unless ``emptied`` is ``keep``), and one of which another answer to
        the same question says all that is left, and more: the rest must not count as an answer against that one.
        """
        texts, reasons = self.edited(state, edit)
        aside = _outdone(state.rows, texts)
        if emptied == "quarantine":
            nothing_left = (place for place, text in texts.items() if not parse_answer(text).pairs)
            aside |= dict.fromkeys(nothing_left, "nothing is left of the answer")
        left = {place: text for place, text in texts.items() if place not in aside}
        first = self.put(state, context, "output", left, reasons)
        told = {place: f"{reasons[place]}; {why}" for place, why in aside.items()}
        return then(first, self.drop_each(first.state, context, told, aside=True))


class UnknownElements(_TakingOut):
    """Elements that the dataset doesn't have: taken out of the answer, or the row dropped or put aside.

    The dataset's elements are those given to it; none given: those in at least 1 % of the answered rows. A row of which
    another answer to the same question says all that is left, and more, is put aside, so that it can't conflict with that one.
    """

    op: ClassVar[str] = "unknown_elements"
    title: ClassVar[str] = "Remove unknown elements"
    action: Literal["drop_value", "drop_row", "quarantine"] = "drop_value"
    elements: tuple[str, ...] | None = Field(default=None, description="none: the dataset's")
    emptied: Emptied = Field(default="keep", description="a row that loses every value: kept as {}, or put aside")

    def resolved(self, state: State, context: Context) -> Self:
        if self.elements is not None:
            return self
        known, _ = known_elements(context.dataset, state.rows, context.elements)
        return self.model_copy(update={"elements": known})

    def run(self, state: State, context: Context) -> Outcome:
        known = set(self.resolved(state, context).elements or ())
        if not known:
            return self.unchanged(state)

        def edit(_: int, items: Items) -> tuple[Items, str] | None:
            unknown = list(dict.fromkeys(key for key, _ in items if key not in known))
            if not unknown:
                return None
            return [item for item in items if item[0] in known], f"unknown element: {', '.join(unknown)}"

        if self.action == "drop_value":
            return self._take_values_out(state, context, edit, self.emptied)
        return self._take_rows_out(state, context, edit, aside=self.action == "quarantine")


class UngroundedValues(_TakingOut):
    """Values that aren't in the text: taken out of the answer, or the row dropped or put aside. A row that loses every value is
    put aside: nobody said that there is nothing to find in it.

    So is one of which another answer to the same question says all that is left, and more. ``align`` instead writes values
    that match only when normalised (or nearly) as they stand in the text.
    """

    op: ClassVar[str] = "ungrounded_values"
    title: ClassVar[str] = "Remove values absent from the input"
    action: Literal["drop_value", "drop_row", "quarantine", "align"] = "drop_value"
    fuzzy: Literal["keep", "absent"] = Field(default="keep", description="whether a fuzzy match counts as found")
    emptied: Emptied = Field(default="quarantine", description="a row that loses every value: put aside, or kept as {}")

    def run(self, state: State, context: Context) -> Outcome:
        sources = source_texts(state.rows).to_pylist()

        def edit(place: int, items: Items) -> tuple[Items, str] | None:
            source = Source(sources[place])
            return self._align(items, source) if self.action == "align" else self._without_absent(items, source)

        if self.action == "drop_value":
            return self._take_values_out(state, context, edit, self.emptied)
        if self.action == "align":
            return self.rewrite(state, context, edit)
        return self._take_rows_out(state, context, edit, aside=self.action == "quarantine")

    def _absent(self, value: Any, source: Source) -> bool:
        kind = source.locate(canonical(value)).kind
        return kind == "absent" or (kind == "fuzzy" and self.fuzzy == "absent")

    def _without_absent(self, items: Items, source: Source) -> tuple[Items, str] | None:
        kept: Items = []
        absent: list[str] = []
        for key, value in items:
            values = value if isinstance(value, list) else [value]
            lost = [self._absent(item, source) for item in values]
            absent += [f"{key} = {canonical(item)}" for item, is_lost in zip(values, lost, strict=True) if is_lost]
            left = [item for item, is_lost in zip(values, lost, strict=True) if not is_lost]
            if not any(lost):
                kept.append((key, value))
            elif left:
                kept.append((key, left))
        return (kept, f"not in the text: {'; '.join(absent)}") if absent else None

    def _align(self, items: Items, source: Source) -> tuple[Items, str] | None:
        moved: list[str] = []

        def aligned(value: Any) -> Any:
            match = source.locate(value) if isinstance(value, str) else None
            usable = ("normalised", "fuzzy") if self.fuzzy == "keep" else ("normalised",)
            if match is None or match.kind not in usable:
                return value
            found = source.text[match.start : match.end]
            if found != value:
                moved.append(f"{value} ({match.kind})")
            return found

        new = [(key, [aligned(item) for item in value] if isinstance(value, list) else aligned(value)) for key, value in items]
        return (new, f"written as in the text: {'; '.join(moved)}") if moved else None


def _outdone(rows: pa.Table, texts: dict[int, str]) -> dict[int, str]:
    """Which of the new answers ``texts`` (by position) say less than another answer to the same question, and in which row.

    Less: all their values stand in the other answer (as it is after the step), which has more. Answers that are the same stay.
    """
    if not texts:
        return {}
    questions = question_codes(rows)
    asked = np.flatnonzero(np.isin(questions, questions[list(texts)])).tolist()
    outputs, names, talks = (rows[name].take(pa.array(asked)).to_pylist() for name in ("output", "row_id", "messages"))
    answers: dict[int, dict[str, Counter[tuple[str, str]]]] = {}
    for place, output, name, talk in zip(asked, outputs, names, talks, strict=True):
        answer = parse_answer(texts.get(place, output))
        if talk is None and answer.ok:
            answers.setdefault(int(questions[place]), {})[name] = Counter(answer.pairs)
    found: dict[int, str] = {}
    for place, text in texts.items():
        left = Counter(parse_answer(text).pairs)
        more = next((name for name, other in answers[int(questions[place])].items() if left < other), None)
        if more is not None:
            found[place] = f"{more} answers the same question with more"
    return found
