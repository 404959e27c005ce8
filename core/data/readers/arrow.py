"""Parquet and Arrow files (also the ``.arrow`` files of the datasets library) as records.

Numbers that stand for a class's name are given their names, where the file tells them. Knows nothing of what a column means.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Mapping
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from core.data.readers.base import RAW_LIMIT, Chunk, Chunks, Document, Fault, Limits, nesting_of
from core.data.readers.json_text import compact_any
from core.errors import InputFileError

CHUNK = 5_000


def read(document: Document, container: str, limits: Limits) -> Chunks:
    """Records with their running numbers. InputFileError if the file is damaged."""
    number = 1
    try:
        with document.open() as handle:
            for batch, names in _batches(_seekable(handle), container):
                yield _chunk(document.name, batch.to_pylist(), names, number, limits)
                number += batch.num_rows
    except (pa.ArrowInvalid, pa.ArrowException, OSError) as error:
        detail = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputFileError(
            f"{document.name} is not a whole {container} file: {detail}", "Write or download it again."
        ) from error


def _seekable(handle: BinaryIO) -> BinaryIO:
    return handle if handle.seekable() else io.BytesIO(handle.read())


def _batches(handle: BinaryIO, container: str) -> Iterator[tuple[pa.RecordBatch, dict[str, list[str]]]]:
    if container == "parquet":
        file = pq.ParquetFile(handle)
        names = class_names(file.schema_arrow)
        for batch in file.iter_batches(CHUNK):
            yield batch, names
        return
    magic = handle.read(6)
    handle.seek(0)
    reader = pa.ipc.open_file(handle) if magic == b"ARROW1" else pa.ipc.open_stream(handle)
    names = class_names(reader.schema)
    batches = (reader.get_batch(i) for i in range(reader.num_record_batches)) if magic == b"ARROW1" else iter(reader)
    for batch in batches:
        for start in range(0, batch.num_rows, CHUNK):
            yield batch.slice(start, CHUNK), names


def class_names(schema: pa.Schema) -> dict[str, list[str]]:
    """Column → names of its classes, from the metadata that the datasets library writes."""
    try:
        features = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
        return {column: names for column, feature in features.items() if (names := _names_in(feature))}
    except (KeyError, ValueError, TypeError, AttributeError):
        return {}


def _names_in(feature: Any) -> list[str]:
    if isinstance(feature, list) and len(feature) == 1:
        return _names_in(feature[0])
    if not isinstance(feature, dict):
        return []
    if feature.get("_type") == "ClassLabel":
        return list(feature.get("names") or [])
    return _names_in(feature.get("feature"))


def _chunk(source: str, records: list[dict[str, Any]], names: Mapping[str, list[str]], first: int, limits: Limits) -> Chunk:
    kept: list[dict[str, Any]] = []
    places: list[int] = []
    faults: list[Fault] = []
    for number, record in enumerate(records, first):
        for column, classes in names.items():
            record[column] = _named(record.get(column), classes)
        reason = _objection(record, limits)
        if reason:
            faults.append(Fault(source, number, reason, compact_any(record)[:RAW_LIMIT]))
        else:
            kept.append(record)
            places.append(number)
    return Chunk(source, kept, places, lambda i: compact_any(kept[i])[:RAW_LIMIT], faults)


def _objection(record: Mapping[str, Any], limits: Limits) -> str:
    if sum(len(value) for value in record.values() if isinstance(value, str)) > limits.row_characters:
        return f"longer than {limits.row_characters:,} characters"
    if any(isinstance(value, (list, dict)) for value in record.values()) and nesting_of(record, limits.nesting) > limits.nesting:
        return f"nested deeper than {limits.nesting} levels"
    return ""


def _named(value: Any, classes: list[str]) -> Any:
    if isinstance(value, list):
        return [_named(item, classes) for item in value]
    return classes[value] if isinstance(value, int) and 0 <= value < len(classes) else value
