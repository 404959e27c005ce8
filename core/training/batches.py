"""How the rows of one optimiser step are cut into forward passes: sorted by length, so that little is padded.

The loss of a step is a mean over all its learnt tokens, so how it is cut changes its speed and not its result.
Knows nothing of torch and of what a row means.
"""

from __future__ import annotations

from collections.abc import Sequence


def split_step(
    lengths: Sequence[int], largest: int | None, overhead: int = 64, most_tokens: int | None = None
) -> list[list[int]]:
    """Places of ``lengths`` in groups, each a forward pass padded to its longest row; longest rows first.

    Groups minimise the padded tokens plus ``overhead`` tokens a group (what a pass costs beside its tokens), none with
    more than ``largest`` rows or, unless it is one row, ``most_tokens`` padded tokens. Dynamic programme, O(rows times
    ``largest``).
    """
    order = sorted(range(len(lengths)), key=lambda place: (-lengths[place], place))
    count = len(order)
    largest = min(largest or count, count)
    best = [0.0] + [float("inf")] * count
    begin = [0] * (count + 1)
    for end in range(1, count + 1):
        for start in range(end - 1, max(-1, end - largest - 1), -1):
            padded = lengths[order[start]] * (end - start)
            if most_tokens is not None and padded > most_tokens and end - start > 1:
                break
            cost = best[start] + padded + overhead
            if cost < best[end]:
                best[end], begin[end] = cost, start
    groups: list[list[int]] = []
    end = count
    while end > 0:
        groups.append(order[begin[end] : end])
        end = begin[end]
    return groups[::-1]


def even_fit(lengths: Sequence[int], most_tokens: int) -> list[list[int]]:
    """As many bins as ``best_fit`` makes, of about the same size: a GPU does two halves sooner than a whole and a little."""
    bins = best_fit(lengths, most_tokens)
    even = -(-sum(lengths) // len(bins)) if bins else 0
    for room in (1.01, 1.03, 1.1, 1.3):
        found = best_fit(lengths, min(most_tokens, int(room * even))) if len(bins) > 1 else bins
        if len(found) == len(bins):
            return found
    return bins


def best_fit(lengths: Sequence[int], most_tokens: int) -> list[list[int]]:
    """Places of ``lengths`` in bins of at most ``most_tokens`` (a longer row has one of its own), fullest bins first.

    Best-fit decreasing: each row goes where it leaves least room; at most 11/9 of the fewest bins (Johnson 1973).
    """
    bins: list[list[int]] = []
    room: list[int] = []
    for place in sorted(range(len(lengths)), key=lambda p: (-lengths[p], p)):
        fitting = [b for b, left in enumerate(room) if left >= lengths[place]]
        if fitting:
            chosen = min(fitting, key=lambda b: room[b])
            bins[chosen].append(place)
            room[chosen] -= lengths[place]
        else:
            bins.append([place])
            room.append(most_tokens - lengths[place])
    return [bins[b] for b in sorted(range(len(bins)), key=lambda b: room[b])]
