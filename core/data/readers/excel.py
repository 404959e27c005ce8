"""Excel workbooks (.xlsx): the first sheet with rows, and further sheets with the same header.

A sheet with another header is told as a fault, not read. Knows nothing of what a column means.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterator, Sequence
from typing import Any

from core.data.readers.base import RAW_LIMIT, Chunk, Chunks, Document, Fault, Limits
from core.data.readers.cells import cell_text
from core.data.readers.delimited import header_names
from core.data.readers.json_text import compact_any
from core.data.spreadsheet import MARK, restored, restored_header
from core.errors import InputFileError

CHUNK = 5_000


def read(document: Document, limits: Limits) -> Chunks:
    """Records (header name → text) with the sheet's row numbers; rows without any value are no rows.

    InputFileError if it is no workbook, or expands to more than is allowed.
    """
    from openpyxl import load_workbook
    from openpyxl.utils.exceptions import InvalidFileException

    with document.open() as handle:
        content = io.BytesIO(handle.read())
    try:
        with zipfile.ZipFile(content) as parts:
            expanded = sum(part.file_size for part in parts.infolist())
        if expanded > limits.expanded_bytes:
            raise InputFileError(
                f"{document.name} expands to {expanded / 2**20:,.0f} MiB; the limit is {limits.expanded_bytes / 2**20:,.0f} MiB",
                "If it is meant to be that large, set TUNEWISE_MAX_EXPANDED_MB.",
            )
        book = load_workbook(content, read_only=True, data_only=True)
    except (zipfile.BadZipFile, InvalidFileException, KeyError, ValueError, OSError) as error:
        raise InputFileError(f"{document.name} is not an Excel workbook", "Save it again as .xlsx.") from error
    try:
        yield from _sheets(document.name, book, limits)
    finally:
        book.close()


def _sheets(source: str, book: Any, limits: Limits) -> Chunks:
    header: list[str] = []
    several = len(book.worksheets) > 1
    for sheet in book.worksheets:
        rows = _filled_rows(sheet)
        first = next(rows, None)
        if first is None:
            continue
        name = f"{source}/{sheet.title}" if several else source
        own = header_names([_text(cell) for cell in first[1]])
        if header and own != header:
            reason = f"sheet {sheet.title!r} has other columns ({', '.join(own[:6])}) and was not read"
            yield Chunk(name, [], [], lambda _: "", [Fault(name, first[0], reason, "\t".join(own))])
            continue
        header = own
        yield from _records(name, header, rows, limits)


def _filled_rows(sheet: Any) -> Iterator[tuple[int, Sequence[Any]]]:
    for number, cells in enumerate(sheet.iter_rows(values_only=True), 1):
        last = next((place for place in range(len(cells), 0, -1) if cells[place - 1] is not None), 0)
        if last:
            yield number, cells[:last]


def _records(source: str, header: list[str], rows: Iterator[tuple[int, Sequence[Any]]], limits: Limits) -> Chunks:
    records: list[dict[str, str]] = []
    places: list[int] = []
    faults: list[Fault] = []
    marked, header = MARK in header, restored_header(header)
    for number, cells in rows:
        texts = [_text(cell) for cell in cells]
        if len(texts) > len(header):
            faults.append(
                Fault(source, number, f"{len(texts)} cells, the header has {len(header)}", "\t".join(texts)[:RAW_LIMIT])
            )
        elif sum(map(len, texts)) > limits.row_characters:
            reason = f"longer than {limits.row_characters:,} characters"
            faults.append(Fault(source, number, reason, "\t".join(texts)[:RAW_LIMIT]))
        else:
            record = dict(zip(header, texts + [""] * (len(header) - len(texts)), strict=True))
            records.append(restored(record) if marked else record)
            places.append(number)
        if len(records) + len(faults) >= CHUNK:
            yield _chunk(source, records, places, faults)
            records, places, faults = [], [], []
    yield _chunk(source, records, places, faults)


def _chunk(source: str, records: list[dict[str, str]], places: list[int], faults: list[Fault]) -> Chunk:
    return Chunk(source, records, places, lambda i: compact_any(records[i])[:RAW_LIMIT], faults)


def _text(cell: Any) -> str:
    """A cell as text, with Excel's ``_x000D_`` as the character it means."""
    if isinstance(cell, str) and "_x" in cell:
        from openpyxl.utils.escape import unescape

        return str(unescape(cell))
    return cell_text(cell)
