"""A folder of documents, cut into passages: what an arm with retrieval searches.

Text and Markdown files are one document each; of a JSON Lines file each line is one (``text``, perhaps ``title``). A passage
ends where a sentence or a paragraph does, if one does, and begins with the last sentences of the one before. Knows nothing of
questions and of how passages are found.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from core.data.encoding import detect
from core.errors import InputFileError, UserError
from core.settings import get_settings

KINDS = (".txt", ".md", ".jsonl")
_SENTENCE = re.compile(r".+?(?:[。！？；…]+[”’」』）]*|[.!?;][\"'”’)]*(?=\s)|\n+|\Z)", re.DOTALL)
_UNIT = re.compile(
    r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af\uf900-\ufaff]|[^\W_]+?(?=[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]|\W|_|\Z)"
)


@dataclass(frozen=True, slots=True)
class Document:
    """A text, what it is called, and where it came from (file, and line of a JSON Lines file)."""

    title: str
    text: str
    source: str


@dataclass(frozen=True, slots=True)
class Passage:
    """A part of a document: characters ``start`` to ``end`` of its text."""

    text: str
    title: str
    source: str
    start: int
    end: int


def document_files(folder: Path) -> list[Path]:
    """The documents' files below a folder, by path; hidden ones are passed over.

    UserError for a folder that isn't there or has none, and for a file of another kind, which is named.
    """
    if not folder.is_dir():
        raise UserError(f"There is no folder {folder}", "Give a folder of .txt, .md or .jsonl files.")
    found = sorted(
        path
        for path in folder.rglob("*")
        if path.is_file() and not any(part.startswith(".") for part in path.relative_to(folder).parts)
    )
    strange = [path for path in found if path.suffix.lower() not in KINDS]
    if strange:
        others = f" and {len(strange) - 1:,} more" if len(strange) > 1 else ""
        raise UserError(
            f"{strange[0].relative_to(folder)}{others} in {folder} can't be read as a document",
            f"Documents are {', '.join(KINDS)} files: save others as text, and keep what is no document elsewhere.",
        )
    if not found:
        raise UserError(f"{folder} has no documents", "Put .txt, .md or .jsonl files there.")
    most = get_settings().max_file_mb
    for path in found:
        if path.stat().st_size > most * 2**20:
            raise UserError(f"{path.name} is larger than {most:,} MB", "Split it, or raise TUNEWISE_MAX_FILE_MB.")
    return found


def content_of(folder: Path) -> str:
    """A hash of all documents, names and contents: other documents have another."""
    lines = [f"{path.relative_to(folder)} {sha256(path.read_bytes()).hexdigest()}" for path in document_files(folder)]
    return sha256("\n".join(lines).encode()).hexdigest()[:16]


def read_documents(folder: Path) -> Iterator[Document]:
    """The documents of a folder, whatever encoding each is in. InputFileError names a file with bytes that are no text, or a line
    without ``text``."""
    for path in document_files(folder):
        name, content = str(path.relative_to(folder)), path.read_bytes()
        encoding = detect([content])
        try:
            text = content.decode(encoding.name).replace("\r\n", "\n").replace("\r", "\n")
        except UnicodeDecodeError as error:
            raise InputFileError(
                f"{name} isn't text in {encoding.name}: {error.reason} at byte {error.start:,}", "Save it in UTF-8."
            ) from None
        if path.suffix.lower() == ".jsonl":
            yield from _lines(name, text)
        else:
            heading = re.match(r"\s*#+\s*(\S[^\n]*)", text) if path.suffix.lower() == ".md" else None
            yield Document(heading.group(1).strip() if heading else path.stem, text, name)


def _lines(name: str, text: str) -> Iterator[Document]:
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except ValueError as error:
            raise InputFileError(f"{name}, line {number}: no JSON ({error})", "Each line is one JSON object.") from None
        words = record.get("text") if isinstance(record, dict) else None
        if not isinstance(words, str):
            raise InputFileError(f"{name}, line {number}: no text", 'Each line is {"text": …}, perhaps with "title".')
        title = record.get("title")
        yield Document(title if isinstance(title, str) else "", words, f"{name}:{number}")


def units(text: str) -> int:
    """Words, and characters of scripts without spaces."""
    return sum(1 for _ in _UNIT.finditer(text))


def passages(document: Document, size: int, overlap: int) -> Iterator[Passage]:
    """Passages of at most ``size`` units that together hold the whole text; each repeats at most ``overlap`` of the last."""
    parts = [part for sentence in _SENTENCE.finditer(document.text) for part in _bounded(*sentence.span(), document.text, size)]
    counts = [units(document.text[start:end]) for start, end in parts]
    first, beyond = 0, 0
    while beyond < len(parts):
        taken = sum(counts[first:beyond])
        while beyond < len(parts) and (taken + counts[beyond] <= size or first == beyond):
            taken += counts[beyond]
            beyond += 1
        start, end = parts[first][0], parts[beyond - 1][1]
        text = document.text[start:end]
        if counts[first:beyond] and text.strip() and taken:
            left = len(text) - len(text.lstrip())
            yield Passage(text.strip(), document.title, document.source, start + left, start + left + len(text.strip()))
        if beyond == len(parts):
            return
        first, repeated = beyond, 0
        while first > 0 and repeated + counts[first - 1] <= min(overlap, size - counts[beyond]):
            first -= 1
            repeated += counts[first]


def _bounded(start: int, end: int, text: str, size: int) -> Iterator[tuple[int, int]]:
    """A sentence, in pieces of ``size`` units where it is longer."""
    places = [match.end() for match in _UNIT.finditer(text, start, end)]
    while len(places) > size:
        yield start, places[size - 1]
        start, places = places[size - 1], places[size:]
    yield start, end
