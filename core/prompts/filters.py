"""The filters of templates: few, each bounded in what it makes. Knows nothing of rows and tokenizers."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from core.prompts.budget import spend

_ENCODER = json.JSONEncoder(ensure_ascii=False)


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"this filter takes a text, not {type(value).__name__}")
    spend(len(value))
    return value


def _list(value: Any) -> list[Any]:
    if not isinstance(value, list | tuple | str):
        raise TypeError(f"this filter takes a list, not {type(value).__name__}")
    spend(len(value))
    return list(value)


def trim(value: Any) -> str:
    """Without white space at both ends."""
    return _text(value).strip()


def lower(value: Any) -> str:
    """In small letters."""
    return _text(value).lower()


def upper(value: Any) -> str:
    """In capitals."""
    return _text(value).upper()


def truncate(value: Any, length: int) -> str:
    """The first ``length`` characters."""
    return _text(value)[: max(0, int(length))]


def join(value: Any, by: str = "") -> str:
    """The items of a list as one text, ``by`` between them."""
    items = _list(value)
    texts = [item if isinstance(item, str) else tojson(item) for item in items]
    spend(sum(map(len, texts)) + len(_text(by)) * len(texts))
    return by.join(texts)


def length(value: Any) -> int:
    """How many characters, items or keys."""
    if not isinstance(value, str | list | tuple | Mapping):
        raise TypeError(f"{type(value).__name__} has no length")
    return len(value)


def first(value: Any) -> Any:
    """The first item or character; nothing of an empty one."""
    items = _list(value)
    return items[0] if items else ""


def last(value: Any) -> Any:
    """The last item or character; nothing of an empty one."""
    items = _list(value)
    return items[-1] if items else ""


def default(value: Any, other: Any = "") -> Any:
    """``other`` in place of an empty or missing value."""
    return value if value else other


def tojson(value: Any) -> str:
    """As JSON on one line, letters of any script as they are."""
    parts = []
    for part in _ENCODER.iterencode(value):
        spend(len(part) + 1)
        parts.append(part)
    return "".join(parts)


FILTERS: dict[str, Callable[..., Any]] = {
    f.__name__: f for f in (trim, lower, upper, truncate, join, length, first, last, default, tojson)
}
