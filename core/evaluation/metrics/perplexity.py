"""Perplexity of the gold answer given the prompt, and what a request costs in tokens and seconds.

Token-weighted: exp(summed negative log likelihood / summed tokens), over the answer's tokens with its end-of-turn text.
Knows nothing of how the likelihoods were computed.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import numpy as np

from core.evaluation.metrics.rows import Floats, Metric, Statistics, Sums, ratio

MEASURED = ("nll", "nll_tokens")
"""May be missing for some rows: those count nothing."""
COLUMNS = (*MEASURED, "tokens_in", "tokens_out", "seconds")


def row_statistics(columns: Mapping[str, Sequence[float | None]]) -> Statistics:
    """Those of ``COLUMNS`` that are given, one number a row; a row without a value counts nothing there.

    ``nll`` in nats, ``seconds`` of answering. A row without ``nll`` has no ``nll_tokens`` either.
    """
    names = [name for name in COLUMNS if name in columns]
    values = np.array([[np.nan if v is None else float(v) for v in columns[name]] for name in names]).T
    if "nll" in names and "nll_tokens" in names:
        missing = np.isnan(values[:, [names.index("nll"), names.index("nll_tokens")]]).any(axis=1)
        values[np.ix_(missing, [names.index("nll"), names.index("nll_tokens")])] = 0
    return Statistics(tuple(names), np.nan_to_num(values))


def perplexity(sums: Sums) -> Floats:
    """exp(nll / tokens), shape (...); not a number where no token was scored."""
    tokens = sums["nll_tokens"]
    mean = np.divide(sums["nll"], tokens, out=np.full(tokens.shape, np.nan), where=tokens > 0)
    result: Floats = np.exp(np.minimum(mean, 700.0))
    return result


def tokens_per_request(sums: Sums) -> Floats:
    """Mean of tokens in and out of a row."""
    return ratio(sums["tokens_in"] + sums["tokens_out"], sums["rows"])


def tokens_per_second(sums: Sums) -> Floats:
    """Tokens of the answers over the seconds that they took: how fast a row's answer came, not how many rows at once."""
    return ratio(sums["tokens_out"], sums["seconds"])


def per_row(name: str) -> Metric:
    """Mean of a column over rows."""
    return lambda sums: ratio(sums[name], sums["rows"])


def metrics(statistics_names: Collection[str]) -> dict[str, Metric]:
    """The metrics that these columns allow."""
    found: dict[str, Metric] = {}
    if {"nll", "nll_tokens"} <= set(statistics_names):
        found["perplexity"] = perplexity
    if {"tokens_in", "tokens_out"} <= set(statistics_names):
        found["tokens_per_request"] = tokens_per_request
        found["tokens_in_per_request"] = per_row("tokens_in")
        found["tokens_out_per_request"] = per_row("tokens_out")
    if "seconds" in statistics_names:
        found["seconds_per_request"] = per_row("seconds")
    if {"tokens_out", "seconds"} <= set(statistics_names):
        found["tokens_per_second"] = tokens_per_second
    return found
