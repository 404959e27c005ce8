"""Which worked examples stand before a question: fixed ones, or those most like it (BM25).

Words for scripts with spaces, pairs of characters for Chinese, Japanese and Korean. A row is never its own example,
nor is its duplicate (equal but for case, width, white space and punctuation). Knows nothing of templates.
BM25: Robertson & Zaragoza, "The Probabilistic Relevance Framework: BM25 and Beyond" (2009), section 3.2, with the
idf of Lucene (never negative).
"""

from __future__ import annotations

import random
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from core.errors import UserError

How = Literal["fixed", "retrieved"]
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


def same_text(text: str) -> str:
    """What two texts share that differ only in case, width, white space and punctuation."""
    return "".join(c for c in unicodedata.normalize("NFKC", text).casefold() if c.isalnum())


class Shots:
    """Worked examples out of a pool of rows (row_id, instruction, input, output); the index is built once."""

    def __init__(self, pool: Sequence[Mapping[str, Any]], how: How = "fixed", seed: int = 7) -> None:
        self.pool = [
            row for row in pool if not row.get("messages") and str(row.get("input") or "") and str(row.get("output") or "")
        ]
        self.how = how
        self._same = [same_text(str(row["input"])) for row in self.pool]
        self._order = random.Random(seed).sample(range(len(self.pool)), len(self.pool))
        if how == "retrieved":
            self._index()

    def choose(self, row: Mapping[str, Any], k: int) -> list[Mapping[str, Any]]:
        """At most ``k`` examples for a row, no two with the same input; retrieved: the most like it last, beside the question."""
        if k <= 0:
            return []
        ranked = self._ranked(str(row.get("input") or "")) if self.how == "retrieved" else self._order
        seen = {same_text(str(row.get("input") or ""))}
        chosen: list[Mapping[str, Any]] = []
        for place in ranked:
            if self._same[place] in seen or self.pool[place].get("row_id") == row.get("row_id", object()):
                continue
            seen.add(self._same[place])
            chosen.append(self.pool[place])
            if len(chosen) == k:
                break
        return chosen[::-1] if self.how == "retrieved" else chosen

    def _index(self) -> None:
        counts = [Counter(terms(str(row["input"]))) for row in self.pool]
        lengths = np.array([sum(c.values()) for c in counts], np.float64)
        norm = K1 * (1 - B + B * lengths / max(lengths.mean() if len(lengths) else 1.0, 1.0))
        postings: defaultdict[str, list[tuple[int, int]]] = defaultdict(list)
        for place, count in enumerate(counts):
            for term, times in count.items():
                postings[term].append((place, times))
        self._postings: dict[str, tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]] = {}
        for term, found in postings.items():
            where = np.array([p for p, _ in found])
            often = np.array([t for _, t in found], np.float64)
            idf = np.log1p((len(counts) - len(found) + 0.5) / (len(found) + 0.5))
            self._postings[term] = (where, idf * often * (K1 + 1) / (often + norm[where]))

    def _ranked(self, text: str) -> Sequence[int]:
        scores = np.zeros(len(self.pool))
        for term, times in Counter(terms(text)).items():
            if term in self._postings:
                places, weights = self._postings[term]
                scores[places] += times * weights
        scores[self._order] -= np.arange(len(self.pool)) * 1e-9  # equal scores: in the seeded order
        ranked: list[int] = np.argsort(-scores, kind="stable").tolist()
        return ranked


def choose_shots(
    rows: Sequence[Mapping[str, Any]], row: Mapping[str, Any], k: int, how: How = "fixed", seed: int = 7
) -> list[Mapping[str, Any]]:
    """``Shots(rows, how, seed).choose(row, k)``; keep a ``Shots`` for many rows. UserError if the pool has no example."""
    shots = Shots(rows, how, seed)
    if k > 0 and not shots.pool:
        raise UserError("There is no row to take worked examples from", "Give a split with answered rows, usually train.")
    return shots.choose(row, k)
