"""Metrics in two phases: statistics of each row first, scores from sums of statistics after.

Modules: ``rows`` (the statistics table), ``extraction`` and ``error_kinds``, ``modes`` (extraction counted in other ways),
``classification``, ``generation`` and ``rouge``, ``perplexity``. Because every score is a function of summed
statistics, any subset, slice or resample of the rows is scored without looking at a text again.
Knows nothing of models, evaluations or the store.
"""
