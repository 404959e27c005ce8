"""Paired bootstrap of a comparison against the plain loop that it replaces, in one run.

    python bench/bootstrap.py [--rows 2000] [--resamples 10000] [--elements 8]

Both draw the same number of resamples of the same rows and give an interval of every metric of two extraction arms
(micro, macro, per element, BLEU, chrF). The loop scores ``--loop`` resamples one by one, its time is scaled up.
Prints seconds and the ratio; exits 1 when the vectorised interval of one arm takes over a second.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from core.evaluation.metrics.generation import BLEU_NAMES, CHRF_NAMES
from core.evaluation.metrics.rows import Statistics
from core.evaluation.scoring import metrics_of
from core.evaluation.statistics import intervals, paired


def arm(rng: np.random.Generator, rows: int, elements: int) -> Statistics:
    """Random statistics of the shape that an extraction evaluation has."""
    gold = rng.poisson(1, (rows, elements))
    tp = rng.binomial(gold, 0.7)
    predicted = tp + rng.poisson(0.2, (rows, elements))
    bleu, chrf = rng.integers(1, 30, (rows, len(BLEU_NAMES))), rng.integers(1, 90, (rows, len(CHRF_NAMES)))
    names = ["rows", "exact_match", "json_valid"]
    names += [f"{kind}:e{i}" for kind in ("tp", "predicted", "gold") for i in range(elements)]
    names += [*(f"bleu:{name}" for name in BLEU_NAMES), *(f"chrf:{name}" for name in CHRF_NAMES)]
    flags = rng.integers(0, 2, (rows, 2))
    return Statistics(tuple(names), np.hstack([np.ones((rows, 1)), flags, tp, predicted, gold, bleu, chrf]).astype(float))


def median_seconds(work: object, times: int = 5) -> float:
    """Median wall time of a call."""
    taken = []
    for _ in range(times):
        started = time.perf_counter()
        work()  # type: ignore[operator]
        taken.append(time.perf_counter() - started)
    return statistics.median(taken)


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=2000)
    parser.add_argument("--resamples", type=int, default=10_000)
    parser.add_argument("--elements", type=int, default=8)
    parser.add_argument("--loop", type=int, default=200, help="resamples of the plain loop")
    options = parser.parse_args()
    rng = np.random.default_rng(0)
    left, right = arm(rng, options.rows, options.elements), arm(rng, options.rows, options.elements)
    metrics = metrics_of(left.names)

    def loop() -> None:
        for _ in range(options.loop):
            sums = left.take(rng.integers(0, options.rows, options.rows)).sums()
            for metric in metrics.values():
                metric(sums)

    ours = median_seconds(lambda: intervals(left, metrics, resamples=options.resamples))
    both = median_seconds(lambda: paired(left, right, metrics, resamples=options.resamples))
    baseline = median_seconds(loop, 1) * options.resamples / options.loop
    print(f"{options.rows:,} rows, {options.resamples:,} resamples, {len(metrics)} metrics, {len(left.names)} statistics a row")
    print(f"intervals of one arm   {ours:8.3f} s")
    print(f"paired, with p         {both:8.3f} s")
    print(f"plain loop, one arm    {baseline:8.1f} s (from {options.loop} resamples)")
    print(f"ratio                  {baseline / ours:8.0f}")
    return int(ours > 1.0)


if __name__ == "__main__":
    sys.exit(main())
