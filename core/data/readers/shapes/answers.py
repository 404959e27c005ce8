"""Annotations as an extraction row's answer: values by element, as compact JSON.

Knows nothing of how annotations are written.
"""

from __future__ import annotations

from collections.abc import Iterable

from core.data.readers.json_text import compact


def answer_of(found: Iterable[tuple[str, str]]) -> str:
    """``{element: [values]}`` for (element, value) pairs in the order of the text.

    A value that comes again under its element is written once; elements stand in order of first appearance;
    ``{}`` when there are none.
    """
    elements: dict[str, dict[str, None]] = {}
    for element, value in found:
        elements.setdefault(element, {})[value] = None
    return compact({element: list(values) for element, values in elements.items()})
