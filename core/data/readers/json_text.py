"""JSON values out of decoded text, strict where it matters and placed for messages.

Beside the standard decoder: a repeated key is noticed (the later one would silently win), ``NaN`` and
``Infinity``, which other programs write for missing numbers, read as null, and lists are walked item by item.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterator
from json.decoder import JSONDecoder
from typing import Any

_BLANK = re.compile(r"[ \t\n\r]*")


class RecordDecoder:
    """Decodes one value at a time; ``repeated`` then names a key that stood twice in one object, or is empty."""

    def __init__(self) -> None:
        self.repeated = ""
        self._decoder = JSONDecoder(object_pairs_hook=self._object, parse_constant=lambda _: None)
        self._scan: Callable[[str, int], tuple[Any, int]] = self._decoder.scan_once  # type: ignore[attr-defined]

    def _object(self, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        made = dict(pairs)
        if len(made) != len(pairs):
            keys = [key for key, _ in pairs]
            self.repeated = next(key for key in made if keys.count(key) > 1)
        return made

    def decode(self, text: str) -> Any:
        """The value that the whole text is. ValueError (JSONDecodeError) or RecursionError otherwise."""
        self.repeated = ""
        try:
            value, end = self._scan(text, 0)
        except StopIteration:  # a blank before the value, or no value
            return self._decoder.decode(text)
        if end < len(text) and text[end:].strip(" \t\n\r"):
            raise json.JSONDecodeError("Extra data", text, end)
        return value

    def value_at(self, text: str, start: int) -> tuple[Any, int]:
        """The value that starts at ``start`` (no blank before it), and where it ends."""
        self.repeated = ""
        return self._decoder.raw_decode(text, start)

    def items(self, text: str, start: int) -> Iterator[tuple[Any, int, int]]:
        """Items of the list whose ``[`` stands at ``start``: value, start, end. JSONDecodeError as soon as one is broken."""
        at = skip_blank(text, start + 1)
        if text[at : at + 1] == "]":
            return
        while True:
            value, end = self.value_at(text, at)
            yield value, at, end
            at = skip_blank(text, end)
            if text[at : at + 1] == "]":
                return
            at = self._after(",", text, at)

    def members(self, text: str, start: int) -> Iterator[tuple[str, int]]:
        """Keys of the object whose ``{`` stands at ``start``, each with where its value begins."""
        at = skip_blank(text, start + 1)
        if text[at : at + 1] == "}":
            return
        while True:
            key, end = self.value_at(text, at)
            at = self._after(":", text, skip_blank(text, end))
            yield key, at
            at = skip_blank(text, self.value_at(text, at)[1])
            if text[at : at + 1] == "}":
                return
            at = self._after(",", text, at)

    @staticmethod
    def _after(mark: str, text: str, at: int) -> int:
        if text[at : at + 1] != mark:
            raise json.JSONDecodeError(f"Expecting '{mark}' delimiter", text, at)
        return skip_blank(text, at + 1)


def skip_blank(text: str, at: int) -> int:
    """The first place from ``at`` on that isn't JSON's white space."""
    match = _BLANK.match(text, at)
    return match.end() if match else at


def compact(value: Any) -> str:
    """Compact JSON text of a value, characters as they are; ValueError for numbers that JSON can't hold."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)


def compact_any(value: Any) -> str:
    """The same for values that JSON doesn't know: times and decimals as text, bytes by their number, NaN as null."""
    try:
        return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False, default=_plain)
    except ValueError:
        return json.dumps(_without_nan(value), ensure_ascii=False, separators=(",", ":"), default=_plain)


def _plain(value: Any) -> str:
    if isinstance(value, (bytes, bytearray, memoryview)):
        return f"<{len(value)} bytes>"
    return value.isoformat() if hasattr(value, "isoformat") else str(value)


def _without_nan(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nan(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_without_nan(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def first_character(text: str) -> str:
    """The first character that isn't white space, or ``""``."""
    return text[(at := skip_blank(text, 0)) : at + 1]
