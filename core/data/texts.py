"""The texts inside a row: plain columns, the strings of a JSON answer, the turns of a conversation.

Maps one function over all of them, touching only rows that a pattern finds and writing JSON again only
where a string in it changed. Knows nothing of what the function does.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from core.data.answers import dump_answer, load_object
from core.store.schema import TEXT_COLUMNS

TextFunction = Callable[[str], str]


def map_value(value: Any, function: TextFunction) -> Any:
    """A JSON value with each string in it (keys, too) mapped."""
    if isinstance(value, str):
        return function(value)
    if isinstance(value, list):
        return [map_value(item, function) for item in value]
    if isinstance(value, dict):
        return {function(key): map_value(item, function) for key, item in value.items()}
    return value


def map_answer(text: str, function: TextFunction) -> str:
    """An answer with its strings mapped if it is a JSON object, else the text mapped as a whole."""
    try:
        items = load_object(text)
    except ValueError:
        return function(text)
    mapped = [(function(key), map_value(value, function)) for key, value in items]
    return text if mapped == items else dump_answer(mapped, like=text)


def map_messages(text: str, function: TextFunction) -> str:
    """A conversation with the content of each turn mapped."""
    turns = json.loads(text)
    mapped = [{**turn, "content": function(turn["content"])} for turn in turns]
    return text if mapped == turns else json.dumps(mapped, ensure_ascii=False)


def map_texts(
    rows: pa.Table, function: TextFunction, pattern: str, columns: Sequence[str] = TEXT_COLUMNS
) -> dict[str, pa.ChunkedArray]:
    """The columns of ``rows`` that ``function`` changes, whole. ``pattern`` (RE2) must find each text that it may change."""
    changed: dict[str, pa.ChunkedArray] = {}
    for name in columns:
        inside = {"output": map_answer, "messages": map_messages}.get(name)
        looked_for = pattern if inside is None else rf"{pattern}|\\[nrtu]"
        found = pc.fill_null(pc.match_substring_regex(rows[name], looked_for), False).to_numpy()
        if not found.any():
            continue
        old = rows[name].filter(pa.array(found)).to_pylist()
        new = [function(text) if inside is None else inside(text, function) for text in old]
        differs = np.fromiter((left != right for left, right in zip(old, new, strict=True)), np.bool_, len(old))
        if differs.any():
            mask = found.copy()
            mask[found] = differs
            changed[name] = replace_cells(rows[name], mask, [text for text, is_new in zip(new, differs, strict=True) if is_new])
    return changed


def replace_cells(column: pa.ChunkedArray, mask: npt.NDArray[np.bool_], values: Sequence[str | None]) -> pa.ChunkedArray:
    """A text column with the cells of ``mask`` replaced, in order."""
    return pa.chunked_array([pc.replace_with_mask(column.combine_chunks(), pa.array(mask), pa.array(values, pa.large_string()))])
