"""Maximum lengths that are worth offering for measured lengths. Draws nothing."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

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
