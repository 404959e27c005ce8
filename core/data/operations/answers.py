"""Operations on how extraction answers are written: their JSON, the names of elements, the shape of values.

Rows whose answer can't be read are left alone by all but ``FixJson``, conversations by all.
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import Field

from core.data.answers import canonical, dump_answer
from core.data.operations.base import Context, Operation, Outcome, State, then
from core.data.operations.items import AnswerOperation, Items, readable
from core.data.repair import propose_repair
from core.data.rules import unreadable_answers


class FixJson(Operation):
    """Answers that are no JSON object: the row dropped, put aside, or its JSON repaired.

    A repair is a proposal to be looked at in the preview; rows that can't be repaired are treated as ``otherwise`` says.
    """

    op: ClassVar[str] = "fix_json"
    title: ClassVar[str] = "Drop, put aside or repair broken JSON"
    action: Literal["drop", "quarantine", "repair"] = "quarantine"
    otherwise: Literal["keep", "drop", "quarantine"] = Field(default="keep", description="what a failed repair does")

    def run(self, state: State, context: Context) -> Outcome:
        _, errors = unreadable_answers(state.rows)
        told = {place: f"the answer is {_worded(error)}" for place, error in errors.items()}
        if self.action != "repair":
            return self.drop_each(state, context, told, aside=self.action == "quarantine")
        outputs = state.rows["output"]
        proposals = {place: propose_repair(outputs[place].as_py()) for place in errors}
        fixed = {place: text for place, text in proposals.items() if text is not None}
        first = self.put(state, context, "output", fixed, {place: f"JSON repaired: {errors[place]}" for place in fixed})
        if self.otherwise == "keep":
            return first
        left = {place: f"{words} and can't be repaired" for place, words in told.items() if place not in fixed}
        return then(first, self.drop_each(first.state, context, left, aside=self.otherwise == "quarantine"))


def _worded(error: str) -> str:
    return error if error.startswith(("not JSON", "nested")) else f"{error}, not a JSON object".replace(", not an object,", ",")


class MapElements(AnswerOperation):
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

        return self.rewrite(state, context, edit)

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


class ListsOfStrings(AnswerOperation):
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

        return self.rewrite(state, context, edit)


class CanonicalAnswers(Operation):
    """Readable answers as compact JSON, characters unescaped; nothing else changes."""

    op: ClassVar[str] = "canonical_answers"
    title: ClassVar[str] = "Write answers as compact JSON"

    def run(self, state: State, context: Context) -> Outcome:
        texts = {place: dump_answer(items) for place, _, items in readable(state.rows)}
        return self.put(state, context, "output", texts, "written as compact JSON")
