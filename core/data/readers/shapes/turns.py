"""A record whose input and output are lists: question and answer of each turn of one conversation, in order.

Knows nothing of files.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from core.data.mapping import guess_flat
from core.data.readers.base import RowError
from core.data.readers.shapes.base import Converted, Converter, fields_of, rest_of, row_of, split_of, text_of


def matches(records: Sequence[Any], columns: Sequence[str], given: Mapping[str, str]) -> dict[str, str] | None:
    """Column → field if input and output both are lists of texts in most records."""
    mapping = guess_flat(columns, given)
    fields = fields_of(mapping)
    asked, answered = fields.get("input"), fields.get("output")
    if asked is None or answered is None:
        return None
    objects = [record for record in records if isinstance(record, dict)]
    fitting = sum(1 for record in objects if _is_texts(record.get(asked)) and _is_texts(record.get(answered)))
    return mapping if 2 * fitting > len(objects) else None


def _is_texts(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(item, str) for item in value)


def converter(mapping: Mapping[str, str], _options: Mapping[str, Any]) -> Converter:
    """Conversations of the paired lists; the last question may be without an answer. Other lengths are faults."""
    fields = fields_of(mapping)
    asked, answered, split = fields["input"], fields["output"], fields.get("split")
    before = fields.get("system") or fields.get("instruction")
    used = frozenset(name for name in (asked, answered, before, split) if name is not None)

    def convert(record: Any) -> Converted:
        if not isinstance(record, dict):
            raise RowError("not an object with named fields")
        questions, answers = record.get(asked), record.get(answered)
        if not isinstance(questions, list) or not isinstance(answers, list) or not questions:
            raise RowError(f"{asked!r} and {answered!r} are not both lists of turns")
        if len(questions) - len(answers) not in (0, 1):
            raise RowError(f"{len(questions)} questions and {len(answers)} answers")
        first = text_of(record.get(before)) if before else ""
        messages = [{"role": "system", "content": first}] if first else []
        for place, question in enumerate(questions):
            messages.append({"role": "user", "content": text_of(question)})
            if place < len(answers):
                messages.append({"role": "assistant", "content": text_of(answers[place])})
        return row_of(messages, split_of(record, split), None if record.keys() <= used else rest_of(record, used))

    return convert
