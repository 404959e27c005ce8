"""Which encoding a text file is in, and decoding that loses no byte.

A byte that can't be decoded becomes one character U+DC00 + byte, which no valid text holds, so that the row it is in
can be told (``has_bad_bytes``) and shown (``show_bad_bytes``) while its neighbours are read as if nothing were wrong.
Knows nothing of formats or rows.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

KEEP = "tunewise.keep"
BLOCK = 4 * 1024 * 1024
_BAD = re.compile("[\udc00-\udcff]")
_SAMPLE = 1024 * 1024
_HIGH_RUN = re.compile(rb"[\x80-\xff]+")


def _keep(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeDecodeError):
        raise error
    return "".join(chr(0xDC00 + byte) for byte in error.object[error.start : error.end]), error.end


codecs.register_error(KEEP, _keep)


@dataclass(frozen=True, slots=True)
class Detected:
    """An encoding by its Python name, how it was found out, and whether every byte can be decoded with it."""

    name: str
    why: str
    clean: bool


def has_bad_bytes(text: str) -> bool:
    """Whether a decoded text holds a byte that couldn't be decoded."""
    try:
        text.encode()  # many times faster than looking for them, and nearly always enough
    except UnicodeEncodeError:
        return _BAD.search(text) is not None
    return False


def show_bad_bytes(text: str) -> str:
    """The text with each such byte as ``\\xNN``."""
    return _BAD.sub(lambda match: f"\\x{ord(match[0]) - 0xDC00:02x}", text)


def name_bad_bytes(text: str, encoding: str) -> str:
    """The reason for the quarantine, naming the bytes: ``byte \\xe9 can't be decoded as utf-8``."""
    found = list(dict.fromkeys(show_bad_bytes(match) for match in _BAD.findall(text)))
    bytes_ = ", ".join(found[:4]) + (" …" if len(found) > 4 else "")
    return f"byte{'s' if len(found) > 1 else ''} {bytes_} can't be decoded as {encoding.removesuffix('-sig')}"


def decode(blocks: Iterable[bytes], encoding: str) -> Iterator[str]:
    """Blocks of bytes as blocks of text; what can't be decoded is kept as described above."""
    decoder = codecs.getincrementaldecoder(encoding)(KEEP)
    for block in blocks:
        text = decoder.decode(block)
        if text:
            yield text
    rest = decoder.decode(b"", final=True)
    if rest:
        yield rest


def detect(blocks: Iterable[bytes]) -> Detected:
    """The encoding of a file given as blocks of bytes.

    In this order: a byte order mark; UTF-16 by its zero bytes; UTF-8 when all of it decodes; otherwise UTF-8 with
    strays, GB18030, Big5 or a Western code page, whichever explains the bytes above 127 best.
    """
    sample, runs = b"", bytearray()
    decoder = codecs.getincrementaldecoder("utf-8")()
    valid = True
    for block in blocks:
        if not sample:
            found = _by_mark(block) or _utf16_by_zeros(block[:_SAMPLE])
            if found:
                return found
            sample = block[:_SAMPLE]
        if valid:
            try:
                decoder.decode(block)
            except UnicodeDecodeError:
                valid = False
        if len(runs) < _SAMPLE and not block.isascii():
            runs += b"\n".join(_high_lines(block))[: _SAMPLE - len(runs)] + b"\n"
    if valid:
        try:
            decoder.decode(b"", final=True)
            return Detected("utf-8", "every byte is UTF-8", True)
        except UnicodeDecodeError:
            pass
    return _by_content(bytes(runs))


def _by_mark(head: bytes) -> Detected | None:
    for mark, name in (
        (codecs.BOM_UTF8, "utf-8-sig"),
        (codecs.BOM_UTF32_LE, "utf-32"),
        (codecs.BOM_UTF32_BE, "utf-32"),
        (codecs.BOM_UTF16_LE, "utf-16"),
        (codecs.BOM_UTF16_BE, "utf-16"),
    ):
        if head.startswith(mark):
            return Detected(name, "byte order mark", True)
    return None


def _utf16_by_zeros(head: bytes) -> Detected | None:
    """Text in UTF-16 has its ASCII characters' zero bytes all on even or all on odd places; other text has none."""
    even, odd = head[0::2].count(0), head[1::2].count(0)
    most, least = max(even, odd), min(even, odd)
    if most < max(2, len(head) // 100) or least > most // 20:
        return None
    name = "utf-16-be" if even > odd else "utf-16-le"
    text = head[: len(head) // 2 * 2].decode(name, errors="replace")
    odd_characters = sum(1 for c in text if c == "�" or (ord(c) < 32 and c not in "\t\r\n"))
    return Detected(name, "zero bytes of UTF-16", True) if odd_characters <= len(text) // 100 else None


def _high_lines(block: bytes) -> Iterator[bytes]:
    return (line for line in block.split(b"\n") if not line.isascii())


def _by_content(lines: bytes) -> Detected:
    """Choose among encodings for lines that are not all UTF-8 (only lines with a byte above 127 are given)."""
    as_utf8 = lines.decode("utf-8", KEEP)
    strays = len(_BAD.findall(as_utf8))
    proper = sum(1 for c in as_utf8 if ord(c) > 127) - strays
    if proper >= strays:
        return Detected("utf-8", f"UTF-8 with {strays} stray byte{'s' if strays != 1 else ''}", False)
    scores = {name: _han_score(lines, name) for name in ("gb18030", "big5")}
    best = max(scores, key=lambda name: scores[name])
    if scores[best] >= 0.6:
        text = lines.decode(best, KEEP)
        return Detected(best, "common Chinese characters", not has_bad_bytes(text))
    if _looks_western(lines):
        clean = not any(byte in lines for byte in b"\x81\x8d\x8f\x90\x9d")
        return Detected("cp1252", "accented Western letters", clean)
    return Detected("utf-8", f"UTF-8 with {strays} stray byte{'s' if strays != 1 else ''}", False)


def _han_score(lines: bytes, name: str) -> float:
    """Share of the non-ASCII characters that are common Chinese (level 1 of the standard) or its punctuation.

    Characters that can't be decoded count against; pairs of a high byte and an ASCII letter, which a Western text is
    full of, count for nothing.
    """
    good = total = 0
    for character in lines.decode(name, KEEP):
        code = ord(character)
        if code < 128:
            continue
        total += 1
        if 0x3000 <= code <= 0x303F or 0xFF01 <= code <= 0xFF5E or character in "“”‘’…—·":
            good += 1
        elif 0x4E00 <= code <= 0x9FFF:
            pair = character.encode(name)
            if name == "gb18030":
                good += len(pair) == 2 and 0xB0 <= pair[0] <= 0xD7 and pair[1] >= 0xA1
            else:
                good += 0xA4 <= pair[0] <= 0xC6
    return good / total if total else 0.0


def _looks_western(lines: bytes) -> bool:
    """Several lines in which bytes above 127 stand alone or in pairs beside letters, as accents do."""
    runs = _HIGH_RUN.findall(lines)
    letters = sum(1 for run in runs if len(run) <= 2 and all(byte >= 0xC0 or byte in b"\x91\x92\x93\x94\xa0" for byte in run))
    return lines.count(b"\n") >= 5 and letters >= 0.8 * len(runs)
