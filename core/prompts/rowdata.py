"""What a template may see of a row: its texts, its turns, the dataset's elements, worked examples.

Also where control tokens inside data are marked (see ``control``). Knows nothing of how a template words them.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from core.errors import SpecError
from core.prompts.control import Controls, pick_mark
from core.prompts.templates import PARTS
from core.records import Template


class RowError(SpecError):
    """A row that this template can't put into words; other rows may be fine."""


@dataclass(frozen=True, slots=True)
class Turn:
    """One turn of a conversation."""

    role: str
    text: str


@dataclass
class RowData:
    """What a template may see of a row, and the row's turns."""

    row: dict[str, Any]
    turns: list[Turn]
    answer: str | None
    elements: list[str]
    shots: list[dict[str, Any]]
    system: str
    single: bool

    @classmethod
    def of(
        cls,
        row: Mapping[str, Any],
        elements: Sequence[str],
        shots: Sequence[Mapping[str, Any]],
        history: Sequence[Mapping[str, Any]],
    ) -> RowData:
        messages = _messages(row.get("messages"))
        output = row.get("output")
        answer: str | None = None if output is None else str(output)
        turns = [Turn(str(m["role"]), str(m["content"] or "")) for m in (messages or history)]
        if messages:
            answer = turns.pop().text if turns[-1].role == "assistant" else None
        system = "\n".join(t.text for t in turns if t.role == "system")
        turns = [t for t in turns if t.role != "system"]
        if messages and not turns:
            raise RowError(f"Row {row.get('row_id', '')}: the conversation asks nothing", "It needs a user turn.")
        return cls(_variables(row), turns, answer, list(elements), [_variables(s) for s in shots], system, not messages)

    def mark(self, known: Controls, template: Template) -> str:
        """Put marks inside control tokens of the data; returns the mark, "" if there was nothing to mark."""
        texts = [*_strings([self.row, self.elements, self.shots]), *(t.text for t in self.turns), self.system, self.answer or ""]
        if not any(known.suspicious(text) for text in texts):
            return ""
        mark = pick_mark([*texts, *(getattr(template, name) for name in PARTS)])
        self.row = _mapped(self.row, known, mark)
        self.elements = _mapped(self.elements, known, mark)
        self.shots = _mapped(self.shots, known, mark)
        self.turns = [Turn(t.role, known.marked(t.text, mark)) for t in self.turns]
        self.system = known.marked(self.system, mark)
        self.answer = None if self.answer is None else known.marked(self.answer, mark)
        return mark


def _variables(row: Mapping[str, Any]) -> dict[str, Any]:
    extra = row.get("extra") or {}
    if isinstance(extra, str):
        extra = json.loads(extra)
    texts = {name: "" if row.get(name) is None else str(row[name]) for name in ("instruction", "input", "output")}
    passages = [dict(passage) for passage in row.get("passages") or ()]
    return {**texts, "passages": passages, "extra": extra, "row_id": str(row.get("row_id", ""))}


def _messages(value: Any) -> list[Mapping[str, Any]]:
    if isinstance(value, str):
        value = json.loads(value) if value else None
    return [m if isinstance(m, Mapping) else m.model_dump() for m in value or ()]


def _strings(value: Any) -> Iterable[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from (str(key), *_strings(item))
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _strings(item)


def _mapped(value: Any, known: Controls, mark: str) -> Any:
    if isinstance(value, str):
        return known.marked(value, mark)
    if isinstance(value, Mapping):
        return {key: _mapped(item, known, mark) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_mapped(item, known, mark) for item in value]
    return value
