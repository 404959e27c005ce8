"""Text that was decoded with the wrong encoding: found with little risk of a false alarm, and repaired where it can be.

Three kinds: UTF-8 read as a Western code page (``Ã©``, ``æˆ‘``; judged by ftfy), UTF-8 read as GBK (``浣犲ソ``
for 你好; judged by reading it back), and characters that are lost (U+FFFD, 锟斤拷, 烫烫烫), which can't be repaired.
"""

from __future__ import annotations

import re

_FIRST = "".join(
    sorted(
        {
            char
            for lead in (0xE2, 0xE3, 0xE4, 0xE5, 0xE6, 0xE7, 0xE8, 0xE9, 0xEF)
            for trail in range(0x80, 0xC0)
            for char in bytes([lead, trail]).decode("gbk", "ignore")
        }
    )
)
"""What the first two bytes of a Chinese character in UTF-8 look like in GBK: rare characters, all of them."""
LOST = r"\x{FFFD}|锟斤拷|烫烫烫|屯屯屯"
PATTERN = rf"{LOST}|[\x{{C2}}-\x{{F4}}][\x{{80}}-\x{{BF}}€‚ƒ„…†‡ˆ‰Š‹ŒŽ‘’“”•–—˜™š›œžŸ]|[{_FIRST}][^\x00-\x7F][^\x00-\x7F]"
_LOST = re.compile("\ufffd|锟斤拷|烫烫烫|屯屯屯")
_WESTERN = re.compile("[\u00c2-\u00f4][\u0080-\u00bf€‚ƒ„…†‡ˆ‰Š‹ŒŽ‘’“”•–—˜™š›œžŸ]")
_RUN = re.compile(rf"[{_FIRST}][^\x00-\x7f]{{2,}}")
_PLAUSIBLE = re.compile("[\u3000-\u303f\u4e00-\u9fff\uff00-\uff65\u2010-\u2027]")


def _read_back(run: str) -> str | None:
    """What GBK made out of UTF-8, read as UTF-8; nothing if it isn't that. Up to two characters cut off at the end are kept."""
    for cut in (0, 1, 2):
        part = run[: len(run) - cut]
        if len(part) < 3:
            return None
        try:
            text = part.encode("gbk").decode("utf-8")
        except UnicodeError:
            continue
        if len(text) >= 2 and len(_PLAUSIBLE.findall(text)) >= 0.8 * len(text):
            return text + run[len(run) - cut :] if cut else text
    return None


def _is_gbk(text: str) -> bool:
    return any(_read_back(run) is not None or _inner(run) is not None for run in _RUN.findall(text))


def _inner(run: str) -> str | None:
    """The longest beginning of at least six characters that reads back, for a run that goes on with sound text."""
    for end in range(len(run) - 3, 5, -1):
        back = _read_back(run[:end])
        if back is not None:
            return back + run[end:]
    return None


def is_mojibake(text: str) -> bool:
    """Whether a text shows that it was decoded wrongly, or lost characters."""
    if _LOST.search(text) or _is_gbk(text):
        return True
    return bool(_WESTERN.search(text)) and _unwestern(text) != text


def _unwestern(text: str) -> str:
    import ftfy

    fixed: str = ftfy.fix_encoding(text)
    return fixed


def repair_mojibake(text: str) -> str:
    """The text with wrong decodings undone where that is sure. A text that lost characters stays as it is."""
    if _LOST.search(text):
        return text
    if _WESTERN.search(text):
        text = _unwestern(text)
    return _RUN.sub(lambda found: _read_back(found[0]) or _inner(found[0]) or found[0], text)
