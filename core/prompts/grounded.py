"""Where the gold values of a row stand in its input. Knows nothing of tokens."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from core.data.answers import parse_answer
from core.data.grounding import Source


@dataclass(frozen=True, slots=True)
class Place:
    """A gold value and the characters [start, end) of the input where it first stands; -1 when it doesn't."""

    element: str
    value: str
    start: int
    end: int


def gold_places(row: Mapping[str, Any], *, fuzzy: bool = True) -> list[Place]:
    """Every gold (element, value) of a row; none if the answer isn't a JSON object. ``fuzzy``: as ``locate`` finds it,
    else only verbatim."""
    answer = parse_answer(str(row.get("output") or ""))
    text = str(row.get("input") or "")
    source = Source(text)
    places: list[Place] = []
    for element, value in answer.pairs:
        start = text.find(value) if value else -1
        end = start + len(value) if start >= 0 else -1
        if start < 0 and fuzzy:
            match = source.locate(value)
            start, end = match.start, match.end
        places.append(Place(element, value, start, end))
    return places


def span(places: list[Place]) -> tuple[int, int] | None:
    """The characters from the first grounded value to the end of the last; none if no value is grounded."""
    found = [place for place in places if place.start >= 0]
    return (min(p.start for p in found), max(p.end for p in found)) if found else None
