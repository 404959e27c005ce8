"""A document's text: whole, or line by line, decoded so that no byte is lost and no line fills the memory.

Knows nothing of what the lines mean.
"""

from __future__ import annotations

import codecs
from collections.abc import Iterator

from core.data.encoding import Detected, decode, detect
from core.data.readers.base import Document
from core.data.readers.sources import blocks
from core.errors import InputFileError

SAMPLE_BYTES = 4 * 1024 * 1024
_BINARY = (b"%PDF", b"\x89PNG", b"\xff\xd8\xff", b"GIF8", b"\x7fELF", b"SQLite format 3")


def detect_encoding(document: Document, limit: int | None = None) -> Detected:
    """The encoding of a document (of its first ``limit`` bytes). InputFileError if it isn't text at all."""
    found = detect(blocks(document, limit))
    if not found.name.startswith(("utf-16", "utf-32")):
        head = next(blocks(document, 65_536), b"")
        if head.startswith(_BINARY) or head.count(b"\0") > max(1, len(head) // 500):
            raise InputFileError(
                f"{document.name} is not a text file",
                "Give JSON, JSON Lines, CSV, TSV, Excel, Parquet or CoNLL, as it is or in a .gz or .zip.",
            )
    return found


def check_encoding(name: str) -> None:
    """InputFileError unless there is a text encoding of this name."""
    try:
        "".encode(name)
        codecs.getincrementaldecoder(name)
    except LookupError as error:
        raise InputFileError(f"There is no encoding {name!r}", "For example utf-8, gb18030, big5, utf-16, cp1252.") from error


def whole_text(document: Document, encoding: str) -> str:
    """All of a document's text."""
    return "".join(decode(blocks(document), encoding))


def line_batches(document: Document, encoding: str, longest: int, limit: int | None = None) -> Iterator[list[str]]:
    """Lines in lists of some thousands, without their ``\\n`` (a ``\\r`` before it stays).

    A line of more than ``longest`` characters is cut behind them, so that it can still be told to be too long.
    ``limit`` reads only the first bytes; the last line may then be cut.
    """
    carry, dropping = "", False
    for text in decode(blocks(document, limit), encoding):
        lines = text.split("\n")
        if len(lines) == 1:
            carry = carry if dropping else carry + lines[0]
        else:
            lines[0] = carry if dropping else carry + lines[0]
            carry, dropping = lines.pop(), False
            yield lines
        if len(carry) > 2 * longest:
            carry, dropping = carry[: longest + 1], True
    if carry:
        yield [carry]
