"""A text with annotated places: (start, end, label) as doccano, Label Studio, CLUENER and ``entityMentions`` write them.

Offsets count characters, the end excluded. Where an annotation tells its text as well, the two must agree. Knows nothing
of files.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from core.data.mapping import NAMES, guess_flat
from core.data.readers.base import RowError
from core.data.readers.shapes.answers import answer_of
from core.data.readers.shapes.base import Converted, Converter, fields_of, rest_of, split_of, text_of

TEXT_NAMES = ("text", "senttext", "sentence", "content", "data", *NAMES["input"])
SPAN_NAMES = ("entities", "spans", "label", "labels", "entitymentions", "annotations", "mentions", "completions", "predictions")
_STARTS = ("start", "start_offset", "begin", "start_idx", "startoffset")
_ENDS = ("end", "end_offset", "stop", "end_idx", "endoffset")
_LABELS = ("label", "labels", "type", "entity", "entity_type", "tag", "entity_group")
_TEXTS = ("text", "value", "mention", "word")
Span = tuple[int | None, int | None, str, str | None]
"""Start, end, label, and the text that the annotation itself tells; what it doesn't tell is None."""


def matches(records: Sequence[Any], columns: Sequence[str], given: Mapping[str, str]) -> dict[str, str] | None:
    """Column → field if records have a text and a column of annotations, and no answer of their own."""
    objects = [record for record in records if isinstance(record, dict)]
    by_field = {field: column for column, field in given.items()}
    text = by_field.get("input") or _first(columns, TEXT_NAMES, lambda name: any(_text_in(r.get(name)) for r in objects))
    spans = by_field.get("spans") or _first(columns, SPAN_NAMES, lambda name: _are_spans([r.get(name) for r in objects]))
    answered = "spans" not in by_field and any(column.lower() in ("output", "outputs", "输出") for column in columns)
    if text is None or spans is None or text == spans or answered:
        return None
    mapping = dict(given) | {text: "input", spans: "spans"}
    rest = {c: f for c, f in guess_flat(columns, mapping).items() if f in ("instruction", "split") and c not in mapping}
    return mapping | rest


def _first(columns: Sequence[str], names: Sequence[str], fits: Any) -> str | None:
    ordered = sorted((c for c in columns if c.lower() in names), key=lambda c: names.index(c.lower()))
    return next((column for column in ordered if fits(column)), None)


def _text_in(value: Any) -> str | None:
    """The text itself, or the one inside Label Studio's ``data``."""
    if isinstance(value, dict):
        value = next((v for key, v in value.items() if key.lower() in TEXT_NAMES and isinstance(v, str)), None)
    return value if isinstance(value, str) else None


def _are_spans(values: Sequence[Any]) -> bool:
    filled = [value for value in values if value]
    return bool(filled) and 2 * sum(map(_is_spans, filled)) > len(filled)


def _is_spans(value: Any) -> bool:
    try:
        return bool(list(_spans(value)))
    except RowError:
        return False


def converter(mapping: Mapping[str, str], _options: Mapping[str, Any]) -> Converter:
    """Extraction rows. A place outside the text, or one that reads otherwise than its annotation says, is a fault."""
    fields = fields_of(mapping)
    text_column, column = fields["input"], fields["spans"]
    instruction, split = fields.get("instruction"), fields.get("split")
    used = frozenset(name for name in (text_column, column, instruction, split) if name is not None)

    def convert(record: Any) -> Converted:
        if not isinstance(record, dict):
            raise RowError("not an object with named fields")
        text = _text_in(record.get(text_column))
        if text is None:
            raise RowError(f"no text in {text_column!r}")
        if column not in record:
            raise RowError(f"no field {column!r}")
        answer = answer_of(_values(text, sorted(_spans(record[column] or []), key=lambda span: span[0] or 0)))
        extra = None if record.keys() <= used else rest_of(record, used)
        asked = text_of(record.get(instruction)) if instruction else ""
        return Converted(asked, text, answer, None, split_of(record, split), extra)

    return convert


def _spans(value: Any) -> Iterator[Span]:
    """All spans in an annotation, whoever wrote it."""
    if isinstance(value, dict) and value and all(isinstance(inner, dict) for inner in value.values()):
        yield from _by_label(value)
        return
    if isinstance(value, dict):
        value = value.get("entities", value.get("result", value.get("spans")))
    if not isinstance(value, list):
        raise RowError("the annotations are not a list")
    for item in value:
        if isinstance(item, dict) and isinstance(item.get("result"), list):
            yield from _spans(item["result"])
            return  # Label Studio: one entry an annotator; the first one's counts
        yield from _one(item)


def _by_label(value: Mapping[str, Any]) -> Iterator[Span]:
    """CLUENER's form: label → mention → places whose end is included."""
    for label, mentions in value.items():
        for mention, places in mentions.items():
            if not isinstance(places, list):
                raise RowError("an annotation without its places")
            for place in places:
                if not (isinstance(place, list) and len(place) == 2 and all(map(_is_place, place))):
                    raise RowError("a place that is not [start, end]")
                yield place[0], place[1] + 1, label, mention


def _one(item: Any) -> Iterator[Span]:
    if isinstance(item, list) and len(item) == 3 and isinstance(item[2], str) and all(map(_is_place, item[:2])):
        yield item[0], item[1], item[2], None
        return
    if not isinstance(item, dict):
        raise RowError("an annotation is neither [start, end, label] nor an object")
    inner = item["value"] if isinstance(item.get("value"), dict) else item
    labels = next((inner[key] for key in _LABELS if inner.get(key)), None)
    if labels is None and inner is not item and item.get("type") in ("relation", "choices"):
        return
    start, end = (next((inner[key] for key in keys if _is_place(inner.get(key))), None) for keys in (_STARTS, _ENDS))
    told = next((inner[key] for key in _TEXTS if isinstance(inner.get(key), str)), None)
    if labels is None or (told is None and (start is None or end is None)):
        raise RowError("an annotation without a label, or without start and end")
    for label in labels if isinstance(labels, list) else [labels]:
        yield start, end, str(label), told


def _is_place(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _values(text: str, spans: Sequence[Span]) -> Iterator[tuple[str, str]]:
    for start, end, label, told in spans:
        if start is None or end is None:
            assert told is not None, "_one gives one or the other"
            yield label, told
            continue
        value = text[start:end] if 0 <= start < end <= len(text) else None
        if told is not None and value != told:
            value = _by_utf16(text, start, end)
            value = value if value == told else None
            if value is None:
                raise RowError(f"place {start} to {end} of the text doesn't read {told!r}, as its annotation says")
        if value is None:
            raise RowError(f"place {start} to {end} is outside the text of {len(text)} characters")
        yield label, value


def _by_utf16(text: str, start: int, end: int) -> str:
    """The place by UTF-16 units, as programs written in JavaScript count where there are emoji."""
    return text.encode("utf-16-le", "surrogatepass")[2 * start : 2 * end].decode("utf-16-le", "replace")
