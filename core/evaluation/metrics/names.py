"""Which metrics tables and reports show, in which order, and which is a task's first. Knows nothing of how they are computed."""

from __future__ import annotations

PRIMARY = {"extraction": "micro_f1", "classification": "accuracy"}
"""The metric that a task is judged by first; for free text lists take exact match, comparisons chrF."""
PERCENT = frozenset({"bleu", "chrf"})
"""Scores from 0 to 100; all others are shares, but for perplexity and what a request costs."""
SHOWN = (
    "micro_f1",
    "micro_precision",
    "micro_recall",
    "macro_f1",
    "accuracy",
    "balanced_accuracy",
    "exact_match",
    "json_valid",
    "bleu",
    "chrf",
    "rouge_l",
    "perplexity",
    "tokens_per_request",
    "tokens_in_per_request",
    "tokens_out_per_request",
    "seconds_per_request",
    "tokens_per_second",
)
