"""CoNLL files: a token and its tag a line, a blank line after each sentence.

The token is the first column and the tag the last, parted by tabs or spaces. A sentence with a broken line, or with a byte
that can't be decoded, is a fault as a whole. Knows nothing of what tags mean.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from core.data.encoding import has_bad_bytes, name_bad_bytes
from core.data.readers.base import Chunk, Chunks, Document, Fault, Limits
from core.data.readers.json_lines import raw_text
from core.data.readers.shapes.tags import TAG
from core.data.readers.text import line_batches

CHUNK = 5_000
TOKENS, TAGS = "tokens", "tags"
_LEAST, _HALF = 0.9, 0.5
SUFFIXES = (".conll", ".bio", ".bioes", ".bmes", ".iob", ".ner")


def looks_like(lines: Sequence[str], suffix: str = "") -> bool:
    """Whether nearly all lines that aren't blank are a token and a tag, and some tag isn't ``O``.

    Half of them are enough where the file's ending says that it is CoNLL.
    """
    separator = _separator(lines)
    filled = [line for line in lines if line.strip() and not _is_comment(line) and not line.startswith("-DOCSTART-")]
    tags = [pair[1] for line in filled if (pair := _pair(line, separator)) and TAG.match(pair[1])]
    return (
        len(filled) >= 2
        and len(tags) >= (_HALF if suffix in SUFFIXES else _LEAST) * len(filled)
        and any(tag != "O" for tag in tags)
    )


def read(document: Document, encoding: str, limits: Limits, limit: int | None = None) -> Chunks:
    """Sentences as records ``{"tokens": [...], "tags": [...]}`` with the line on which each begins."""
    records: list[dict[str, list[str]]] = []
    places: list[int] = []
    raws: list[str] = []
    faults: list[Fault] = []
    separator = ""
    for start, lines in _sentences(document, encoding, limits, limit):
        separator = separator or _separator(lines)
        raw = "\n".join(line.removesuffix("\r") for line in lines)
        pairs = [_pair(line, separator) for line in lines]
        broken = next((start + i for i, pair in enumerate(pairs) if pair is None), None)
        reason = ""
        if has_bad_bytes(raw):
            reason = name_bad_bytes(raw, encoding)
        elif len(raw) > limits.row_characters:
            reason = f"longer than {limits.row_characters:,} characters"
        elif broken is not None:
            reason = f"line {broken} is not a token and a tag"
        if reason:
            faults.append(Fault(document.name, start, reason, raw_text(raw)))
        else:
            whole = [pair for pair in pairs if pair is not None]
            records.append({TOKENS: [token for token, _ in whole], TAGS: [tag for _, tag in whole]})
            places.append(start)
            raws.append(raw)
        if len(records) + len(faults) >= CHUNK:
            yield _chunk(document.name, records, places, raws, faults)
            records, places, raws, faults = [], [], [], []
    yield _chunk(document.name, records, places, raws, faults)


def _chunk(source: str, records: list[dict[str, list[str]]], places: list[int], raws: list[str], faults: list[Fault]) -> Chunk:
    return Chunk(source, records, places, lambda i: raw_text(raws[i]), faults)


def _sentences(document: Document, encoding: str, limits: Limits, limit: int | None) -> Iterator[tuple[int, list[str]]]:
    """Each sentence's first line number and lines; comments and ``-DOCSTART-`` are none."""
    number, start, sentence = 0, 0, list[str]()
    for batch in line_batches(document, encoding, limits.row_characters, limit):
        for line in batch:
            number += 1
            if not line.strip() or line.startswith("-DOCSTART-"):
                if sentence:
                    yield start, sentence
                    sentence = []
            elif sentence or not _is_comment(line):
                start = start if sentence else number
                sentence.append(line)
    if sentence:
        yield start, sentence


def _is_comment(line: str) -> bool:
    """``# id = …`` before a sentence, unless it is the token ``#`` with its tag."""
    return line.startswith("# ") and not TAG.match(line.rsplit(None, 1)[-1])


def _separator(lines: Sequence[str]) -> str:
    filled = [line for line in lines if line.strip()]
    return "\t" if 2 * sum("\t" in line for line in filled) > len(filled) else " "


def _pair(line: str, separator: str) -> tuple[str, str] | None:
    """Token and tag of a line; a line that begins with its separator has a blank for a token."""
    text = line.rstrip()
    token, parted, _ = text.partition(separator)
    tag = text.rsplit(separator, 1)[-1].strip() if parted else ""
    return (token or " ", tag) if tag else None
