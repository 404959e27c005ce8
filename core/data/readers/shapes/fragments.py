"""A text in fragments, some of which are an element's value: ``{"data": [{"text": …}, {"text": …, "entity": …}]}``.

The form of the SNIPS benchmark and of Rasa- and Dialogflow-like exports. Knows nothing of files.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from core.data.mapping import NAMES
from core.data.readers.base import RowError
from core.data.readers.shapes.answers import answer_of
from core.data.readers.shapes.base import Converted, Converter, fields_of, rest_of, split_of

_LABELS = ("entity", "slot_name", "alias", "slot", "label")
_KNOWN = {"text", "entity", "slot_name", "alias", "slot", "label", "meta", "userDefined"}


def matches(records: Sequence[Any], columns: Sequence[str], given: Mapping[str, str]) -> dict[str, str] | None:
    """Column → field if a column holds lists of fragments in most records."""
    chosen = [column for column, field in given.items() if field == "spans"]
    for column in chosen or columns:
        values = [record[column] for record in records if isinstance(record, dict) and record.get(column)]
        if values and 2 * sum(map(_is_fragments, values)) > len(values):
            mapping = dict(given) | {column: "spans"}
            split = next((c for c in columns if c.lower() in NAMES["split"] and c not in mapping), None)
            return mapping | ({split: "split"} if split and "split" not in mapping.values() else {})
    return None


def _is_fragments(value: Any) -> bool:
    return (
        isinstance(value, list)
        and bool(value)
        and all(isinstance(item, dict) and isinstance(item.get("text"), str) and item.keys() <= _KNOWN for item in value)
    )


def converter(mapping: Mapping[str, str], _options: Mapping[str, Any]) -> Converter:
    """Rows: the fragments joined as the input, the labelled ones as the answer."""
    fields = fields_of(mapping)
    column, split = fields["spans"], fields.get("split")
    used = frozenset(name for name in (column, split) if name is not None)

    def convert(record: Any) -> Converted:
        fragments = record.get(column) if isinstance(record, dict) else None
        if not isinstance(fragments, list) or not fragments:
            raise RowError(f"{column!r} holds no fragments of text")
        texts: list[str] = []
        found: list[tuple[str, str]] = []
        for place, fragment in enumerate(fragments, 1):
            text = fragment.get("text") if isinstance(fragment, dict) else None
            if not isinstance(text, str):
                raise RowError(f"fragment {place} has no text")
            texts.append(text)
            label = next((fragment[key] for key in _LABELS if fragment.get(key)), None)
            if label is not None:
                found.append((str(label), text))
        extra = None if record.keys() <= used else rest_of(record, used)
        return Converted("", "".join(texts), answer_of(found), None, split_of(record, split), extra)

    return convert
