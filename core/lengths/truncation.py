"""What a maximum length costs, for every way to deal with longer rows, at once for any length.

Computed from the arrays of ``measure`` and ``places``; a million rows take a fraction of a second. The policies are
those of training, and ``cut``, what most trainers do unasked: the first ``max_length`` tokens, answer or not. Knows
nothing of texts and tokenizers.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from core.lengths.places import Places
from core.records import Overflow

Policy = Overflow | Literal["cut"]
POLICIES: tuple[Policy, ...] = (*get_args(Overflow), "cut")
Ints = npt.NDArray[np.int32]
STEP = 64
"""Recommended lengths are multiples of this: padded shapes and kernels like them."""
SHARE = 0.99
"""Share of rows that a recommended length holds whole."""


@dataclass(frozen=True)
class Outcome:
    """What a policy does at a maximum length. ``rows`` have an answer; ``over`` are longer than the maximum.

    ``losing`` rows lose at least one gold value (out of the input, out of the answer, or with the whole row);
    ``by_element`` counts lost values by element, most first. ``json_broken``: answers cut so that their JSON doesn't
    parse; ``end_lost``: answers without their end token.
    """

    policy: Policy
    max_length: int
    rows: int
    over: int
    dropped: int
    shortened: int
    losing: int
    values_lost: int
    by_element: dict[str, int]
    json_broken: int
    end_lost: int

    def as_dict(self) -> dict[str, Any]:
        """Plain types, for ``--json``."""
        return asdict(self)


class Truncation:
    """The arrays of a version for a template and a tokenizer, asked again and again."""

    def __init__(self, lengths: pa.Table, found: Places) -> None:
        """``lengths`` as from ``measure``, ``found`` as from ``places`` for the same version, template and model.

        ``empty``: rows whose answer says nothing.
        """
        self.prompt, self.answer, self.whole = (_ints(lengths[name]) for name in ("prompt", "answer", "whole"))
        self.row_ids = lengths["row_id"]
        self.input, self.first, self.last, self.body = (_ints(found.rows[n]) for n in ("input", "first", "last", "body"))
        self.json: npt.NDArray[np.bool_] = found.rows["json"].to_numpy()
        self.value_row, self.value_first, self.value_last, self.value_answer = (
            _ints(found.values[name]) for name in ("row", "first", "last", "answer_end")
        )
        encoded = found.values["element"].combine_chunks().dictionary_encode()
        self.elements: list[str] = encoded.dictionary.to_pylist()
        self.value_element: Ints = encoded.indices.to_numpy()
        self.answered = self.answer > 0
        self.empty: int = pc.sum(lengths["empty"]).as_py() or 0

    def simulate(self, max_length: int, policy: Policy) -> Outcome:
        """What happens to the rows at this maximum length."""
        over = self.answered & (self.whole > max_length)
        dropped = over & ~self._fits(max_length, policy)
        touched = np.flatnonzero(over[self.value_row])
        lost = touched[self._lost(touched, dropped, max_length, policy)]
        cut = np.flatnonzero(over) if policy == "cut" else np.zeros(0, np.int64)
        kept = np.clip(max_length - self.prompt[cut], 0, self.answer[cut])
        counts = np.bincount(self.value_element[lost], minlength=len(self.elements))
        order = np.argsort(-counts, kind="stable")
        return Outcome(
            policy=policy,
            max_length=max_length,
            rows=int(self.answered.sum()),
            over=int(over.sum()),
            dropped=int(dropped.sum()),
            shortened=int((over & ~dropped).sum()),
            losing=int(np.count_nonzero(np.diff(self.value_row[lost], prepend=-1))),  # in the rows' order, so sorted
            values_lost=len(lost),
            by_element={self.elements[i]: int(counts[i]) for i in order if counts[i]},
            json_broken=int((self.json[cut] & (kept < self.body[cut])).sum()),
            end_lost=int((kept < self.answer[cut]).sum()),
        )

    def losing_rows(self, max_length: int, policy: Policy, element: str | None = None) -> list[str]:
        """Identifiers of the rows that lose a gold value (of an element)."""
        over = self.answered & (self.whole > max_length)
        touched = np.flatnonzero(over[self.value_row])
        lost = touched[self._lost(touched, over & ~self._fits(max_length, policy), max_length, policy)]
        if element is not None:
            lost = lost[[self.elements[i] == element for i in self.value_element[lost]]]
        ids: list[str] = self.row_ids.take(pa.array(np.unique(self.value_row[lost]))).to_pylist()
        return ids

    def kept(self, max_length: int, policy: Policy) -> Ints:
        """For each row its tokens as it is trained on at this maximum length; 0 where it is left out or has no answer."""
        over = self.whole > max_length
        trained = self.answered & (~over | self._fits(max_length, policy))
        return np.where(trained, np.minimum(self.whole, max_length), 0).astype(np.int32)

    def _fits(self, max_length: int, policy: Policy) -> npt.NDArray[np.bool_]:
        """For each row whether the policy can make it fit, once it is too long."""
        if policy in ("drop", "cut"):
            return np.full(len(self.whole), policy == "cut")
        return (self.input > 0) & (self.whole - self.input <= max_length)

    def _lost(self, values: npt.NDArray[np.int64], dropped: npt.NDArray[np.bool_], max_length: int, policy: Policy) -> Any:
        """For each of these values, all of rows that are too long, whether it is lost."""
        row = self.value_row[values]
        gone = dropped[row]
        if policy == "cut":
            lost_answer: Any = self.value_answer[values] > max_length - self.prompt[row]
            return lost_answer
        first, last = self.value_first[values], self.value_last[values]
        start, end = windows(
            policy, max_length - (self.whole[row] - self.input[row]), self.input[row], self.first[row], self.last[row]
        )
        return gone | ((first >= 0) & ((first < start) | (last > end)))

    def recommend(self) -> tuple[int, str]:
        """A maximum length and the reason for it."""
        whole = np.sort(self.whole[self.answered])
        if not len(whole):
            return STEP, "No row has an answer yet."
        longest = int(whole[-1])
        enough = int(whole[max(0, int(np.ceil(SHARE * len(whole))) - 1)])
        all_rows, most = _rounded(longest), _rounded(enough)
        if all_rows <= 1.25 * most:
            return all_rows, f"It holds every row whole; the longest has {longest:,} tokens."
        over = int((whole > most).sum())
        share = 100 * (1 - over / len(whole))
        return most, (
            f"It holds {share:.1f} % of the rows whole. The other {over:,} would need up to {longest:,} tokens, "
            f"{longest / most:.1f} times as many, for every batch that holds one of them."
        )


def windows(policy: Policy, budget: Ints, tokens: Ints, first: Ints, last: Ints) -> tuple[Ints, Ints]:
    """``core.prompts.shorten.window`` for many rows: the tokens [start, end) of each input that stay."""
    keep = np.clip(budget, 0, np.maximum(tokens, 0))
    if policy == "shorten_left":
        return tokens - keep, tokens
    if policy == "shorten_around":
        wide = last - first >= keep
        start = np.where(wide, first, first - (keep - (last - first)) // 2)
        start = np.where(first >= 0, np.clip(start, 0, np.maximum(tokens - keep, 0)), 0)
        return start, start + keep
    return np.zeros_like(keep), keep


def _rounded(length: int) -> int:
    return -(-length // STEP) * STEP


def _ints(column: pa.ChunkedArray) -> Ints:
    values: Ints = column.fill_null(0).to_numpy().astype(np.int32, copy=False)
    return values
