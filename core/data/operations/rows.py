"""Operations on whole rows: which stay and which go, judged without reading the answers' elements."""

from __future__ import annotations

from typing import ClassVar, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field

from core.data.codes import first_of_group, is_first
from core.data.conflicts import conflicting_groups, merged_answers, winners
from core.data.detect.turns import turn_fault
from core.data.keys import question_and_answer_codes, question_codes, whole_codes
from core.data.leaks import leaking_rows
from core.data.near import near_duplicates, near_rows
from core.data.operations.base import Context, Mask, Operation, Outcome, Positions, State, then
from core.data.rules import empty_rows


def _names_of(rows: pa.Table, places: Positions) -> list[str]:
    names: list[str] = rows["row_id"].take(pa.array(places)).to_pylist()
    return names


class DropEmpty(Operation):
    """Rows without a question or without an answer (``{}`` is an answer)."""

    op: ClassVar[str] = "drop_empty"
    title: ClassVar[str] = "Drop empty rows"

    def run(self, state: State, context: Context) -> Outcome:
        no_question, no_answer = empty_rows(state.rows, context.dataset.task)
        mask = no_question | no_answer
        reasons = np.where(no_question[mask], "nothing is asked", "the answer is empty").tolist()
        return self.drop(state, context, mask, reasons)


class DropExactDuplicates(Operation):
    """Rows whose instruction, input and output (and conversation) stand in an earlier row, which is kept."""

    op: ClassVar[str] = "drop_exact_duplicates"
    title: ClassVar[str] = "Drop exact duplicates"

    def run(self, state: State, context: Context) -> Outcome:
        codes = whole_codes(state.rows)
        mask = ~is_first(codes)
        kept = first_of_group(codes)[mask]
        return self.drop(state, context, mask, [f"equal to {name}" for name in _names_of(state.rows, kept)])


class DropNearDuplicates(Operation):
    """Rows whose text is nearly that of an earlier row (Jaccard similarity of character 5-grams); the earliest is kept.

    Rows of the same wording with other values stay.
    """

    op: ClassVar[str] = "drop_near_duplicates"
    title: ClassVar[str] = "Drop near duplicates"
    threshold: float = Field(default=0.8, ge=0.5, le=1)

    def run(self, state: State, context: Context) -> Outcome:
        found = near_duplicates(state.rows, near_rows(state.rows, self.threshold))
        others = _names_of(state.rows, np.array([other for other, _ in found.values()], dtype=np.int64))
        told = {
            place: f"nearly equal to {name} ({similarity:.2f})"
            for name, (place, (_, similarity)) in zip(others, found.items(), strict=True)
        }
        return self.drop_each(state, context, told)


class ResolveLeaks(Operation):
    """Rows of dev and test whose question stands in train: dropped, or the train rows dropped, or moved into train."""

    op: ClassVar[str] = "resolve_leaks"
    title: ClassVar[str] = "Drop or move leaked rows"
    action: Literal["drop", "drop_from_train", "move_to_train"] = "drop"
    near: bool = Field(default=False, description="near duplicates of train rows, too")
    threshold: float = Field(default=0.8, ge=0.5, le=1)

    def run(self, state: State, context: Context) -> Outcome:
        held, train = leaking_rows(state.rows, near=self.threshold if self.near else None)
        if self.action == "drop_from_train":
            return self.drop_each(state, context, _stands_in(state.rows, train))
        told = _stands_in(state.rows, held)
        if self.action == "drop":
            return self.drop_each(state, context, told)
        return self.put(state, context, "split", dict.fromkeys(held, "train"), told)


def _stands_in(rows: pa.Table, pairs: dict[int, int]) -> dict[int, str]:
    """For each row (by position) which row of another split asks the same, in words."""
    taken = rows.select(["split", "row_id"]).take(pa.array(list(pairs.values()), pa.int64())).to_pydict()
    others = zip(taken["split"], taken["row_id"], strict=True)
    return {place: f"stands in {split}: {name}" for place, (split, name) in zip(pairs, others, strict=True)}


class DropTurnFaults(Operation):
    """Conversations whose turns are out of order, empty, or end without an answer."""

    op: ClassVar[str] = "drop_turn_faults"
    title: ClassVar[str] = "Drop faulty conversations"
    aside: bool = Field(default=True, description="keep them in quarantine")

    def run(self, state: State, context: Context) -> Outcome:
        faults = ["" if text is None else turn_fault(text) for text in state.rows["messages"].to_pylist()]
        mask = np.array([bool(fault) for fault in faults], dtype=np.bool_)
        return self.drop(state, context, mask, [fault for fault in faults if fault], aside=self.aside)


class Sample(Operation):
    """A seeded sample of the rows, in their order: a number of them or a share, of each split alike if asked."""

    op: ClassVar[str] = "sample"
    title: ClassVar[str] = "Sample rows"
    rows: int | None = Field(default=None, ge=1)
    share: float | None = Field(default=None, gt=0, le=1)
    split: str | None = Field(default=None, description="sample this split only; the others stay whole")
    seed: int = 7

    def run(self, state: State, context: Context) -> Outcome:
        within = np.ones(state.rows.num_rows, dtype=np.bool_)
        if self.split is not None:
            within = pc.equal(state.rows["split"], self.split).to_numpy().copy()
        places = np.flatnonzero(within)
        size = len(places)
        if self.rows is not None:
            size = min(size, self.rows)
        if self.share is not None:
            size = min(size, round(len(places) * self.share))
        kept = np.random.default_rng(self.seed).permutation(places)[:size]
        mask = within.copy()
        mask[kept] = False
        return self.drop(state, context, mask, f"not in the sample of {size}")


class DropRows(Operation):
    """Rows chosen by hand."""

    op: ClassVar[str] = "drop_rows"
    title: ClassVar[str] = "Drop chosen rows"
    row_ids: tuple[str, ...] = Field(min_length=1)
    reason: str = "chosen by hand"

    def run(self, state: State, context: Context) -> Outcome:
        chosen = pc.is_in(state.rows["row_id"], pa.array(self.row_ids, pa.large_string())).to_numpy()
        return self.drop(state, context, chosen, self.reason)


class ResolveConflicts(Operation):
    """Rows that ask the same and answer differently, by a named rule.

    ``drop_all``: none stays. ``keep_first``: rows with the first answer stay. ``majority``: rows with the most
    frequent answer stay (the first of equals). ``merge``: the first readable row stays with the union of all
    readable answers, each value as often as in the answer that has it most.
    """

    op: ClassVar[str] = "resolve_conflicts"
    title: ClassVar[str] = "Resolve conflicting answers"
    rule: Literal["drop_all", "keep_first", "majority", "merge"] = "drop_all"

    def run(self, state: State, context: Context) -> Outcome:
        questions, answers = question_and_answer_codes(state.rows)
        conflicting = conflicting_groups(questions, answers)
        if not conflicting.any():
            return self.unchanged(state)
        if self.rule == "drop_all":
            return self.drop(state, context, conflicting, "the same question has other answers")
        if self.rule == "merge":
            return self._merge(state, context, merged_answers(state.rows, questions, conflicting), conflicting)
        kept = winners(questions, answers, conflicting, majority=self.rule == "majority")
        names = {"keep_first": "the first answer", "majority": "the most frequent answer"}
        return self.drop(state, context, conflicting & ~kept, f"another answer than {names[self.rule]} to the same question")

    def _merge(self, state: State, context: Context, merged: dict[int, str], conflicting: Mask) -> Outcome:
        first = self.put(state, context, "output", merged, "united with the other answers to the same question")
        mask = conflicting.copy()
        mask[list(merged)] = False
        by_code = dict(zip(question_codes(state.rows)[list(merged)].tolist(), merged, strict=True))
        kept = [by_code[code] for code in question_codes(state.rows)[mask].tolist()]
        names = _names_of(state.rows, np.array(kept, dtype=np.int64))
        return then(first, self.drop(first.state, context, mask, [f"united into {name}" for name in names]))
