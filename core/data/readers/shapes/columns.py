"""A text and one column for each element, as teams keep extraction in spreadsheets → an extraction row.

Which columns are elements is always told, never guessed. Knows nothing of files.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pyarrow as pa

from core.data.mapping import guess_beside_elements
from core.data.readers.base import RowError
from core.data.readers.cells import cell_text
from core.data.readers.json_text import compact_any
from core.data.readers.shapes.base import Converted, Converter, fields_of, rest_of, split_of, text_of
from core.data.readers.shapes.flat import describe
from core.data.several import values_of


def matches(_records: Sequence[Any], columns: Sequence[str], given: Mapping[str, str]) -> dict[str, str] | None:
    """Column → field if elements are ``given`` and the text they are found in is, or goes by a known name."""
    mapping = guess_beside_elements(columns, given)
    fields = set(mapping.values())
    return mapping if "element" in fields and fields & {"instruction", "input"} else None


def elements_of(mapping: Mapping[str, str]) -> tuple[str, ...]:
    """The columns that are elements, in their order; their names are the elements' names."""
    return tuple(column for column, field in mapping.items() if field == "element")


def several_in(rows: pa.Table, columns: Iterable[str]) -> Counter[str]:
    """How many of the rows' answers (columns ``output``) hold several values of each of these elements."""
    found: Counter[str] = Counter()
    for text in rows["output"].to_pylist():
        answer = json.loads(text)
        found.update(column for column in columns if isinstance(held := answer.get(column), list) and len(held) > 1)
    return found


def converter(mapping: Mapping[str, str], options: Mapping[str, Any]) -> Converter:
    """Extraction rows: ``{element: cell}`` of the cells that aren't blank, ``{}`` without any.

    Cells are stripped and otherwise stay as they are written. ``options["separators"]`` (element → separators) names those
    that hold several values: each is a list of them, of one value too. A value that is a list or an object in the file
    stays one. A record without the text's column is a fault.
    """
    fields, elements = fields_of(mapping), elements_of(mapping)
    instruction, text, split = fields.get("instruction"), fields.get("input"), fields.get("split")
    wanted = tuple(column for column in (instruction, text) if column is not None)
    separators: Mapping[str, Sequence[str]] = options.get("separators") or {}
    used = frozenset((*wanted, *elements, *([split] if split is not None else ())))

    def convert(record: Any) -> Converted:
        if not isinstance(record, dict):
            raise RowError(f"not an object with named fields but {describe(record)}")
        if not any(column in record for column in wanted):
            raise RowError(f"no field {' or '.join(map(repr, wanted))}")
        answer = {element: value for element in elements if (value := _value(record.get(element), separators.get(element)))}
        own = split_of(record, split)
        keep = used if own or split is None or not record.get(split) else used - {split}
        extra = None if record.keys() <= keep else rest_of(record, keep)
        asked, read = (text_of(record.get(column)) if column is not None else "" for column in (instruction, text))
        return Converted(asked, read, compact_any(answer), None, own, extra)

    return convert


def _value(cell: Any, separators: Sequence[str] | None) -> Any:
    if isinstance(cell, (list, dict)):
        return cell
    if isinstance(cell, (bytes, bytearray)):
        raise RowError(f"{len(cell)} bytes where a text should be")
    return values_of(cell_text(cell), separators) if separators else cell_text(cell).strip()
