"""Which worked examples stand before a question: fixed ones, or those most like it (BM25).

A row is never its own example, nor is its duplicate (equal but for case, width, script, white space and punctuation). Knows
nothing of templates.
"""

from __future__ import annotations

import random
import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np

from core.data.normalise import to_simplified
from core.errors import UserError
from core.prompts.bm25 import Bm25

How = Literal["fixed", "retrieved"]


def same_text(text: str) -> str:
    """What two texts share that differ only in case, width, traditional or simplified script, white space and punctuation."""
    return "".join(c for c in unicodedata.normalize("NFKC", text).casefold().translate(to_simplified()) if c.isalnum())


def asked(row: Mapping[str, Any]) -> str:
    """What a row asks, by which others are like it: its input, or its instruction where there is no input."""
    text = str(row.get("input") or "")
    return text if text.strip() else str(row.get("instruction") or "")


class Shots:
    """Worked examples out of a pool of rows (row_id, instruction, input, output); the index is built once."""

    def __init__(self, pool: Sequence[Mapping[str, Any]], how: How = "fixed", seed: int = 7) -> None:
        self.pool = [row for row in pool if not row.get("messages") and asked(row).strip() and str(row.get("output") or "")]
        self.how = how
        self._same = [same_text(asked(row)) for row in self.pool]
        self._order = random.Random(seed).sample(range(len(self.pool)), len(self.pool))
        if how == "retrieved":
            self._bm25 = Bm25.of([asked(row) for row in self.pool])

    def choose(self, row: Mapping[str, Any], k: int) -> list[Mapping[str, Any]]:
        """At most ``k`` examples for a row, no two that ask the same; retrieved: the most like it last, beside the question."""
        if k <= 0:
            return []
        ranked = self._ranked(asked(row)) if self.how == "retrieved" else self._order
        seen = {same_text(asked(row))}
        chosen: list[Mapping[str, Any]] = []
        for place in ranked:
            if self._same[place] in seen or self.pool[place].get("row_id") == row.get("row_id", object()):
                continue
            seen.add(self._same[place])
            chosen.append(self.pool[place])
            if len(chosen) == k:
                break
        return chosen[::-1] if self.how == "retrieved" else chosen

    def _ranked(self, text: str) -> Sequence[int]:
        scores = self._bm25.scores(text)
        ranked: list[int] = [self._order[place] for place in np.argsort(-scores[self._order], kind="stable")]
        return ranked  # equal scores: in the seeded order


def choose_shots(
    rows: Sequence[Mapping[str, Any]], row: Mapping[str, Any], k: int, how: How = "fixed", seed: int = 7
) -> list[Mapping[str, Any]]:
    """``Shots(rows, how, seed).choose(row, k)``; keep a ``Shots`` for many rows. UserError if the pool has no example."""
    shots = Shots(rows, how, seed)
    if k > 0 and not shots.pool:
        raise UserError("There is no row to take worked examples from", "Give a split with answered rows, usually train.")
    return shots.choose(row, k)
