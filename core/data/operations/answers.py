"""Operations on extraction answers: unreadable JSON, unknown elements, values that aren't in the text, shapes and names.

Rows whose answer can't be read are left alone by all but ``FixJson``, conversations by all.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any, ClassVar, Literal, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field

from core.data.answers import canonical, dump_answer, load_object, parse_answer
from core.data.grounding import Source
from core.data.keys import question_codes, source_texts
from core.data.operations.base import Context, Operation, Outcome, State, then
from core.data.repair import propose_repair
from core.data.rules import known_elements, unreadable_answers

Items = list[tuple[str, Any]]
Emptied = Literal["quarantine", "keep"]
"""What becomes of a row of whose answer nothing is left."""


class FixJson(Operation):
    """Answers that are no JSON object: the row dropped, put aside, or its JSON repaired.

    A repair is a proposal to be looked at in the preview; rows that can't be repaired are treated as ``otherwise`` says.
    """

    op: ClassVar[str] = "fix_json"
    title: ClassVar[str] = "Drop, put aside or repair broken JSON"
    action: Literal["drop", "quarantine", "repair"] = "quarantine"
    otherwise: Literal["keep", "drop", "quarantine"] = Field(default="keep", description="what a failed repair does")

    def run(self, state: State, context: Context) -> Outcome:
        mask, errors = unreadable_answers(state.rows)
        if self.action != "repair":
            told = [f"the answer is {_worded(errors[place])}" for place in np.flatnonzero(mask).tolist()]
            return self.drop(state, context, mask, told, aside=self.action == "quarantine")
        outputs = state.rows["output"]
        proposals = {int(place): propose_repair(outputs[int(place)].as_py()) for place in np.flatnonzero(mask)}
        fixed = {place: text for place, text in proposals.items() if text is not None}
        first = self.put(state, context, "output", fixed, {place: f"JSON repaired: {errors[place]}" for place in fixed})
        if self.otherwise == "keep" or len(fixed) == len(proposals):
            return first
        left = mask.copy()
        left[list(fixed)] = False
        told = [f"the answer is {_worded(errors[place])} and can't be repaired" for place in np.flatnonzero(left).tolist()]
        return then(first, self.drop(first.state, context, left, told, aside=self.otherwise == "quarantine"))


def _worded(error: str) -> str:
    return error if error.startswith(("not JSON", "nested")) else f"{error}, not a JSON object".replace(", not an object,", ",")


class _AnswerOperation(Operation):
    """Edits the items of each readable answer; ``_edit`` returns the new items and why, or nothing."""

    def _edit_all(
        self, state: State, context: Context, edit: Callable[[int, Items], tuple[Items, str] | None], action: str
    ) -> Outcome:
        """Each answer edited; for the actions ``drop_row`` and ``quarantine`` its row goes instead."""
        texts, reasons = self._edited(state, edit)
        if action in ("drop_row", "quarantine"):
            mask = np.zeros(state.rows.num_rows, dtype=np.bool_)
            mask[list(reasons)] = True
            return self.drop(state, context, mask, [reasons[p] for p in sorted(reasons)], aside=action == "quarantine")
        return self.put(state, context, "output", texts, {place: reasons[place] for place in texts})

    def _take_values_out(
        self, state: State, context: Context, edit: Callable[[int, Items], tuple[Items, str] | None], emptied: Emptied
    ) -> Outcome:
        """Each answer without the values that ``edit`` takes out; where the rest says nothing of its own, the row is put aside.

        It is put aside as it was: a row with nothing left (unless ``emptied`` is ``keep``), and one of which another answer to
        the same question says all that is left, and more: the rest must not count as an answer against that one.
        """
        texts, reasons = self._edited(state, edit)
        aside = _outdone(state.rows, texts)
        if emptied == "quarantine":
            nothing_left = (place for place, text in texts.items() if not parse_answer(text).pairs)
            aside |= dict.fromkeys(nothing_left, "nothing is left of the answer")
        left = {place: text for place, text in texts.items() if place not in aside}
        first = self.put(state, context, "output", left, {place: reasons[place] for place in left})
        mask = np.zeros(state.rows.num_rows, dtype=np.bool_)
        mask[list(aside)] = True
        told = [f"{reasons[place]}; {aside[place]}" for place in sorted(aside)]
        return then(first, self.drop(first.state, context, mask, told, aside=True))

    def _edited(
        self, state: State, edit: Callable[[int, Items], tuple[Items, str] | None]
    ) -> tuple[dict[int, str], dict[int, str]]:
        """By position: the new text of each answer that changes, and why it is edited."""
        texts: dict[int, str] = {}
        reasons: dict[int, str] = {}
        single = pc.is_null(state.rows["messages"]).to_pylist()
        for place, text in enumerate(state.rows["output"].to_pylist()):
            if not single[place] or not text.lstrip().startswith("{"):
                continue
            try:
                items = load_object(text)
            except ValueError:
                continue
            edited = edit(place, items)
            if edited is not None:
                new, reasons[place] = edited
                if new != items:
                    texts[place] = dump_answer(new, like=text)
        return texts, reasons


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


class UnknownElements(_AnswerOperation):
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
        return self._edit_all(state, context, edit, self.action)


class UngroundedValues(_AnswerOperation):
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
        return self._edit_all(state, context, edit, self.action)

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


class MapElements(_AnswerOperation):
    """Elements renamed, joined (two names to one) or removed (a name to nothing)."""

    op: ClassVar[str] = "map_elements"
    title: ClassVar[str] = "Rename, join or remove elements"
    mapping: dict[str, str | None] = Field(min_length=1)

    def elements_after(self, elements: tuple[str, ...]) -> tuple[str, ...]:
        mapped = (self.mapping.get(name, name) for name in elements)
        return tuple(dict.fromkeys(name for name in mapped if name is not None))

    def run(self, state: State, context: Context) -> Outcome:
        def edit(_: int, items: Items) -> tuple[Items, str] | None:
            touched = list(dict.fromkeys(key for key, _ in items if self.mapping.get(key, key) != key))
            if not touched:
                return None
            return self._mapped(items), "; ".join(f"{key} to {self.mapping[key] or 'nothing'}" for key in touched)

        return self._edit_all(state, context, edit, "change")

    def _mapped(self, items: Items) -> Items:
        new: dict[str, Any] = {}
        for key, value in items:
            name = self.mapping.get(key, key)
            if name is None:
                continue
            if name not in new:
                new[name] = value
                continue
            held = list(new[name]) if isinstance(new[name], list) else [new[name]]
            new[name] = held + [item for item in (value if isinstance(value, list) else [value]) if item not in held]
        return list(new.items())


class ListsOfStrings(_AnswerOperation):
    """Every value a list of strings: a scalar becomes a list of one, a number its text; null, blank and empty ones go."""

    op: ClassVar[str] = "lists_of_strings"
    title: ClassVar[str] = "Write all values as lists of strings"
    unique: bool = Field(default=False, description="a value once in each element")

    def run(self, state: State, context: Context) -> Outcome:
        def edit(_: int, items: Items) -> tuple[Items, str] | None:
            new: dict[str, list[str]] = {}
            for key, value in items:
                held = new.setdefault(key, [])
                for item in value if isinstance(value, list) else [value]:
                    text = canonical(item)
                    if item is not None and text.strip() and not (self.unique and text in held):
                        held.append(text)
            kept: Items = [(key, values) for key, values in new.items() if values]
            return None if kept == items else (kept, "written as lists of strings")

        return self._edit_all(state, context, edit, "change")


class CanonicalAnswers(_AnswerOperation):
    """Readable answers as compact JSON, characters unescaped; nothing else changes."""

    op: ClassVar[str] = "canonical_answers"
    title: ClassVar[str] = "Write answers as compact JSON"

    def run(self, state: State, context: Context) -> Outcome:
        texts: dict[int, str] = {}
        for place, (text, talk) in enumerate(
            zip(*(state.rows[name].to_pylist() for name in ("output", "messages")), strict=True)
        ):
            if talk is None and parse_answer(text).ok:
                texts[place] = dump_answer(load_object(text))
        return self.put(state, context, "output", texts, "written as compact JSON")
