"""What a maximum length costs: rows and values lost, and tokens computed with padding or packed.

Works on measured lengths and the rows that are too long; draws nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt

from core.data.answers import parse_answer

STEPS = (
    32,
    48,
    64,
    96,
    128,
    192,
    256,
    384,
    512,
    768,
    1024,
    1536,
    2048,
    3072,
    4096,
    6144,
    8192,
    12288,
    16384,
    32768,
    65536,
    131072,
)
"""Maximum lengths that are offered."""


def steps(longest: int) -> list[int]:
    """The maximum lengths worth offering for rows up to ``longest`` tokens: all up to the first that holds every row."""
    holding = next((step for step in STEPS if step >= longest), STEPS[-1])
    return [step for step in STEPS if step <= max(holding, 512)]


def sound(lengths: Sequence[int] | npt.NDArray[np.int64], share: float = 0.99) -> int:
    """The smallest offered length that holds at least ``share`` of the rows."""
    ordered = np.sort(np.asarray(lengths))
    need = int(ordered[max(0, int(np.ceil(share * len(ordered))) - 1)]) if len(ordered) else STEPS[0]
    return next((step for step in STEPS if step >= need), STEPS[-1])


def values_lost(outputs: Iterable[str]) -> Counter[str]:
    """Values of each element in the answers of rows that are dropped."""
    return Counter(element for text in outputs for element, _ in parse_answer(text).pairs)


def padded(lengths: npt.NDArray[np.int64], batch_size: int, *, sort: bool = False, seed: int = 7) -> tuple[int, int]:
    """(tokens of rows, padding) of an epoch in batches padded to their longest row; rows shuffled, or by length."""
    if not len(lengths):
        return 0, 0
    order = np.sort(lengths) if sort else np.random.default_rng(seed).permutation(lengths)
    batches = np.split(order, range(batch_size, len(order), batch_size))
    return int(lengths.sum()), int(sum(batch.max() * len(batch) - batch.sum() for batch in batches))


def packed(lengths: npt.NDArray[np.int64], max_length: int) -> tuple[int, int]:
    """(tokens of rows, padding) of an epoch packed into sequences of ``max_length`` (best fit, the longest rows first).

    Coffman, Garey and Johnson 1996: at most 11/9 of the fewest sequences. Rows longer than ``max_length`` are no part of it.
    """
    counts = np.bincount(lengths[lengths <= max_length], minlength=max_length + 1)
    room: Counter[int] = Counter()
    for length in range(max_length, 0, -1):
        for _ in range(int(counts[length])):
            space = next((s for s in range(length, max_length + 1) if room[s]), None) if room else None
            if space is None:
                space = max_length
            else:
                room[space] -= 1
                if not room[space]:
                    del room[space]
            if space > length:
                room[space - length] += 1
    return int(lengths[lengths <= max_length].sum()), int(sum(space * amount for space, amount in room.items()))
