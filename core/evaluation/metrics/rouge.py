"""ROUGE-L of free text that works in Chinese: longest common subsequence of tokens (Lin 2004), mean of the rows' F1.

Tokens: each Han, kana or hangul character by itself, else runs of letters and digits, case folded; punctuation is left out.
For English this is Google's ``rouge_score`` without stemming. Knows nothing of other metrics.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from core.evaluation.metrics.rows import Floats, Statistics, Sums, ratio

SIGNATURE = "lcs|f1|mean of rows|tokens:cjk characters,words|case:folded|version:1"
_TOKEN = re.compile(
    r"[\u3005\u3007\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af\uf900-\ufaff\U00020000-\U000323af]|[^\W_]"
)


def tokens(text: str) -> list[str]:
    """The tokens of a text."""
    found: list[str] = []
    end = -1
    for match in _TOKEN.finditer(text.casefold()):
        char = match.group()
        if char < "\u3005" and match.start() == end:
            found[-1] += char
        else:
            found.append(char)
        end = match.end() if char < "\u3005" else -1
    return found


def row_statistics(predictions: Sequence[str], references: Sequence[str]) -> Statistics:
    """Column ``rouge_l``: F1 of each row, 0 to 1; two texts without tokens are equal."""
    from rapidfuzz.distance import LCSseq

    values = []
    for prediction, reference in zip(predictions, references, strict=True):
        said, gold = tokens(prediction), tokens(reference)
        common = LCSseq.similarity(said, gold)
        values.append(2 * common / (len(said) + len(gold)) if said or gold else 1.0)
    return Statistics(("rouge_l",), np.array(values, float).reshape(-1, 1))


def rouge_l(sums: Sums) -> Floats:
    """Mean over rows, 0 to 1, shape (...)."""
    return ratio(sums["rouge_l"], sums["rows"])
