"""Numbers as sentences, tables and reports write them. Knows nothing of what they count."""

from __future__ import annotations


def number(value: float) -> str:
    """A score: ``0.714``, ``12.3``, ``1,204``."""
    return f"{value:.3f}" if abs(value) < 10 else f"{value:.1f}" if abs(value) < 1000 else f"{value:,.0f}"


def gold_of(version: int) -> str:
    """How the name ends of an evaluation that was scored again by a version's gold answers."""
    return f", gold of v{version}"


def p_value(p: float) -> str:
    """``p = 0.034``, never smaller than ``p < 0.001``."""
    return "p < 0.001" if p < 0.001 else f"p = {p:.3f}"


def seconds_long(seconds: float) -> str:
    """A long time: ``45 s``, ``3 min``, ``2.1 h``."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"


_METRICS = {
    "micro_f1": "micro-F1",
    "macro_f1": "macro-F1",
    "json_valid": "valid JSON",
    "bleu": "BLEU",
    "chrf": "chrF",
    "rouge_l": "ROUGE-L",
}


def said_metric(name: str) -> str:
    """A metric or kind of error as people write it: ``micro-F1``, ``exact match``, ``wrong element``."""
    return _METRICS.get(name, name.replace("_", " "))
