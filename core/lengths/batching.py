"""What batches of a dataset cost: padding, packing, tokens and steps of an epoch. Knows only lengths in tokens."""

from __future__ import annotations

import bisect
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Lengths = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Batching:
    """An epoch of one way to batch. ``tokens`` are real ones, ``processed`` with padding; ``waste`` is padding's share."""

    steps: int
    tokens: int
    processed: int

    @property
    def waste(self) -> float:
        """Share of the processed tokens that is padding, 0 to 1."""
        return 1 - self.tokens / self.processed if self.processed else 0.0


@dataclass(frozen=True)
class Simulated:
    """Padding with random and with length-grouped batches, and packing into sequences of ``max_length``."""

    random: Batching
    grouped: Batching
    packed: Batching
    packed_sequences: int


def simulate_batches(
    lengths: Lengths, batch_size: int, max_length: int, *, micro_batch_size: int | None = None, seed: int = 7
) -> Simulated:
    """One epoch over rows of these lengths (those over ``max_length`` left out).

    A step has ``batch_size`` rows, processed ``micro_batch_size`` at a time and padded to the longest of those.
    Grouped: as transformers' ``group_by_length`` does, sorted inside shuffled blocks of 50 batches.
    Packed: best-fit decreasing (Johnson et al. 1974; Ding et al. 2024, "Fewer Truncations Improve Language Modeling").
    """
    kept = np.asarray(lengths, np.int64)
    kept = kept[(kept > 0) & (kept <= max_length)]
    micro = min(micro_batch_size or batch_size, batch_size)
    order = np.random.default_rng(seed).permutation(len(kept))
    shuffled = kept[order]
    block = micro * 50
    grouped = np.concatenate([np.sort(part)[::-1] for part in _parts(shuffled, block)]) if len(kept) else kept
    sequences = pack(kept, max_length)
    packed_steps = -(-sequences // batch_size)
    tokens = int(kept.sum())
    packed = Batching(packed_steps, tokens, sequences * max_length)
    return Simulated(_padded(shuffled, batch_size, micro), _padded(grouped, batch_size, micro), packed, sequences)


def _parts(values: Lengths, size: int) -> Iterator[Lengths]:
    for start in range(0, len(values), size):
        yield values[start : start + size]


def _padded(lengths: Lengths, batch_size: int, micro: int) -> Batching:
    if not len(lengths):
        return Batching(0, 0, 0)
    starts = np.arange(0, len(lengths), micro)
    longest = np.maximum.reduceat(lengths, starts)
    rows = np.diff(np.append(starts, len(lengths)))
    return Batching(-(-len(lengths) // batch_size), int(lengths.sum()), int((longest * rows).sum()))


def pack(lengths: Lengths, max_length: int) -> int:
    """How many sequences of ``max_length`` best-fit decreasing needs for rows of these lengths (none longer).

    Rows of one length are placed together, bins of one free space too, so the cost doesn't grow with the rows.
    """
    counts = np.bincount(lengths, minlength=max_length + 1)
    free: dict[int, int] = {}
    spaces: list[int] = []  # free spaces that have bins, sorted
    sequences = 0
    for length in range(max_length, 0, -1):
        left = int(counts[length])
        while left:
            found = bisect.bisect_left(spaces, length)
            if found == len(spaces):
                each = max_length // length
                bins = -(-left // each)
                sequences += bins
                _put(free, spaces, max_length - each * length, bins - 1)
                _put(free, spaces, max_length - (left - (bins - 1) * each) * length, 1)
                left = 0
                continue
            place = spaces[found]
            each = place // length
            bins = min(free[place], left // each)
            if bins:
                _take(free, spaces, place, bins)
                _put(free, spaces, place - each * length, bins)
                left -= bins * each
            else:
                _take(free, spaces, place, 1)
                _put(free, spaces, place - left * length, 1)
                left = 0
    return sequences


def _put(free: dict[int, int], spaces: list[int], space: int, bins: int) -> None:
    if space > 0 and bins > 0:
        if space not in free:
            bisect.insort(spaces, space)
        free[space] = free.get(space, 0) + bins


def _take(free: dict[int, int], spaces: list[int], space: int, bins: int) -> None:
    free[space] -= bins
    if not free[space]:
        del free[space]
        spaces.remove(space)
