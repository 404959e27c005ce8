"""Numbers and dates, however they are written: 1,204 and 1204, 一百二十 and 120, 2020年3月5日 and 2020-03-05.

Reads one value, or finds all in a text with their places. Knows nothing of what they measure: a unit or a
currency is no part of a number, and a value with other words in it is no quantity.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation

_DIGITS = {char: value for value, char in enumerate("零一二三四五六七八九")} | {
    "〇": 0, "○": 0, "两": 2, "兩": 2, "壹": 1, "贰": 2, "貳": 2, "叁": 3, "參": 3, "肆": 4, "伍": 5, "陆": 6, "陸": 6,
    "柒": 7, "捌": 8, "玖": 9,
}  # fmt: skip
_TENS = {"十": 10, "拾": 10, "百": 100, "佰": 100, "千": 1000, "仟": 1000}
_MYRIADS = {"万": 10**4, "萬": 10**4, "亿": 10**8, "億": 10**8}
_HAN = "".join({**_DIGITS, **_TENS, **_MYRIADS})
_MONTHS = {
    name: number
    for number, names in enumerate(
        ("jan january", "feb february", "mar march", "apr april", "may", "jun june", "jul july", "aug august",
         "sep sept september", "oct october", "nov november", "dec december"), start=1,
    )
    for name in names.split()
}  # fmt: skip

_YMD = re.compile(
    rf"(?<![0-9{_HAN}])([0-9]{{4}}|[〇○零一二三四五六七八九]{{4}})\s*[年/.\-]\s*([0-9]{{1,2}}|[一二三四五六七八九十]{{1,3}})"
    rf"\s*[月/.\-]\s*([0-9]{{1,2}}|[一二三四五六七八九十]{{1,3}})(?:\s*[日号號]|(?![0-9]))"
)
_YM = re.compile(
    rf"(?<![0-9{_HAN}])([0-9]{{4}}|[〇○零一二三四五六七八九]{{4}})\s*年\s*([0-9]{{1,2}}|[一二三四五六七八九十]{{1,3}})\s*月"
)
_YM_SIGN = re.compile(r"(?<![0-9/.\-])([12][0-9]{3})[/\-](1[0-2]|0?[1-9])(?![0-9/.\-])")
_DMY = re.compile(r"(?<![0-9])([0-9]{1,2})(?:st|nd|rd|th)?[\s\-./]*([A-Za-z]{3,9})\.?[\s\-,./]*([0-9]{4})(?![0-9])", re.I)
_MDY = re.compile(r"(?<![A-Za-z])([A-Za-z]{3,9})\.?\s+([0-9]{1,2})(?:st|nd|rd|th)?,?\s+([0-9]{4})(?![0-9])", re.I)
_NUMERIC = re.compile(r"(?<![0-9])([0-9]{1,2})([/.\-])([0-9]{1,2})\2([0-9]{4}|[0-9]{2})(?![0-9./\-])")
_COMPACT = re.compile(r"(?<![0-9])([12][0-9]{3})([01][0-9])([0-3][0-9])(?![0-9])")
_NUMBER = re.compile(
    rf"(?<![0-9A-Za-z.,])[+\-]?(?:[0-9]{{1,3}}(?:,[0-9]{{3}})+|[0-9]+)(?:\.[0-9]+)?(?:\s*[万亿萬億])?(?![0-9A-Za-z])|[{_HAN}点點]+"
)


@dataclass(frozen=True, slots=True)
class Quantity:
    """A number (``("number", value)``) or a date (``("date", year, month, day)``; 0: not said)."""

    kind: str
    value: tuple[object, ...]


def _han_number(text: str) -> Decimal | None:
    whole, _, rest = text.replace("點", "点").partition("点")
    if rest and not all(char in _DIGITS for char in rest):
        return None
    if not whole or ("点" in text and not rest):
        return None
    if all(char in _DIGITS for char in whole):
        value = int("".join(str(_DIGITS[char]) for char in whole))
    else:
        total = section = digit = 0
        for char in whole:
            if char in _DIGITS:
                digit = _DIGITS[char]
            elif char in _TENS:
                section += (digit or 1) * _TENS[char]
                digit = 0
            else:
                total = (
                    (total + section + digit) * _MYRIADS[char] if _MYRIADS[char] > 10**4 else total + (section + digit) * 10**4
                )
                section = digit = 0
        value = total + section + digit
    return Decimal(f"{value}." + "".join(str(_DIGITS[char]) for char in rest)) if rest else Decimal(value)


def _number(text: str) -> Quantity | None:
    text = text.strip().replace(",", "")
    scale = 1
    if text and text[0] in "+-0123456789" and text[-1] in _MYRIADS:
        scale, text = _MYRIADS[text[-1]], text[:-1].strip()
    try:
        value = Decimal(text) if text[:1] in "+-0123456789" else _han_number(text)
    except InvalidOperation:
        return None
    return None if value is None else Quantity("number", (value * scale if scale > 1 else value,))


def _part(text: str) -> int:
    if text.isascii():
        return int(text)
    value = _han_number(text)
    return -1 if value is None else int(value)


def _date(year: int, month: int, day: int) -> Quantity | None:
    return Quantity("date", (year, month, day)) if 1000 <= year <= 2999 and 1 <= month <= 12 and 0 <= day <= 31 else None


def _century(year: int) -> int:
    """A year of two digits: 00 to 68 are of this century, the others of the last (as in POSIX)."""
    return year + (2000 if year <= 68 else 1900)


def _dates(text: str) -> Iterator[tuple[Quantity, int, int]]:
    made: list[tuple[Quantity | None, int, int]] = []
    for m in _YMD.finditer(text):
        made.append((_date(_part(m[1]), _part(m[2]), _part(m[3])), *m.span()))
    for m in (*_YM.finditer(text), *_YM_SIGN.finditer(text)):
        made.append((_date(_part(m[1]), _part(m[2]), 0), *m.span()))
    for m in _DMY.finditer(text):
        made.append((_date(int(m[3]), _MONTHS.get(m[2].lower(), 0), int(m[1])), *m.span()))
    for m in _MDY.finditer(text):
        made.append((_date(int(m[3]), _MONTHS.get(m[1].lower(), 0), int(m[2])), *m.span()))
    for m in _NUMERIC.finditer(text):  # 05/03/2020: either order may be meant, so it stands for both
        first, second, year = int(m[1]), int(m[3]), int(m[4]) if len(m[4]) == 4 else _century(int(m[4]))
        made.append((_date(year, second, first), *m.span()))
        made.append((_date(year, first, second), *m.span()))
    for m in _COMPACT.finditer(text):
        made.append((_date(int(m[1]), int(m[2]), int(m[3])), *m.span()))
    for quantity, start, end in made:
        if quantity is not None:
            yield quantity, start, end


def find_quantities(text: str) -> Iterator[tuple[Quantity, int, int]]:
    """All dates and numbers of a text with their places (start, end). A date's parts are numbers, too."""
    folded = "".join(unicodedata.normalize("NFKC", char) if char != "…" and "！" <= char <= "～" else char for char in text)
    yield from _dates(folded)
    for m in _NUMBER.finditer(folded):
        number = _number(m[0])
        if number is not None:
            yield number, m.start(), m.end()


def read_quantities(value: str) -> tuple[Quantity, ...]:
    """The number or date that ``value`` is as a whole: several where it can be read in several ways (05/03/2020).

    Empty if it is neither, or has other words in it.
    """
    value = value.strip()
    folded = "".join(unicodedata.normalize("NFKC", char) if "！" <= char <= "～" else char for char in value)
    dates = tuple(quantity for quantity, start, end in _dates(folded) if start == 0 and end == len(folded))
    whole = _NUMBER.fullmatch(folded)
    number = _number(whole[0]) if whole else None
    return dates if number is None else (*dates, number)


def read_quantity(value: str) -> Quantity | None:
    """The first of ``read_quantities``, or nothing: one normal form for comparing two values."""
    readings = read_quantities(value)
    return readings[0] if readings else None
