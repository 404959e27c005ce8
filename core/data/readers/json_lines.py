"""JSON Lines: one JSON value a line. A broken line costs itself only.

Knows nothing of what a record means.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from core.data.encoding import has_bad_bytes, name_bad_bytes, show_bad_bytes
from core.data.readers.base import RAW_LIMIT, Chunk, Chunks, Document, Fault, Limits, nesting_of
from core.data.readers.json_text import RecordDecoder
from core.data.readers.text import line_batches


def read(document: Document, encoding: str, limits: Limits, limit: int | None = None) -> Chunks:
    """Records of a document with their line numbers; blank lines are no rows. ``limit`` reads the first bytes only."""
    decoder, first = RecordDecoder(), 1
    for lines in line_batches(document, encoding, limits.row_characters, limit):
        yield _chunk(document.name, lines, first, decoder, encoding, limits)
        first += len(lines)


def _chunk(source: str, lines: Sequence[str], first: int, decoder: RecordDecoder, encoding: str, limits: Limits) -> Chunk:
    suspicious = has_bad_bytes("".join(lines))
    records: list[Any] = []
    places: list[int] = []
    faults: list[Fault] = []
    for number, line in enumerate(lines, first):
        if not line or line.isspace():
            continue
        reason = ""
        if len(line) > limits.row_characters:
            reason = f"longer than {limits.row_characters:,} characters"
        elif suspicious and has_bad_bytes(line):
            reason = name_bad_bytes(line, encoding)
        else:
            try:
                value = decoder.decode(line)
            except json.JSONDecodeError as error:
                reason = f"not valid JSON: {error.msg.removesuffix(' at')} at column {error.colno}"
            except RecursionError:
                reason = f"nested deeper than {limits.nesting} levels"
            else:
                reason = _objection(value, line, decoder, limits)
        if reason:
            faults.append(Fault(source, number, reason, raw_text(line)))
        else:
            records.append(value)
            places.append(number)
    return Chunk(source, records, places, lambda i: raw_text(lines[places[i] - first]), faults)


def _objection(value: Any, line: str, decoder: RecordDecoder, limits: Limits) -> str:
    if decoder.repeated:
        return f"the key {decoder.repeated!r} stands twice in one object"
    if line.count("{") + line.count("[") > limits.nesting and nesting_of(value, limits.nesting) > limits.nesting:
        return f"nested deeper than {limits.nesting} levels"
    return ""


def raw_text(line: str) -> str:
    """A line as the quarantine shows it: without its line end, bad bytes as ``\\xNN``, not longer than RAW_LIMIT."""
    line = line.removesuffix("\r")
    return show_bad_bytes(line if len(line) <= RAW_LIMIT else f"{line[:RAW_LIMIT]} …")
