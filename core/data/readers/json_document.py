"""A JSON document: a list of records, or an object that holds lists of them under names.

It parses as a whole or not at all. A record with a byte that can't be decoded is a fault of its own.
Places are the records' running numbers, since many documents are one line. Knows nothing of what a record means.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

from core.data.encoding import decode, has_bad_bytes, name_bad_bytes
from core.data.mapping import split_named
from core.data.readers.base import Chunk, Chunks, Document, Fault, Limits, nesting_of
from core.data.readers.json_lines import raw_text
from core.data.readers.json_text import RecordDecoder, first_character, skip_blank
from core.data.readers.sources import blocks
from core.data.readers.text import whole_text
from core.errors import InputFileError

CHUNK = 10_000
GROUP = "group"
"""Key under which a record tells the name of the list that it stood in."""
_WRAPPERS = {"data", "rows", "row", "items", "examples", "records", "list", "dataset", "result", "results", "samples"}


def read(
    document: Document,
    encoding: str,
    limits: Limits,
    *,
    is_row: Callable[[dict[str, Any]], bool] = lambda _: False,
    limit: int | None = None,
) -> Chunks:
    """Records of a document. ``is_row`` says whether an object at the top is itself a record.

    With ``limit`` the first bytes are tried, and all of it only if no record can be read from them.
    InputFileError, naming line and column, if the document doesn't parse as a whole.
    """
    if limit is not None:
        head = "".join(decode(blocks(document, limit), encoding))
        if first_character(head) == "[":
            chunk = _until_broken(document.name, encoding, limits, head)
            if chunk.records:
                yield chunk
                return
    text = whole_text(document, encoding)
    decoder = RecordDecoder()
    dirty = has_bad_bytes(text)
    building, number = _Building(document.name, text), 0
    try:
        for value, start, end in _records(decoder, text, is_row):
            number += 1
            building.add(value, number, start, end, _objection(value, text, start, end, decoder, dirty, encoding, limits))
            if len(building.records) + len(building.faults) >= CHUNK:
                yield building.done()
                building = _Building(document.name, text)
    except json.JSONDecodeError as error:
        raise not_json(document.name, text, error) from error
    except RecursionError as error:
        raise InputFileError(
            f"{document.name} is nested too deeply to be read", f"Lists and objects may be {limits.nesting} levels deep."
        ) from error
    yield building.done()


def _until_broken(source: str, encoding: str, limits: Limits, head: str) -> Chunk:
    """The records of the first part of a list, up to where it is cut."""
    building, decoder, dirty = _Building(source, head), RecordDecoder(), has_bad_bytes(head)
    try:
        for number, (value, start, end) in enumerate(decoder.items(head, skip_blank(head, 0)), 1):
            building.add(value, number, start, end, _objection(value, head, start, end, decoder, dirty, encoding, limits))
    except (json.JSONDecodeError, RecursionError):
        pass
    return building.done()


class _Building:
    """A chunk in the making."""

    def __init__(self, source: str, text: str) -> None:
        self.source, self.text = source, text
        self.records: list[Any] = []
        self.lines: list[int] = []
        self.spans: list[tuple[int, int]] = []
        self.faults: list[Fault] = []

    def add(self, value: Any, number: int, start: int, end: int, reason: str) -> None:
        if reason:
            line = self.text.count("\n", 0, start) + 1
            self.faults.append(
                Fault(self.source, number, f"record {number}, line {line}: {reason}", raw_text(self.text[start:end]))
            )
        else:
            self.records.append(value)
            self.lines.append(number)
            self.spans.append((start, end))

    def done(self) -> Chunk:
        text, spans = self.text, self.spans
        return Chunk(self.source, self.records, self.lines, lambda i: raw_text(text[slice(*spans[i])]), self.faults)


def _objection(
    value: Any, text: str, start: int, end: int, decoder: RecordDecoder, dirty: bool, encoding: str, limits: Limits
) -> str:
    if end - start > limits.row_characters:
        return f"longer than {limits.row_characters:,} characters"
    if dirty and has_bad_bytes(raw := text[start:end]):
        return name_bad_bytes(raw, encoding)
    if decoder.repeated:
        return f"the key {decoder.repeated!r} stands twice in one object"
    if nesting_of(value, limits.nesting) > limits.nesting:
        return f"nested deeper than {limits.nesting} levels"
    return ""


def _records(decoder: RecordDecoder, text: str, is_row: Callable[[dict[str, Any]], bool]) -> Iterator[tuple[Any, int, int]]:
    """Records with their places in the text; everything is read to the end before the last one is given."""
    start = skip_blank(text, 0)
    if start == len(text):
        return
    if text[start : start + 1] == "[":
        end = start
        for value, at, end in decoder.items(text, start):
            yield value, at, end
        _nothing_after(text, skip_blank(text, end) + 1 if end > start else text.index("]", start) + 1)
        return
    root, end = decoder.value_at(text, start)
    _nothing_after(text, end)
    if isinstance(root, dict) and not is_row(root):
        groups = [key for key, value in root.items() if _is_list_of_objects(value)]
        if groups:
            yield from _grouped(decoder, text, start, groups)
            return
    yield root, start, end


def _is_list_of_objects(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(item, dict) for item in value)


def _grouped(decoder: RecordDecoder, text: str, start: int, groups: list[str]) -> Iterator[tuple[Any, int, int]]:
    for key, at in decoder.members(text, start):
        if key not in groups:
            continue
        name = None if key.lower() in _WRAPPERS else "split" if split_named(key) else GROUP
        for value, begin, end in decoder.items(text, at):
            yield (value if name is None or name in value else {**value, name: key}), begin, end


def _nothing_after(text: str, end: int) -> None:
    at = skip_blank(text, end)
    if at < len(text):
        raise json.JSONDecodeError("Extra data", text, at)


def not_json(source: str, text: str, error: json.JSONDecodeError) -> InputFileError:
    """What is wrong with a document, where, and what to do about it."""
    cut = error.pos >= len(text.rstrip()) - 1 or error.msg.startswith("Unterminated")
    hint = (
        "The file seems to be cut off before its end: copy or export it again."
        if cut
        else f"Mend line {error.lineno}, column {error.colno}; or save it as JSON Lines, where a broken line costs only itself."
    )
    return InputFileError(f"{source} is not valid JSON: {_in_words(error)} at line {error.lineno}, column {error.colno}", hint)


def _in_words(error: json.JSONDecodeError) -> str:
    return error.msg.removesuffix(" at")
