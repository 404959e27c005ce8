"""What a document is: its container, encoding and dialect, and the shape of its records.

Looks at the first few MiB only (the encoding at all of it). Knows nothing of datasets.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

from core.data.encoding import decode
from core.data.readers import arrow, conll, delimited, excel, json_document, json_lines
from core.data.readers.base import Chunk, Chunks, Document, Limits
from core.data.readers.json_text import first_character
from core.data.readers.shapes.registry import row_like
from core.data.readers.sources import blocks
from core.data.readers.text import SAMPLE_BYTES, check_encoding, detect_encoding
from core.errors import InputFileError

Container = Literal["json", "jsonl", "delimited", "conll", "excel", "parquet", "arrow"]
SAMPLE_RECORDS = 500
CSV = delimited.Dialect()
_NAMED = (".json", ".jsonl", ".ndjson", ".csv")


@dataclass(frozen=True, slots=True)
class How:
    """How a document is read; ``encoding_why``: what tells an encoding that was found out, empty where all bytes are UTF-8."""

    container: Container
    encoding: str = ""
    encoding_why: str = ""
    dialect: delimited.Dialect = CSV


def how_to_read(document: Document, limits: Limits, encoding: str | None = None) -> How:
    """The container of a document, judged by what is in it and then by its name. InputFileError if it is none."""
    binary = _binary_container(document)
    if binary is not None:
        return How(binary)
    if encoding is not None:
        check_encoding(encoding)
    found = detect_encoding(document) if encoding is None else None
    name = found.name if found else encoding or "utf-8"
    why = found.why if found and not (found.name == "utf-8" and found.clean) else ""
    container = _text_container(document, name)
    dialect = delimited.sniff(document, name, limits) if container == "delimited" else delimited.Dialect()
    return How(container, name, why, dialect)


def _binary_container(document: Document) -> Container | None:
    """The container of a file that isn't text, by its first bytes; None for text."""
    head = next(blocks(document, 16), b"")
    if head.startswith(b"PAR1"):
        return "parquet"
    if head.startswith(b"ARROW1") or (document.suffix == ".arrow" and head.startswith(b"\xff\xff\xff\xff")):
        return "arrow"
    if head.startswith(b"PK\x03\x04"):
        return "excel"
    if head.startswith(b"\xd0\xcf\x11\xe0"):
        raise InputFileError(
            f"{document.name} is an old or encrypted Office file", "Save it as .xlsx without a password, or as CSV."
        )
    return None


def _text_container(document: Document, encoding: str) -> Container:
    head = "".join(decode(blocks(document, SAMPLE_BYTES), encoding))
    first = first_character(head)
    if document.suffix not in _NAMED and conll.looks_like(head.split("\n", 400)[:400], document.suffix):
        return "conll"
    if document.suffix in (".jsonl", ".ndjson"):
        return "json" if first == "[" and not _is_json_lines(head) else "jsonl"
    if first in ("{", "[") and document.suffix not in (".csv", ".tsv"):
        return "jsonl" if _is_json_lines(head) else "json"
    if document.suffix == ".json":
        return "jsonl" if any(_is_object(line) for line in head.split("\n")[:20]) else "json"
    return "delimited"


def _is_json_lines(head: str) -> bool:
    """Whether text that starts like JSON is one value a line rather than one document."""
    lines = [line for line in head.split("\n", 50)[:50] if line.strip()]
    if len(lines) < 2:
        return False
    if _parses(lines[0]):
        return True
    if lines[0].startswith("{") and lines[0].rstrip().endswith("}"):
        return True
    return sum(1 for line in lines[1:] if line.startswith('{"') and _is_object(line)) >= 2


def _parses(line: str) -> bool:
    try:
        json.loads(line)
    except (ValueError, RecursionError):
        return False
    return True


def _is_object(line: str) -> bool:
    return line.lstrip().startswith("{") and _parses(line)


def chunks(document: Document, how: How, limits: Limits, limit: int | None = None) -> Chunks:
    """The records of a document; ``limit`` looks at its first bytes only (a cut record at their end is left out)."""
    if how.container == "jsonl":
        return json_lines.read(document, how.encoding, limits, limit)
    if how.container == "conll":
        return conll.read(document, how.encoding, limits, limit)
    if how.container == "excel":
        return excel.read(document, limits)
    if how.container in ("parquet", "arrow"):
        return arrow.read(document, how.container, limits)
    if how.container == "json":
        return json_document.read(document, how.encoding, limits, is_row=row_like, limit=limit)
    return delimited.read(document, how.encoding, limits, how.dialect, limit)


def sample(document: Document, how: How, limits: Limits) -> Iterator[Chunk]:
    """The first records, SAMPLE_RECORDS or a few more, for guessing and previews."""
    seen = 0
    for chunk in chunks(document, how, limits, SAMPLE_BYTES):
        yield chunk
        seen += len(chunk.records)
        if seen >= SAMPLE_RECORDS:
            return


def columns_of(records: list[Any]) -> list[str]:
    """Names of the fields of some records, in order of first appearance."""
    names: dict[str, None] = {}
    for record in records:
        if isinstance(record, dict):
            names.update(dict.fromkeys(record))
    return list(names)
