"""Columns beside a row: their names in an export, and rows as columns with types for Parquet and the datasets library.

Columns that came beside a row keep their type where all their values have the same simple one, and are JSON text
otherwise. Knows nothing of versions, nor of what a row means.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from core.data.mapping import BESIDE, names_a_field
from core.data.readers.detect import SAMPLE_RECORDS, columns_of
from core.data.readers.shapes.registry import fitting
from core.data.spreadsheet import MARK
from core.errors import UserError
from core.store.files import replaced_folder

UNSPLIT = "unsplit"
"""The name of rows that are in no split, beside rows that are in one."""
_SIMPLE = (str, bool, int, float)
_SAVED = ("dataset_dict.json", "state.json")


def beside_names(
    rows: pa.Table, *, talk: bool, stub: Mapping[str, Any] | None = None, reserved: Collection[str] = ()
) -> dict[str, str]:
    """Columns beside the rows (``extra``) → their names in an export, from which an import reads them back beside the row.

    Those that would be read as a field of the row, by their names or by what they hold, get ``BESIDE`` before them, and
    those that are ``reserved``. ``stub``: what the export's own columns look like in a record.
    """
    if rows["extra"].null_count == rows.num_rows:
        return {}
    if stub is None:
        single = dict.fromkeys(("instruction", "input", "output"), "text")
        stub = {"messages": [{"role": "user", "content": "q"}]} if talk else single
    names: dict[str, str] = {}
    looked: list[dict[str, Any]] = []
    seen: Counter[str] = Counter()
    for text, split in zip(rows["extra"], rows["split"], strict=True):
        extra = json.loads(text.as_py() or "{}")
        names |= {
            key: BESIDE + key if names_a_field(key, talk=talk) or key == MARK or key in reserved else key
            for key in extra
            if key not in names
        }
        if seen[split.as_py()] < SAMPLE_RECORDS:
            seen[split.as_py()] += 1
            looked.append(extra)
    records: list[dict[str, Any]] = [
        {**stub} | {key: value for key, value in extra.items() if names[key] == key} for extra in looked
    ]
    while taken := _taken(records, tuple(stub)):
        names |= {key: BESIDE + key for key in taken}
        records = [{key: value for key, value in record.items() if key not in taken} for record in records]
    return names


def _taken(records: Sequence[Mapping[str, Any]], body: Sequence[str]) -> set[str]:
    """Columns that aren't the row's own and that an import would take for one of its fields."""
    _, mapping = fitting(records, columns_of(list(records)), {})[0]
    return {column for column, field in mapping.items() if column not in body and field not in ("extra", "system")}


def with_extras(body: Mapping[str, Any], extras: Sequence[str | None], names: Mapping[str, str]) -> pa.Table:
    """A table of the columns of ``body`` and, behind them, those of the JSON objects of ``extras`` by their ``names``."""
    columns = {name: values if isinstance(values, pa.ChunkedArray) else pa.array(values) for name, values in body.items()}
    for key, values in _by_column(extras).items():
        columns[names[key]] = _typed([values.get(place) for place in range(len(extras))])
    return pa.table(columns)


def _by_column(extras: Sequence[str | None]) -> dict[str, dict[int, Any]]:
    """Values of each column of the JSON objects, by the object's place."""
    found: dict[str, dict[int, Any]] = {}
    for place, text in enumerate(extras):
        for key, value in (json.loads(text) if text else {}).items():
            found.setdefault(key, {})[place] = value
    return found


def mixed_columns(extras: pa.ChunkedArray) -> set[str]:
    """Columns of the JSON objects whose values Arrow, and so a reader that wants one type a column, can't hold as one type."""
    if extras.null_count == len(extras):
        return set()
    return {key for key, values in _by_column(extras.to_pylist()).items() if not _has_one_type(list(values.values()))}


def _has_one_type(values: list[Any]) -> bool:
    try:
        pa.array(values)
    except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError):
        return False
    return True


def _typed(values: list[Any]) -> pa.Array:
    """One column: of its values' type if that is one and simple (or lists of it), else of JSON text."""
    kinds = {_kind(value) for value in values if value is not None}
    if len(kinds) == 1 and None not in kinds:
        try:
            return pa.array(values)
        except (pa.ArrowInvalid, OverflowError):  # whole numbers of more than 64 bits
            pass
    return pa.array([None if value is None else value if isinstance(value, str) else _json(value) for value in values])


def _kind(value: Any) -> Any:
    if isinstance(value, list):
        inner = {type(item) for item in value}
        return ("list", *inner) if len(inner) == 1 and inner <= set(_SIMPLE) else None
    return type(value) if isinstance(value, _SIMPLE) else None


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def save_folder(path: Path, table: pa.Table, split: pa.ChunkedArray) -> None:
    """Write a folder for ``datasets.load_from_disk``: a dictionary of splits, or one dataset if no row is in a split.

    It is there whole or not at all. UserError if something else than such a folder would be overwritten.
    """
    from datasets import Dataset, DatasetDict, disable_progress_bars
    from datasets.table import InMemoryTable

    if path.exists() and not any((path / name).is_file() for name in _SAVED):
        raise UserError(f"{path} holds something else than a saved dataset", "Choose another folder.")
    usual = pa.schema([pa.field(f.name, pa.string()) if f.type == pa.large_string() else f for f in table.schema])
    table = table.cast(usual)
    disable_progress_bars()
    names = [name for name in split.unique().to_pylist() if name]
    with replaced_folder(path) as temporary:
        if not names:
            Dataset(InMemoryTable(table)).save_to_disk(str(temporary))
            return
        parts = {name: table.filter(pc.equal(split, name)) for name in names}
        rest = table.filter(pc.equal(split, ""))
        parts |= {UNSPLIT: rest} if rest.num_rows else {}
        DatasetDict({name: Dataset(InMemoryTable(part)) for name, part in parts.items()}).save_to_disk(str(temporary))
