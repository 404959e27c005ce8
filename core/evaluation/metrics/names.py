"""Which metrics tables and reports show, in which order. Knows nothing of how they are computed; imports nothing."""

from __future__ import annotations

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
