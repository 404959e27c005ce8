"""Where a value stands in a text, and how surely: exact, normalised, fuzzy or absent.

``exact``: the value as it is. ``normalised``: the same once width, case, white space (line breaks, too) and
traditional or simplified script are folded, or the same number or date written another way. ``fuzzy``: a
stretch of the text that differs from it by a few characters. Offsets are into the text as it was given.
Knows nothing of rows or elements.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Literal

from core.data.normalise import comparable, comparable_with_places
from core.data.quantities import Quantity, find_quantities, read_quantities

Kind = Literal["exact", "normalised", "fuzzy", "absent"]
FUZZY_SIMILARITY = 88.0
"""Least similarity (0 to 100, indel ratio of the best stretch) that counts as fuzzy."""
FUZZY_LENGTH = 5
"""Shorter values (in compared characters) never match fuzzily: one other character is another value."""


@dataclass(frozen=True, slots=True)
class Match:
    """How a value was found; ``text[start:end]`` is the place, both -1 when it is absent."""

    kind: Kind
    start: int = -1
    end: int = -1
    similarity: float = 0.0


ABSENT = Match("absent")


class Source:
    """A text in which many values are looked for; what that needs is worked out once."""

    def __init__(self, text: str) -> None:
        self.text = text

    @cached_property
    def _folded(self) -> tuple[str, list[int]]:
        return comparable_with_places(self.text)

    @cached_property
    def _quantities(self) -> dict[Quantity, tuple[int, int]]:
        found: dict[Quantity, tuple[int, int]] = {}
        for quantity, start, end in find_quantities(self.text):
            found.setdefault(quantity, (start, end))
        return found

    def locate(self, value: str) -> Match:
        """The first place where ``value`` stands, by the surest kind of match. A blank value is absent."""
        if not value.strip():
            return ABSENT
        start = self.text.find(value)
        if start >= 0:
            return Match("exact", start, start + len(value), 100.0)
        wanted = comparable(value)
        if not wanted:
            return ABSENT
        folded, places = self._folded
        start = folded.find(wanted)
        if start >= 0:
            return Match("normalised", places[start], places[start + len(wanted) - 1] + 1, 100.0)
        readings = read_quantities(value)
        for reading in readings:
            if reading in self._quantities:
                return Match("normalised", *self._quantities[reading], 100.0)
        return ABSENT if readings else self._fuzzy(wanted, folded, places)

    def _fuzzy(self, wanted: str, folded: str, places: list[int]) -> Match:
        from rapidfuzz import fuzz

        if len(wanted) < FUZZY_LENGTH or len(folded) < len(wanted) - 2:
            return ABSENT
        found = fuzz.partial_ratio_alignment(wanted, folded, score_cutoff=FUZZY_SIMILARITY)
        if found is None or found.dest_end <= found.dest_start:
            return ABSENT
        return Match("fuzzy", places[found.dest_start], places[found.dest_end - 1] + 1, float(found.score))


@lru_cache(maxsize=8)
def _source(text: str) -> Source:
    return Source(text)


def locate(value: str, text: str) -> Match:
    """Where ``value`` stands in ``text``: kind and character offsets into ``text``. For many values use ``Source``."""
    start = text.find(value) if value.strip() else -1
    return Match("exact", start, start + len(value), 100.0) if start >= 0 else _source(text).locate(value)
