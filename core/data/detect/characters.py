"""Characters that nobody sees: control characters, zero-width ones, direction marks; and full-width forms among ASCII."""

from __future__ import annotations

import re

PATTERN = r"[\x{00}-\x{08}\x{0B}\x{0C}\x{0E}-\x{1F}\x{7F}-\x{9F}\x{AD}\x{200B}\x{200E}\x{200F}\x{202A}-\x{202E}\x{2060}-\x{2064}\x{2066}-\x{206F}\x{FEFF}\x{FFF9}-\x{FFFB}]|[\x{0021}-\x{024F}\x{3000}-\x{9FFF}][\x{200C}\x{200D}]"  # noqa: E501
"""RE2. Zero-width joiners count only behind Latin or Chinese characters: emoji and Persian need them."""
PATTERN_BUT_LATIN = PATTERN.replace(r"\x{7F}-\x{9F}\x{AD}", r"\x{7F}")
"""RE2: the same without C1 control characters and the soft hyphen, which wrong decodings are full of."""
_HIDDEN = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\xad\u200b\u200e\u200f\u202a-\u202e\u2060-\u2064\u2066-\u206f\ufeff\ufff9-\ufffb]"
    "|(?<=[\u0021-\u024f\u3000-\u9fff])[\u200c\u200d]"
)
WIDE_LETTERS = r"[\x{FF10}-\x{FF19}\x{FF21}-\x{FF3A}\x{FF41}-\x{FF5A}]"
"""RE2: full-width digits and letters, which mix with half-width ones as different characters."""


def has_hidden(text: str) -> bool:
    """Whether a text holds characters that can't be seen."""
    return _HIDDEN.search(text) is not None


def strip_hidden(text: str) -> str:
    """The text without them."""
    return _HIDDEN.sub("", text)
