"""The one parser of extraction answers, gold and predicted, and the way a changed answer is written back.

Strict JSON. Knows nothing of scores, elements that are allowed, or the text the values came from.

Rules, the same everywhere:

- An answer is one JSON object ``{element: value or list of values}``; anything else is unreadable
  (``ok`` is false, no pairs). White space around it is allowed, ``NaN`` and ``Infinity`` aren't.
- A list is a multiset of values, a scalar a list of one, so duplicates keep their count.
- A string value stands for itself; any other value (number, true, false, null, object, inner list)
  for its canonical JSON: keys sorted, no spaces, characters unescaped.
- A key that occurs again in the answer adds its values to the first one's and is named in ``repeated``.
  In an inner object the last one counts.
- A lone surrogate (``"\\ud800"``) can't be stored as UTF-8 and reads as U+FFFD.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

_COMPACT = (",", ":")


@dataclass(frozen=True, slots=True)
class Answer:
    """A parsed answer: ``pairs`` of (element, value) in order, ``elements`` with their values as strings."""

    pairs: tuple[tuple[str, str], ...] = ()
    elements: dict[str, list[str]] = field(default_factory=dict)
    ok: bool = True
    error: str = ""
    repeated: tuple[str, ...] = ()


class _Repeating(dict[str, Any]):
    """An object in which a key occurs more than once; ``pairs`` holds all of them."""

    pairs: list[tuple[str, Any]]


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) == len(pairs):
        return made
    repeating = _Repeating(made)
    repeating.pairs = pairs
    return repeating


def _refuse(constant: str) -> Any:
    raise ValueError(f"{constant} is not JSON")


_decode = json.JSONDecoder(object_pairs_hook=_object, parse_constant=_refuse).decode


def canonical(value: Any) -> str:
    """A value as the string that is compared: itself if it is a string, else canonical JSON."""
    if isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False, sort_keys=True, separators=_COMPACT)


def storable(text: str) -> str:
    """A text as UTF-8 can hold it: halves of a surrogate pair that stand side by side joined, a lone one as U+FFFD."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


@dataclass(frozen=True, slots=True)
class Break:
    """Where a text stops being JSON: ``position`` from 0 in characters, ``line`` and ``column`` from 1."""

    reason: str
    position: int
    line: int
    column: int


def break_of(text: str) -> Break | None:
    """Where a text stops being JSON, and why; None where it is JSON (also of another kind than an object)."""
    try:
        _decode(text)
    except json.JSONDecodeError as error:
        return Break(error.msg.removesuffix(" at"), error.pos, error.lineno, error.colno)
    except (ValueError, RecursionError):  # NaN, or too deep: nowhere in particular
        return None
    return None


def load_object(text: str) -> list[tuple[str, Any]]:
    """The (key, value) items of an answer in order, repeated keys kept; values as JSON has them.

    Raises ValueError, with a reason in one line, if the text is no JSON object.
    """
    try:
        value = _decode(text)
    except json.JSONDecodeError as error:
        fault = error.msg.removesuffix(" at")  # some of Python's messages end so already
        raise ValueError(f"not JSON: {fault} at character {error.pos + 1}" if text.strip() else "empty") from None
    except RecursionError:
        raise ValueError("nested too deeply") from None
    except ValueError as error:
        raise ValueError(f"not JSON: {error}") from None
    if not isinstance(value, dict):
        kind = {list: "a list", str: "a string", type(None): "null", bool: "a truth value"}.get(type(value), "a number")
        raise ValueError(f"{kind}, not an object")
    return value.pairs if isinstance(value, _Repeating) else list(value.items())


def parse_answer(text: str) -> Answer:
    """Read an answer by the rules above. Never raises."""
    try:
        items = load_object(text)
    except ValueError as error:
        return Answer(ok=False, error=str(error))
    elements: dict[str, list[str]] = {}
    repeated: list[str] = []
    clean = "\\u" not in text
    for key, value in items:
        values = [canonical(item) for item in value] if isinstance(value, list) else [canonical(value)]
        if not clean:
            key, values = storable(key), [storable(item) for item in values]
        if key in elements:
            repeated.append(key)
            elements[key] = elements[key] + values
        else:
            elements[key] = values
    pairs = tuple((key, item) for key, values in elements.items() for item in values)
    return Answer(pairs, elements, True, "", tuple(dict.fromkeys(repeated)))


def dump_answer(items: Mapping[str, Any] | Sequence[tuple[str, Any]], like: str = "") -> str:
    """An answer as JSON text, characters unescaped; spaced after ``:`` and ``,`` if the text ``like`` is.

    Given as pairs, a key may stand in it more than once.
    """
    comma, colon = (", ", ": ") if '": ' in like else _COMPACT
    pairs = items.items() if isinstance(items, Mapping) else items
    written = (
        f"{json.dumps(key, ensure_ascii=False)}{colon}{json.dumps(value, ensure_ascii=False, separators=(comma, colon))}"
        for key, value in pairs
    )
    return storable("{" + comma.join(written) + "}")
