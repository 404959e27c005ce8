"""Personal data: Chinese identity numbers, mobiles, bank cards, phones, e-mail addresses. Found by form and checksum; masked.

Identity numbers: GB 11643-1999, ISO 7064 MOD 11-2 check. Bank cards: ISO/IEC 7812, Luhn check. A number that
fails its check isn't one, which keeps order and part numbers out.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from typing import Literal

Kind = Literal["identity", "mobile", "bank_card", "phone", "email"]
KINDS: tuple[Kind, ...] = ("identity", "mobile", "bank_card", "phone", "email")
PATTERN = r"[0-9][0-9 \-()]{5,}[0-9Xx]|[0-9A-Za-z]@[0-9A-Za-z]"
"""RE2: any text that may hold one."""

_IDENTITY = re.compile(
    r"(?<![0-9A-Za-z])[1-9]\d{5}(?:18|19|20)\d{2}(?:0[1-9]|1[0-2])(?:0[1-9]|[12]\d|3[01])\d{3}[0-9Xx](?![0-9A-Za-z])"
)
_CARD = re.compile(r"(?<![0-9A-Za-z.\-])[2-6]\d{3}(?:[ \-]?\d{4}){2}[ \-]?\d{1,7}(?![0-9A-Za-z\-])")
_MOBILE = re.compile(r"(?<![0-9A-Za-z.])(?:\+?86[ \-]?)?1[3-9]\d(?:\d{8}|[ \-]\d{4}[ \-]\d{4})(?![0-9A-Za-z])")
_PHONE = re.compile(
    r"(?<![0-9A-Za-z.\-])(?:"
    r"\(?0\d{1,3}\)?[ \-]?\d{7,8}(?:-\d{1,5})?"  # 010-62345678, (0755)26712345, 07-3507405
    r"|0\d{1,2}-\d{3,4}[ \-]?\d{4}"
    r"|[48]00-?\d{3}-?\d{4}"
    r"|\+\d{1,3}[ \-]\(?\d{1,4}\)?(?:[ \-]\d{2,4}){2,4}"
    r"|\(\d{3}\) ?\d{3}-\d{4}"
    r"|\d{3}-\d{3}-\d{4}"
    r")(?![0-9A-Za-z])"
)
_EMAIL = re.compile(
    r"(?<![0-9A-Za-z._%+\-])[0-9A-Za-z][0-9A-Za-z._%+\-]{0,63}@(?:[0-9A-Za-z\-]+\.)+[A-Za-z]{2,24}(?![0-9A-Za-z])"
)


@dataclass(frozen=True, slots=True)
class Found:
    """A piece of personal data and where it stands."""

    kind: Kind
    start: int
    end: int


def is_identity_number(text: str) -> bool:
    """Whether 18 characters are a Chinese identity number: a real date of birth and the right check character."""
    if not re.fullmatch(r"\d{17}[0-9Xx]", text):
        return False
    try:
        born = date(int(text[6:10]), int(text[10:12]), int(text[12:14]))
    except ValueError:
        return False
    total = sum(int(digit) * pow(2, 17 - place, 11) for place, digit in enumerate(text[:17]))
    return born.year >= 1850 and "10X98765432"[total % 11] == text[17].upper()


def passes_luhn(digits: str) -> bool:
    """Whether a number's last digit is its Luhn check digit."""
    total = 0
    for place, digit in enumerate(reversed(digits)):
        value = int(digit) * (2 if place % 2 else 1)
        total += value - 9 if value > 9 else value
    return total % 10 == 0


def _all(text: str) -> Iterator[Found]:
    for m in _IDENTITY.finditer(text):
        if is_identity_number(m[0]):
            yield Found("identity", *m.span())
    for m in _MOBILE.finditer(text):
        yield Found("mobile", *m.span())
    for m in _CARD.finditer(text):
        digits = re.sub(r"[ \-]", "", m[0])
        if 15 <= len(digits) <= 19 and len(set(digits)) > 1 and passes_luhn(digits):
            yield Found("bank_card", *m.span())
    for m in _PHONE.finditer(text):
        yield Found("phone", *m.span())
    for m in _EMAIL.finditer(text):
        yield Found("email", *m.span())


def find_personal(text: str, kinds: tuple[Kind, ...] = KINDS) -> list[Found]:
    """All personal data of a text in order, none overlapping; where two kinds fit, the earlier of ``KINDS``."""
    taken: list[Found] = []
    for found in _all(text):
        if found.kind in kinds and all(found.end <= other.start or found.start >= other.end for other in taken):
            taken.append(found)
    return sorted(taken, key=lambda found: found.start)


_SHOWN: dict[Kind, tuple[int, int]] = {
    "identity": (6, 4),
    "mobile": (3, 4),
    "bank_card": (4, 4),
    "phone": (0, 4),
    "email": (1, 0),
}


def mask(text: str, kind: Kind) -> str:
    """One piece of personal data with its middle starred; separators and an address's domain stay."""
    name, at, domain = text.partition("@") if kind == "email" else (text, "", "")
    head, tail = _SHOWN[kind]
    places = [place for place, char in enumerate(name) if char.isalnum()]
    if kind == "mobile" and len(places) > 11:
        head += len(places) - 11
    hidden = set(places[head : len(places) - tail])
    return "".join("*" if place in hidden else char for place, char in enumerate(name)) + at + domain


def mask_personal(text: str, kinds: tuple[Kind, ...] = KINDS) -> str:
    """A text with all its personal data masked."""
    for found in reversed(find_personal(text, kinds)):
        text = text[: found.start] + mask(text[found.start : found.end], found.kind) + text[found.end :]
    return text
