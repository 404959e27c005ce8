"""BM25 over texts in any script: words where there are spaces, pairs of characters for Chinese, Japanese and Korean.

The index is bm25s's (Lù 2024, "BM25S"), with the idf of Lucene, which is never negative (Robertson & Zaragoza, "The Probabilistic
Relevance Framework: BM25 and Beyond", 2009, section 3.2). Knows nothing of what the texts are for.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

K1, B = 1.2, 0.75
_TERM = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af\uf900-\ufaff]+|[^\W_]+")


def terms(text: str) -> list[str]:
    """Words, and pairs of neighbouring characters of runs without spaces (a run of one is itself)."""
    found: list[str] = []
    for run in _TERM.findall(unicodedata.normalize("NFKC", text).casefold()):
        if "\u3040" <= run[0] <= "\ufaff":
            found += [run[i : i + 2] for i in range(len(run) - 1)] or [run]
        else:
            found += [w for w in re.split(r"([\u3040-\u30ff\u3400-\u9fff]+)", run) if w]
    return found


class Bm25:
    """An index of texts; ``scores`` says how well each fits a question."""

    def __init__(self, index: Any, size: int) -> None:
        self._index, self.size = index, size

    @classmethod
    def of(cls, texts: Sequence[str]) -> Bm25:
        """Index texts, in their order."""
        from bm25s import BM25

        index = BM25(method="lucene", k1=K1, b=B)
        found = [terms(text) for text in texts]
        if any(found):
            index.index(found, show_progress=False)
        return cls(index if any(found) else None, len(texts))

    def scores(self, text: str) -> npt.NDArray[np.float64]:
        """A score for each text, shape (size,); 0 where no term is shared."""
        if self._index is None:
            return np.zeros(self.size)
        known = [term for term in terms(text) if term in self._index.vocab_dict]
        if not known:
            return np.zeros(self.size)
        return np.asarray(self._index.get_scores(known), np.float64)

    def save(self, folder: Path) -> None:
        """Write the index into a folder."""
        if self._index is not None:
            self._index.save(str(folder), show_progress=False)

    @classmethod
    def load(cls, folder: Path, size: int) -> Bm25:
        """Read what ``save`` wrote of ``size`` texts."""
        from bm25s import BM25

        there = any(folder.glob("*.index.json"))
        return cls(BM25.load(str(folder), show_progress=False) if there else None, size)
