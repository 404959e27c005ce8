"""Which part of an input stays when a row is too long. Pure arithmetic on token ends; knows nothing of templates.

The same functions decide in training (``examples``) and in the simulation of ``core.lengths``, so that a
simulated cut is the real one.
"""

from __future__ import annotations

import bisect
from collections.abc import Sequence

from core.records import Overflow


def window(policy: Overflow, budget: int, tokens: int, first: int = -1, last: int = -1) -> tuple[int, int]:
    """The tokens [start, end) of an input of ``tokens`` tokens that stay, ``budget`` of them at most.

    ``shorten_input`` cuts from the right, ``shorten_left`` from the left; ``shorten_around`` keeps the tokens
    [first, last) that hold the grounded values, with equal margins, from ``first`` on if they don't fit
    (from the right when there are none: first = -1).
    """
    keep = max(0, min(budget, tokens))
    if policy == "shorten_left":
        return tokens - keep, tokens
    if policy == "shorten_around" and first >= 0:
        start = first if last - first >= keep else first - (keep - (last - first)) // 2
        start = max(0, min(start, tokens - keep))
        return start, start + keep
    return 0, keep


def characters(ends: Sequence[int], start: int, end: int) -> tuple[int, int]:
    """Characters [from, to) that tokens [start, end) cover wholly; ``ends[i]`` is where token i ends.

    A token may be part of a character (bytes of a Chinese one): then the character is left out at either side.
    """
    if end <= start:
        return 0, 0
    stop = end
    while start < stop < len(ends) and ends[stop - 1] == ends[stop]:  # the next token continues this character
        stop -= 1
    begin = ends[start - 1] if start else 0
    return begin, max(begin, ends[stop - 1] if stop > start else begin)


def token_range(ends: Sequence[int], place: tuple[int, int] | None) -> tuple[int, int]:
    """The tokens [first, last) that hold the characters ``place`` wholly; (-1, -1) for none."""
    if place is None or not ends or place[0] < 0:
        return -1, -1
    first = bisect.bisect_right(ends, place[0])
    last = bisect.bisect_left(ends, place[1])
    whole = last < len(ends) and ends[last] == place[1]
    return first, bisect.bisect_right(ends, place[1]) if whole else min(last + 1, len(ends))
