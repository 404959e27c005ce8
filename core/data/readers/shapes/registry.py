"""All shapes, and the choice among them for the records at hand.

The order decides where several would fit: the more particular first, ``flat`` last.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from core.data.mapping import BESIDE, guess_flat
from core.data.readers.shapes import columns as element_columns
from core.data.readers.shapes import conversation, flat, fragments, spans, tags, turns
from core.data.readers.shapes.base import Converter
from core.errors import InputFileError

Given = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Shape:
    """A shape by name. ``matches`` gives column → field if the records have it; ``needs`` are the fields it can't do without."""

    name: str
    label: str
    matches: Callable[[Sequence[Any], Sequence[str], Given], dict[str, str] | None]
    converter: Callable[[Mapping[str, str], Mapping[str, Any]], Converter]
    needs: tuple[str, ...]
    options: Callable[[Sequence[Any]], dict[str, Any]] = lambda _records: {}


def _flat(_records: Sequence[Any], columns: Sequence[str], given: Given) -> dict[str, str] | None:
    mapping = guess_flat(columns, given)
    fields = set(mapping.values())
    return mapping if "output" in fields and fields & {"instruction", "input"} else None


SHAPES: tuple[Shape, ...] = (
    Shape("conversation", "Conversations", conversation.matches, conversation.converter, ("messages",)),
    Shape("tags", "Tokens with tags", tags.matches, tags.converter, ("tokens", "tags"), tags.options),
    Shape("spans", "Text with annotated places", spans.matches, spans.converter, ("input", "spans")),
    Shape("fragments", "Text in fragments", fragments.matches, fragments.converter, ("spans",)),
    Shape("turns", "Lists of questions and answers", turns.matches, turns.converter, ("input", "output")),
    Shape("columns", "A column for each element", element_columns.matches, element_columns.converter, ("input", "element")),
    Shape("flat", "Texts in named columns", _flat, flat.converter, ("output",)),
)


def find_shape(name: str) -> Shape:
    """A shape by its name. InputFileError if there is none."""
    for shape in SHAPES:
        if shape.name == name:
            return shape
    raise InputFileError(f"There is no shape {name!r}", f"Shapes: {', '.join(shape.name for shape in SHAPES)}.")


def fitting(records: Sequence[Any], columns: Sequence[str], given: Given) -> list[tuple[Shape, dict[str, str]]]:
    """Shapes that the records could have, the likeliest first, each with its mapping."""
    columns = [column for column in columns if not column.startswith(BESIDE) or column in given]
    told = "element" in given.values()
    shapes = [shape for shape in SHAPES if (shape.name == "columns") == told]
    return [(shape, mapping) for shape in shapes if (mapping := shape.matches(records, columns, given)) is not None]


def row_like(root: Mapping[str, Any]) -> bool:
    """Whether an object at the top of a JSON document is itself a record rather than a bag of lists of records."""
    return bool(fitting([root], list(root), {}))
