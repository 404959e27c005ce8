"""What operations on extraction answers share: the items of each readable answer, edited one answer at a time.

An answer that can't be read is left alone, and so is a conversation.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from core.data.answers import dump_answer, load_object
from core.data.operations.base import Context, Operation, Outcome, State

Items = list[tuple[str, Any]]
"""(element, value) pairs of an answer, in order; an element may stand in it more than once."""
Edit = Callable[[int, Items], tuple[Items, str] | None]
"""The new items of the answer at a position and why, or nothing where it is left alone."""


def readable(rows: pa.Table) -> Iterator[tuple[int, str, Items]]:
    """Position, text and items of each answer that is a JSON object."""
    single = pc.is_null(rows["messages"]).to_pylist()
    for place, text in enumerate(rows["output"].to_pylist()):
        if not single[place] or not text.lstrip().startswith("{"):
            continue
        try:
            items = load_object(text)
        except ValueError:
            continue
        yield place, text, items


class AnswerOperation(Operation):
    """Base of the operations that edit the items of answers."""

    def edited(self, state: State, edit: Edit) -> tuple[dict[int, str], dict[int, str]]:
        """By position: the new text of each answer that changes, and why it is edited."""
        texts: dict[int, str] = {}
        reasons: dict[int, str] = {}
        for place, text, items in readable(state.rows):
            found = edit(place, items)
            if found is not None:
                new, reasons[place] = found
                if new != items:
                    texts[place] = dump_answer(new, like=text)
        return texts, reasons

    def rewrite(self, state: State, context: Context, edit: Edit) -> Outcome:
        """Each answer with its items edited."""
        texts, reasons = self.edited(state, edit)
        return self.put(state, context, "output", texts, reasons)
