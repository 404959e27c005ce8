"""What commands share: arguments and options that several have, the ``--json`` switch, and one way to print.

With ``--json`` exactly one line, one JSON object, goes to stdout; everything else goes to stderr.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from typing import Annotated, Any

import typer

Name = Annotated[str, typer.Argument(help="The dataset's name.", show_default=False)]
VersionOption = Annotated[int | None, typer.Option("--version", help="A version's number; the latest when left out.")]
ModelOption = Annotated[str, typer.Option("--model", help="default, a folder, hub:org/name or modelscope:org/name.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object on one line, nothing else.")]


def emit(value: dict[str, Any], as_json: bool, text: str | Iterable[str] = ()) -> None:
    """Print ``value`` as JSON, or ``text`` (lines) for a person."""
    if as_json:
        print(json.dumps(value, ensure_ascii=False, default=str))
        return
    for line in [text] if isinstance(text, str) else text:
        print(line)


def say(text: str) -> None:
    """A line for a person while a command works; never on stdout."""
    print(text, file=sys.stderr, flush=True)


def table(headings: Sequence[str], rows: Iterable[Sequence[Any]]) -> list[str]:
    """Lines of a plain table, columns padded by display width (a Chinese character is two wide)."""
    cells = [[str(c) for c in headings], *[["" if c is None else str(c) for c in row] for row in rows]]
    widths = [max(_width(row[i]) for row in cells) for i in range(len(headings))]
    return ["  ".join(c + " " * (w - _width(c)) for c, w in zip(row, widths, strict=True)).rstrip() for row in cells]


def _width(text: str) -> int:
    from unicodedata import east_asian_width

    return sum(2 if east_asian_width(c) in "WF" else 1 for c in text)


def plural(amount: int, one: str, many: str = "") -> str:
    """``1 row``, ``1,204 rows``."""
    return f"{amount:,} {one if amount == 1 else many or one + 's'}"


def short(text: str, width: int) -> str:
    """One line of at most ``width`` characters."""
    line = " ".join(text.split())
    return line if len(line) <= width else f"{line[: width - 1]}…"
