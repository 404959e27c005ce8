"""Texts that remember what they are made of: the way to render a million rows without running Jinja a million times.

A template is run once on a sample row whose texts are ``Traced``. Joining them keeps their parts; every question
that the template asks of them (is it empty? does it start with …?) is answered for the sample row and remembered as a
``Guard``. Every row that answers all guards alike is rendered by joining the same parts. What can't be remembered
(a slice, a length) raises Untraceable, and such rows are rendered one by one. Not a ``str``, so that no operation
escapes. Knows nothing of templates and tokenizers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

Part = str | int
"""Fixed text, or the number of a column."""
Question = Literal["nonempty", "equals", "contains", "starts", "ends", "stripped"]


class UntraceableError(Exception):
    """The template does something with a text that can't be remembered."""


@dataclass(frozen=True)
class Guard:
    """A question about a text made of ``parts``, and the sample's answer to it."""

    parts: tuple[Part, ...]
    question: Question
    argument: str
    answer: bool


@dataclass
class Trace:
    """One run's guards; ``mark`` is a character that occurs in no fixed text and no template."""

    mark: str
    guards: list[Guard] = field(default_factory=list)

    def parts_of(self, text: str) -> tuple[Part, ...]:
        """The parts of a written text, in which ``Traced.written`` stands for columns."""
        pieces = text.split(self.mark)
        return merged([int(piece) if place % 2 else piece for place, piece in enumerate(pieces)])


def merged(parts: Sequence[Part]) -> tuple[Part, ...]:
    """Parts without empty texts, neighbouring texts put together."""
    made: list[Part] = []
    for part in parts:
        last = made[-1] if made else None
        if isinstance(part, str) and isinstance(last, str):
            made[-1] = last + part
        elif part != "":
            made.append(part)
    return tuple(made)


class Traced:
    """A text of known parts, with its value in the sample row."""

    __slots__ = ("parts", "trace", "value")
    __hash__ = None  # type: ignore[assignment]

    def __init__(self, trace: Trace, parts: Sequence[Part], value: str) -> None:
        self.trace, self.parts, self.value = trace, merged(parts), value

    @property
    def written(self) -> str:
        """How it is put into an output, to be found there by ``Trace.parts_of``."""
        mark = self.trace.mark
        return "".join(part if isinstance(part, str) else f"{mark}{part}{mark}" for part in self.parts)

    def _ask(self, question: Question, argument: str, answer: bool) -> bool:
        if any(not isinstance(part, str) for part in self.parts):
            self.trace.guards.append(Guard(self.parts, question, argument, answer))
        return answer

    def __str__(self) -> str:
        raise UntraceableError("a text is turned into a plain one")

    def __repr__(self) -> str:
        return f"Traced({self.parts!r})"

    def __add__(self, other: Any) -> Traced:
        if isinstance(other, Traced):
            return Traced(self.trace, (*self.parts, *other.parts), self.value + other.value)
        return Traced(self.trace, (*self.parts, other), self.value + other) if isinstance(other, str) else NotImplemented

    def __radd__(self, other: Any) -> Traced:
        return Traced(self.trace, (other, *self.parts), other + self.value) if isinstance(other, str) else NotImplemented

    def __bool__(self) -> bool:
        return self._ask("nonempty", "", bool(self.value))

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Traced):
            raise UntraceableError("two texts of a row are compared")
        return self._ask("equals", other, self.value == other) if isinstance(other, str) else False

    def __contains__(self, other: str) -> bool:
        return self._ask("contains", _fixed(other), other in self.value)

    def startswith(self, prefix: str) -> bool:
        """Asked of the fixed text at the start where that settles it."""
        head = self.parts[0] if self.parts and isinstance(self.parts[0], str) else ""
        return (
            head.startswith(prefix)
            if len(head) >= len(_fixed(prefix))
            else self._ask("starts", prefix, self.value.startswith(prefix))
        )

    def endswith(self, suffix: str) -> bool:
        """Asked of the fixed text at the end where that settles it."""
        tail = self.parts[-1] if self.parts and isinstance(self.parts[-1], str) else ""
        return (
            tail.endswith(suffix) if len(tail) >= len(_fixed(suffix)) else self._ask("ends", suffix, self.value.endswith(suffix))
        )

    def strip(self, characters: str | None = None) -> Traced:
        """Itself, for rows in which there is nothing to strip."""
        if self.value.strip(characters) != self.value:
            raise UntraceableError("the sample row has something to strip")
        self._ask("stripped", "" if characters is None else _fixed(characters), True)
        return self

    lstrip = rstrip = strip

    def split(self, by: str, _most: int = -1) -> list[Traced]:
        """Itself alone, for rows without ``by``."""
        if by in self:
            raise UntraceableError("the sample row is split")
        return [self]


def _fixed(value: Any) -> str:
    if not isinstance(value, str):
        raise UntraceableError(f"a text is asked about {type(value).__name__}")
    return value
