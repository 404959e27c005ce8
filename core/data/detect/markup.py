"""Leftovers of HTML: known tags, comments, character references (also pulled apart by a tokeniser: ``& gt ;``)."""

from __future__ import annotations

import html
import re

_TAGS = (
    "a|abbr|article|b|big|blockquote|body|br|button|center|code|dd|del|div|dl|dt|em|font|footer|form|h[1-6]|head|header|hr|html|i|"
    "iframe|img|input|label|li|link|main|mark|meta|nav|noscript|ol|option|p|pre|script|section|select|small|span|strike|strong|"
    "style|sub|sup|svg|table|tbody|td|textarea|tfoot|th|thead|title|tr|tt|u|ul|video"
)
_NAMES = "nbsp|lt|gt|amp|quot|apos|ldquo|rdquo|lsquo|rsquo|mdash|ndash|hellip|middot|copy|reg|times|ensp|emsp|yen|deg|bull"
PATTERN = rf"(?i)</?(?:{_TAGS})(?:\s[^<>]*)?/?>|<!--|<!doctype|&\s?(?:{_NAMES})\s?;|&#x?[0-9a-f]{{2,6}};"
_ANY = re.compile(PATTERN)
_HIDDEN = re.compile(r"<!--.*?-->|<(script|style)\b[^<>]*>.*?</\1\s*>", re.I | re.S)
_BREAK = re.compile(r"<(?:br|hr)\s*/?>|</(?:p|div|li|tr|h[1-6]|title|section|article|blockquote|dd|dt|table|ul|ol)\s*>", re.I)
_TAG = re.compile(rf"</?(?:{_TAGS})(?:\s[^<>]*)?/?>|<!doctype[^<>]*>", re.I)
_REFERENCE = re.compile(rf"&\s?((?:{_NAMES})|#x?[0-9a-f]{{2,6}})\s?;", re.I)


def has_markup(text: str) -> bool:
    """Whether a text holds HTML."""
    return _ANY.search(text) is not None


def strip_markup(text: str) -> str:
    """The text without tags: comments and scripts gone, block ends made line ends, references made characters."""
    text = _BREAK.sub("\n", _HIDDEN.sub("", text))
    text = _REFERENCE.sub(lambda found: html.unescape(f"&{found[1]};"), _TAG.sub("", text))
    return text.replace("\u00a0", " ").rstrip("\n")
