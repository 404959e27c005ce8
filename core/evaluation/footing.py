"""What was measured beside the answers (likelihoods, tokens, seconds), put on the same rows of all arms.

Scores of answers are on the same rows by themselves: every compared row has an answer of every arm. A likelihood may be missing
for rows that were too long for one arm's prompt, counts and times for answers that came from elsewhere. Such a metric is counted
on the rows that all arms have it of, and is not compared where that makes no sense. Knows nothing of answers.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from core.evaluation.metrics.rows import Statistics

PERPLEXITY = "perplexity"
SECONDS = "seconds_per_request"
TOKENS = "tokens_per_request"
NEEDS = {PERPLEXITY: ("nll", "nll_tokens"), TOKENS: ("tokens_in", "tokens_out"), SECONDS: ("seconds",)}
"""Which columns a metric is made of; ``tokens_per_request`` stands for the counts of either side, too."""


class Footing(NamedTuple):
    """On how many of the compared rows a metric was counted; ``reason``: why arms aren't compared by it, if they aren't."""

    rows: int
    reason: str = ""

    def to_json(self) -> dict[str, Any]:
        """JSON-ready."""
        return {"rows": self.rows, "reason": self.reason}


def same_footing(
    parts: Sequence[Statistics], *, timed_alike: bool
) -> tuple[list[Statistics], list[Statistics], dict[str, Footing]]:
    """Each arm's statistics with likelihoods on the rows that all arms have them of; the same without what isn't compared;
    and of each metric of ``NEEDS`` that an arm has at all, how it stands. ``parts``: the same rows in the same order."""
    found: dict[str, Footing] = {}
    own = list(parts)
    for metric, columns in NEEDS.items():
        have = [set(columns) <= set(part.names) for part in parts]
        if not any(have):
            continue
        if not all(have):
            found[metric] = Footing(0, "not every arm has it")
        elif metric == PERPLEXITY:
            own, found[metric] = _likelihoods(own)
        elif metric == SECONDS and not timed_alike:
            found[metric] = Footing(parts[0].rows, "arms aren't known to be timed on the same machine in the same way")
        else:
            found[metric] = Footing(parts[0].rows)
    out = {name for metric, how in found.items() if how.reason for name in NEEDS[metric]}
    compared = [part.select([name for name in part.names if name not in out]) for part in own]
    return own, compared, found


def footing_sentence(metric: str, how: Footing, rows: int) -> str:
    """How a metric stands, in words; empty where it is counted on every compared row."""
    name = {PERPLEXITY: "Perplexity", TOKENS: "Tokens a request", SECONDS: "Seconds a request"}[metric]
    if how.reason:
        return f"{name}: no difference is given, {how.reason}."
    return (
        "" if how.rows == rows else f"{name} is compared on {how.rows:,} of {rows:,} rows: those for which every arm's is known."
    )


def _likelihoods(parts: Sequence[Statistics]) -> tuple[list[Statistics], Footing]:
    """Likelihoods of the rows that all arms have one of, nothing on the others, and whether they are of the same tokens."""
    tokens = np.stack([part.values[:, part.names.index("nll_tokens")] for part in parts])
    shared = np.asarray((tokens > 0).all(axis=0), bool)
    count = int(shared.sum())
    if not count:
        return list(parts), Footing(0, "no row has it of every arm")
    if (tokens[:, shared] != tokens[0, shared]).any():
        return list(parts), Footing(
            count, "the arms cut gold answers into other tokens, so a mean over tokens is not the same measure"
        )
    return [_only(part, shared) for part in parts], Footing(count)


def _only(part: Statistics, rows: npt.NDArray[np.bool_]) -> Statistics:
    values = part.values.copy()
    for name in NEEDS[PERPLEXITY]:
        values[~rows, part.names.index(name)] = 0
    return Statistics(part.names, values)
