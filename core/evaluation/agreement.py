"""Agreement of two raters beyond chance: Cohen's kappa (Cohen 1960), weighted for ordered scales (Cohen 1968).

Knows nothing of who the raters are.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from core.evaluation.resampling import RESAMPLES, SEED
from core.evaluation.statistics import Interval, interval_of


@dataclass(frozen=True)
class Agreement:
    """On ``rows`` that both rated: the share of equal ratings, kappa (none where chance alone explains all) and its interval."""

    rows: int
    equal: float
    kappa: float | None
    interval: Interval | None


def cohens_kappa(left: Sequence[Hashable], right: Sequence[Hashable], *, quadratic: bool = False) -> Agreement:
    """Kappa of two ratings of the same rows, with a bootstrap interval over rows.

    ``quadratic``: a disagreement weighs by its squared distance; ratings must then be numbers. ValueError for other lengths.
    """
    if len(left) != len(right):
        raise ValueError(f"{len(left)} ratings against {len(right)}")
    if not left:
        return Agreement(0, 0.0, None, None)
    kinds = sorted({*left, *right}, key=(lambda k: (float(str(k)), "")) if quadratic else (lambda k: (0.0, str(k))))
    place = {kind: i for i, kind in enumerate(kinds)}
    size = len(kinds)
    cells = np.array([place[a] * size + place[b] for a, b in zip(left, right, strict=True)])
    counts = np.bincount(cells, minlength=size * size).astype(float)
    weights = 1.0 - np.eye(size)
    if quadratic:
        scale = np.array([float(str(kind)) for kind in kinds])
        weights = (scale[:, None] - scale[None, :]) ** 2
    value = float(_kappa(counts[None], weights)[0])
    equal = float(np.trace(counts.reshape(size, size)) / len(left))
    if np.isnan(value):
        return Agreement(len(left), equal, None, None)
    drawn = np.random.default_rng(SEED).multinomial(len(left), counts / counts.sum(), size=RESAMPLES).astype(float)
    return Agreement(len(left), equal, value, interval_of(_kappa(drawn, weights), value))


def _kappa(counts: npt.NDArray[np.float64], weights: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """1 - observed / expected weighted disagreement, for each line of flat tables; not a number where none is expected."""
    size = weights.shape[0]
    tables = counts.reshape(-1, size, size)
    total = tables.sum(axis=(1, 2))
    expected = np.einsum("ri,rj,ij->r", tables.sum(axis=2), tables.sum(axis=1), weights) / total
    observed = (tables * weights).sum(axis=(1, 2))
    result: npt.NDArray[np.float64] = 1 - np.divide(observed, expected, out=np.full(expected.shape, np.nan), where=expected > 0)
    return result
