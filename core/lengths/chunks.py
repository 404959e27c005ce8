"""Counts the rows of a chunk: most by plans over whole columns, the rest rendered one by one.

Knows nothing of files and caches.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from core.lengths.counting import Counts
from core.lengths.pieces import Pieces
from core.prompts.control import controls
from core.prompts.plan import Mask, Plan, make_plan, suspicious, texts
from core.prompts.render import Rendered, RowError, render
from core.prompts.traced import UntraceableError
from core.records import Template

MAX_PLANS = 16
"""Templates ask few questions of a row; one that needs more plans than this is rendered row by row."""
CHECKED = 4
"""Rows of each new plan that are rendered both ways."""


@dataclass
class Chunk:
    """Counts of a chunk's rows; ``faults`` by place in the chunk."""

    prompt: Counts
    answer: Counts
    faults: dict[int, str]


class Chunks:
    """Counts chunk after chunk of a version for one template, learning plans on the way."""

    def __init__(
        self, template: Template, pieces: Pieces, elements: Sequence[str] = (), shots: Sequence[Mapping[str, Any]] = ()
    ) -> None:
        self.template, self.pieces, self.elements, self.shots = template, pieces, elements, shots
        self.tokenizer = pieces.counter.tokenizer
        self.plans: list[Plan] = []
        self.tries = MAX_PLANS

    def count(self, rows: pa.Table, start: int) -> Chunk:
        """Tokens of the rows [start, start + n) of the version."""
        made = Chunk(np.zeros(rows.num_rows, np.int32), np.zeros(rows.num_rows, np.int32), {})
        planned, rest = self.assign(rows)
        for plan, held in planned:
            made.prompt[held] = self.pieces.count(plan.prompt, rows, start, held)[held]
            made.answer[held] = self.pieces.count(plan.answer, rows, start, held)[held]
        self._one_by_one(rows, rest, made)
        return made

    def assign(self, rows: pa.Table) -> tuple[list[tuple[Plan, Mask]], Mask]:
        """Plans, each with the rows that it renders, and the rows that have to be rendered one by one."""
        single = pc.is_null(rows["messages"]).to_numpy(zero_copy_only=False)
        left = single & ~suspicious(rows, controls(self.tokenizer))
        slow = ~left
        planned: list[tuple[Plan, Mask]] = []

        def take(plan: Plan) -> None:
            held = left & plan.holds(rows) if left.any() else left
            if held.any():
                planned.append((plan, held.copy()))
                left[held] = False

        for plan in self.plans:
            take(plan)
        while left.any() and self.tries > 0:
            self.tries -= 1
            place = int(np.argmax(left))
            learnt = self._learn(rows, place, left)
            if learnt is None:
                slow[place], left[place] = True, False
            else:
                self.plans.append(learnt)
                take(learnt)
        return planned, slow | left

    def _learn(self, rows: pa.Table, place: int, left: Mask) -> Plan | None:
        """A plan from the row at ``place`` that was right for it and others; none if that can't be."""
        row = rows.slice(place, 1).to_pylist()[0]
        try:
            plan = make_plan(self.template, row, self.tokenizer, self.elements, self.shots)
        except UntraceableError:
            return None
        held = np.flatnonzero(left & plan.holds(rows))
        if place not in held:
            return None
        chosen = rows.take(pa.array(np.unique([place, *held[:: max(1, len(held) // CHECKED)]])))
        planned = zip(texts(plan.prompt, chosen).to_pylist(), texts(plan.answer, chosen).to_pylist(), strict=True)
        for one, (prompt, answer) in zip(chosen.to_pylist(), planned, strict=True):
            real = self._render(one)
            if not isinstance(real, Rendered) or (real.prompt, real.answer) != (prompt, answer):
                self.tries = 0
                return None
        return plan

    def _one_by_one(self, rows: pa.Table, wanted: Mask, made: Chunk) -> None:
        places = np.flatnonzero(wanted)
        rendered = [self._render(row) for row in rows.take(pa.array(places)).to_pylist()]
        counts = iter(self.pieces.counter.segments([s for r in rendered if isinstance(r, Rendered) for s in r.segments]))
        for place, one in zip(places.tolist(), rendered, strict=True):
            if isinstance(one, str):
                made.faults[place] = one
            else:
                *before, answer = (next(counts) for _ in one.segments)
                made.prompt[place], made.answer[place] = sum(before), answer

    def _render(self, row: Mapping[str, Any]) -> Rendered | str:
        try:
            return render(self.template, row, tokenizer=self.tokenizer, elements=self.elements, shots=self.shots)
        except RowError as fault:
            return fault.message
