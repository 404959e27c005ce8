"""CSV and TSV with a header. Cells are kept as they are, line breaks, leading blanks and all.

A row with a wrong number of cells or a stray quote costs itself only: reading goes on at the line after the one where it
began. Knows nothing of what a column means.
"""

from __future__ import annotations

import csv
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from core.data.encoding import has_bad_bytes, name_bad_bytes
from core.data.readers.base import Chunk, Chunks, Document, Fault, Limits
from core.data.readers.json_lines import raw_text
from core.data.readers.text import line_batches
from core.data.spreadsheet import MARK, restored, restored_header
from core.errors import InputFileError

CHUNK = 20_000
DELIMITERS = (",", "\t", ";", "|")
_RESCANS = 200
_SNIFFED_LINES = 200


@dataclass(frozen=True, slots=True)
class Dialect:
    """How cells are told apart; ``quoted``: a cell may stand in double quotes; ``marked``: see ``core.data.spreadsheet``."""

    delimiter: str = ","
    quoted: bool = True
    marked: bool = False


class _Lines:
    """Lines of a document, each with its line end, that can be gone back over to the line after a record's start."""

    def __init__(self, batches: Iterator[list[str]], limit: int) -> None:
        self._batches, self._limit = batches, limit
        self._waiting: deque[str] = deque()
        self.taken: list[str] = []
        self._size = 0
        self.number = 0

    def __iter__(self) -> _Lines:
        return self

    def __next__(self) -> str:
        while not self._waiting:
            self._waiting.extend(next(self._batches))
        line = self._waiting.popleft()
        self.taken.append(line)
        self._size += len(line)
        if self._size > self._limit:
            raise csv.Error(f"longer than {self._limit:,} characters")
        return f"{line}\n"

    def begin(self) -> int:
        """Start a record at the next line; returns that line's number."""
        self.number += len(self.taken)
        self.taken.clear()
        self._size = 0
        return self.number + 1

    def back(self) -> None:
        """Go back to the line after the one where the record began."""
        while len(self.taken) > 1:
            self._waiting.appendleft(self.taken.pop())


def sniff(document: Document, encoding: str, limits: Limits) -> Dialect:
    """The dialect of a document: by its header line, and for tabs by whether quotes pair up."""
    lines = next(line_batches(document, encoding, limits.row_characters, 262_144), [])[:_SNIFFED_LINES]
    head = next((line for line in lines if line.strip()), "")
    counts = {delimiter: head.count(delimiter) for delimiter in DELIMITERS}
    preferred = "\t" if document.suffix in (".tsv", ".tab") else ","
    delimiter = preferred if counts[preferred] else max(DELIMITERS, key=lambda d: counts[d])
    if not counts[delimiter]:
        return Dialect(preferred)
    marked = head.rstrip("\r").endswith(f"{delimiter}{MARK}")
    if delimiter == "\t" and any('"' in line for line in lines):
        whole = [line for line in lines[:-1] if line.strip()]
        plain = all(line.count("\t") == counts["\t"] for line in whole)
        if plain and _has_stray_quotes(whole, delimiter):
            return Dialect(delimiter, quoted=False, marked=marked)
    return Dialect(delimiter, marked=marked)


def _has_stray_quotes(lines: Sequence[str], delimiter: str) -> bool:
    for line in lines:
        try:
            list(csv.reader([line], delimiter=delimiter, strict=True))
        except csv.Error:
            return True
    return False


def read(document: Document, encoding: str, limits: Limits, dialect: Dialect, limit: int | None = None) -> Chunks:
    """Records (header name → cell) with the line on which each begins; blank lines are no rows.

    InputFileError if there is no header line, or quotes are so broken that rows can't be told apart.
    """
    csv.field_size_limit(max(limits.row_characters * 2, 131_072))
    lines = _Lines(line_batches(document, encoding, limits.row_characters, limit), limits.row_characters)
    reader = _reader(lines, dialect)
    lines.begin()
    try:
        header = header_names(next(reader))
    except (StopIteration, csv.Error) as error:
        raise InputFileError(f"{document.name} has no header line", "The first line must name the columns.") from error
    yield from _rows(document.name, lines, dialect, header, encoding)


def _reader(lines: _Lines, dialect: Dialect) -> Iterator[list[str]]:
    if dialect.quoted:
        return csv.reader(lines, delimiter=dialect.delimiter, strict=True)
    return csv.reader(lines, delimiter=dialect.delimiter, quoting=csv.QUOTE_NONE, strict=True)


def header_names(cells: list[str]) -> list[str]:
    """Column names: a blank one is named by its place, a repeated one gets a number."""
    names: list[str] = []
    for place, cell in enumerate(cells, 1):
        name = cell.strip() or f"column_{place}"
        again = 2
        while name in names:
            name, again = f"{cell.strip()}_{again}", again + 1
        names.append(name)
    return names


def _rows(source: str, lines: _Lines, dialect: Dialect, header: list[str], encoding: str) -> Chunks:
    reader, rescans = _reader(lines, dialect), 0
    marked, header = MARK in header, restored_header(header)
    records: list[dict[str, str]] = []
    places: list[int] = []
    raws: list[str] = []
    faults: list[Fault] = []
    while True:
        start, reason = lines.begin(), ""
        try:
            cells = next(reader)
        except StopIteration:
            break
        except csv.Error as error:
            cells, reason = [], _in_words(error)
        raw = "\n".join(lines.taken)
        if not reason and has_bad_bytes(raw):
            reason = name_bad_bytes(raw, encoding)
        elif not reason and cells and len(cells) != len(header):
            reason = f"{len(cells)} cells, the header has {len(header)}"
            if len(lines.taken) > 1:
                reason += "; a quote may be missing"
        if reason:
            if len(lines.taken) > 1 and "decoded" not in reason:
                raw, rescans = lines.taken[0], rescans + 1
                lines.back()
                reader = _reader(lines, dialect)
                if rescans > _RESCANS:
                    raise InputFileError(
                        f"{source} has quotes that don't pair up, the last of them on line {start}",
                        "Double each quote inside a cell, or export the file again as JSON Lines.",
                    )
            faults.append(Fault(source, start, reason, raw_text(raw)))
        elif cells:
            record = dict(zip(header, cells, strict=True))
            records.append(restored(record) if marked else record)
            places.append(start)
            raws.append(raw)
        if len(records) + len(faults) >= CHUNK:
            yield _chunk(source, records, places, raws, faults)
            records, places, raws, faults = [], [], [], []
    yield _chunk(source, records, places, raws, faults)


def _in_words(error: csv.Error) -> str:
    """The csv module's message for the reason column."""
    text = str(error)
    if "unexpected end of data" in text:
        return "a quote opens and never closes"
    if "expected after" in text:
        return "text after a closing quote"
    return text


def _chunk(source: str, records: list[dict[str, str]], places: list[int], raws: list[str], faults: list[Fault]) -> Chunk:
    return Chunk(source, records, places, lambda i: raw_text(raws[i]), faults)
