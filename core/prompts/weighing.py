"""What the steps of a chat template cost, and the most that they can make, counted before they are taken.

Filters, methods, products and paddings can make much out of little: here each is foretold from what it is given. Knows nothing
of templates and their environment; what is counted goes against the render in progress (``core.prompts.budget``).
"""

from __future__ import annotations

import re
from collections.abc import Callable, ItemsView, Iterable, KeysView, Mapping, ValuesView
from functools import wraps
from typing import Any

from jinja2.runtime import Undefined
from jinja2.utils import Namespace

from core.prompts.budget import TooMuchError, spend

MAX_NUMBER = 1_000_000
"""Largest number that a function or filter may be given: widths and repetitions are numbers."""
MAX_BITS = 10_000
_WIDE = re.compile(r"\d{5,}")
_WIDE_PERCENT = re.compile(r"%[-+ #0(\w)]*?(?:\*|\d{5,}|\.(?:\*|\d{5,}))")
_LENGTHS = frozenset({"length", "count"})
_SIZED = (str, list, tuple, set, frozenset, Mapping)
_CONTAINERS = (list, tuple, set, frozenset, KeysView, ValuesView, ItemsView)
_OF_SEQUENCES = frozenset(
    {"attr", "batch", "count", "d", "default", "dictsort", "first", "groupby", "items", "join", "last", "length", "list", "map"}
    | {"max", "min", "reject", "rejectattr", "reverse", "select", "selectattr", "slice", "sort", "sum", "unique"}
)
"""Filters that may be given what can't be written (a generator, a macro)."""


def weigh(value: Any, *, written: bool = False) -> Any:
    """Count all that a value holds, however deep; returns it. ``written``: TypeError where it can't be put into a text."""
    held = [value]
    while held:
        one = held.pop()
        if isinstance(one, str | bytes):
            spend(len(one))
        elif isinstance(one, Mapping):
            spend(10 + len(one))
            held += [*one.keys(), *one.values()]
        elif isinstance(one, _CONTAINERS):
            spend(10 + len(one))
            held += one
        elif isinstance(one, Namespace):
            spend(10)
            held += object.__getattribute__(one, "_Namespace__attrs").values()
        elif isinstance(one, int) and not isinstance(one, bool):
            spend(10 + one.bit_length() // 8)
        elif written and not (one is None or isinstance(one, bool | float | Undefined)):
            raise TypeError(f"a {type(one).__name__} can't be written")
    return value


def check_numbers(values: Iterable[Any]) -> None:
    """TooMuchError where one is a number above ``MAX_NUMBER``."""
    for one in values:
        if isinstance(one, int) and abs(one) > MAX_NUMBER:
            raise TooMuchError(f"it asks for more than {MAX_NUMBER:,} of something")


def counted_filter(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """A filter that counts what it is given, and the most that it can make of it, before it runs."""
    begin = 1 if getattr(function, "jinja_pass_arg", None) is not None else 0  # Jinja's own first argument

    @wraps(function)
    def counted(*args: Any, **kwargs: Any) -> Any:
        subject, more = args[begin] if len(args) > begin else None, [*args[begin + 1 :], *kwargs.values()]
        check_numbers(more)
        if name in _LENGTHS and isinstance(subject, _SIZED):
            spend(10)  # that is known, however much there is: templates ask for it once a message
            return function(*args, **kwargs)
        weigh(subject, written=name not in _OF_SEQUENCES)
        weigh(more)
        spend(_most_of_filter(name, subject, more))
        result = function(*args, **kwargs)
        return weigh(result) if isinstance(result, str | list) else result

    return counted


def _most_of_filter(name: str, subject: Any, more: list[Any]) -> int:
    """The most characters or items that a filter can make."""
    if name == "format":
        check_percent(str(subject))
    if name == "tojson" and any(isinstance(one, int) and one > 64 for one in more):
        raise TooMuchError("it indents too far")
    size = len(subject) if isinstance(subject, str | list | tuple) else 0
    factor = sum(len(one) if isinstance(one, str) else one if isinstance(one, int) else 0 for one in more)
    if name in ("indent", "replace", "join"):
        return size + (size + 1) * factor
    return size + factor


def check_format(text: str) -> None:
    """TooMuchError where a text to be formatted with braces names a large width."""
    if _WIDE.search(text):
        raise TooMuchError("it pads a text too far")


def check_percent(text: str) -> None:
    """TooMuchError where a text to be formatted with ``%`` names a large width, or one that is given."""
    if _WIDE_PERCENT.search(text):
        raise TooMuchError("it pads a text too far")


def most_of_method(owner: str, name: str, args: tuple[Any, ...]) -> int:
    """The most characters that a method of a text can make."""
    sizes = [len(a) if isinstance(a, str | list | tuple) else a if isinstance(a, int) else 1 for a in args]
    if name == "replace" and len(args) > 1:
        return len(owner) + (owner.count(str(args[0])) if args[0] else len(owner) + 1) * sizes[1]
    if name == "join" and args:
        return len(owner) * max(1, sizes[0])
    if name == "expandtabs":
        return len(owner) + owner.count("\t") * max([8, *sizes])
    return len(owner) + sum(sizes)


def check_product(operator: str, left: Any, right: Any) -> None:
    """Count what a product or power would make; TooMuchError where that is a number of more than ``MAX_BITS``."""
    for text, times in ((left, right), (right, left)):
        if isinstance(text, str | list | tuple | bytes) and isinstance(times, int):
            spend(len(text) * max(0, times))
    if isinstance(left, int) and isinstance(right, int):
        bits = left.bit_length() * abs(right) if operator == "**" else left.bit_length() + right.bit_length()
        if bits > MAX_BITS:
            raise TooMuchError("it makes too large a number")


def counted_test(test: Callable[..., Any]) -> Callable[..., Any]:
    """A test that counts what it is given."""

    @wraps(test)
    def counted(*args: Any, **kwargs: Any) -> Any:
        weigh([args, kwargs])
        return test(*args, **kwargs)

    return counted
