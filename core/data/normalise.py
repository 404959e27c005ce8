"""Normal forms of a text: for cleaning (what is written) and for comparing (what counts as equal).

Pure functions on strings. Knows nothing of rows, answers or why two texts are compared.
"""

from __future__ import annotations

import re
import unicodedata
from functools import cache
from pathlib import Path

_PUNCTUATION = "！（），：；？～"
"""Full-width ASCII that is Chinese punctuation; left alone unless asked for."""
_WIDE = {chr(code): chr(code - 0xFEE0) for code in range(0xFF01, 0xFF5F)}
WIDTH: dict[int, str] = {ord(wide): narrow for wide, narrow in _WIDE.items() if wide not in _PUNCTUATION} | {0x3000: " "}
"""Full-width ASCII but Chinese punctuation, and the ideographic space, to half width (as NFKC does)."""
WIDTH_ALL: dict[int, str] = {ord(wide): narrow for wide, narrow in _WIDE.items()} | {0x3000: " ", ord("。"): "."}
"""The same with Chinese punctuation."""
WIDE_PATTERN = r"[\x{FF02}-\x{FF07}\x{FF0A}\x{FF0B}\x{FF0D}-\x{FF19}\x{FF1C}-\x{FF1E}\x{FF20}-\x{FF5D}\x{3000}]"
"""RE2: any character that ``WIDTH`` changes."""

_SPACES = " \t\u00a0\u1680\u2000-\u200a\u202f\u205f\u3000"
SPACE_PATTERN = (
    r"^[\s\x{0B}\x{85}\x{A0}\x{3000}]|[\s\x{0B}\x{85}\x{A0}\x{3000}]$|[ \t]{2}|[\r\t\x{0B}\x{0C}\x{85}\x{2028}\x{2029}]|"
    r"[ \t]\n|\n[ \t]|\n\n\n|[\x{A0}\x{1680}\x{2000}-\x{200A}\x{202F}\x{205F}\x{3000}]"
)
"""RE2: any place that ``tidy_spaces`` may change."""
_LINE_END = re.compile(rf"[{_SPACES}]*(?:\r\n?|\n|\x0b|\x0c|\x85|\u2028|\u2029)[{_SPACES}]*")
_RUN = re.compile(rf"[{_SPACES}]+")
_BLANKS = re.compile(r"\n{3,}")


def narrow(text: str, punctuation: bool = False) -> str:
    """Full-width ASCII letters, digits and signs in half width; Chinese punctuation only if asked."""
    return text.translate(WIDTH_ALL if punctuation else WIDTH)


def tidy_spaces(text: str, join_lines: bool = False) -> str:
    """White space at the ends removed, runs of it one space, line ends ``\\n`` (at most one empty line between lines).

    ``join_lines`` makes a line end a space, too.
    """
    text = _RUN.sub(" ", _LINE_END.sub(" " if join_lines else "\n", text))
    return _BLANKS.sub("\n\n", text).strip()


def _dictionary(name: str) -> dict[str, str]:
    import opencc  # type: ignore[import-untyped, unused-ignore]

    lines = (Path(opencc.__file__).parent / "dictionary" / f"{name}.txt").read_text("utf-8").splitlines()
    pairs = (line.split("\t") for line in lines if "\t" in line)
    return {source: targets.split(" ")[0] for source, targets in pairs if len(source) == 1}


@cache
def to_simplified() -> dict[int, str]:
    """Traditional characters to simplified ones, for ``str.translate`` (OpenCC's TSCharacters, first choice each)."""
    return {ord(source): target for source, target in _dictionary("TSCharacters").items() if source != target}


def _encodable(char: str, encoding: str) -> bool:
    try:
        char.encode(encoding)
    except UnicodeEncodeError:
        return False
    return True


@cache
def script_characters() -> tuple[frozenset[str], frozenset[str]]:
    """Characters found only in simplified text, and those found only in traditional text.

    OpenCC's tables, less what the other script's old national code (GB 2312, Big5) has as well, such as 著 and 后.
    """
    hant = {char for char, simple in _dictionary("TSCharacters").items() if simple != char and not _encodable(char, "gb2312")}
    hans = {char for char, full in _dictionary("STCharacters").items() if full != char and not _encodable(char, "big5")}
    return frozenset(hans - hant), frozenset(hant - hans)


_QUOTES = str.maketrans({"“": '"', "”": '"', "„": '"', "‘": "'", "’": "'", "`": "'", "´": "'", "–": "-", "—": "-", "−": "-"})


@cache
def comparable_character(char: str) -> str:
    """What one character counts as when texts are compared: width, case, script and quotes folded; white space is nothing."""
    if char.isspace() or unicodedata.category(char) in ("Cf", "Cc"):
        return ""
    folded = unicodedata.normalize("NFKC", char).casefold().translate(to_simplified()).translate(_QUOTES)
    return "".join(folded.split())


def comparable(text: str) -> str:
    """A text as it is compared: equal for texts that differ in width, case, white space or script only."""
    return "".join(map(comparable_character, text))


def comparable_with_places(text: str) -> tuple[str, list[int]]:
    """``comparable(text)`` and, for each of its characters, the place in ``text`` that it came from."""
    folded: list[str] = []
    places: list[int] = []
    for place, char in enumerate(text):
        for piece in comparable_character(char):
            folded.append(piece)
            places.append(place)
    return "".join(folded), places
