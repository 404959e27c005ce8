"""What a comparison found: arms and their scores, each arm against the first, and the rows behind it.

Records only. Knows nothing of how differences are counted (``core.evaluation.compare``).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from core.evaluation import transitions
from core.evaluation.cost import ArmCost, break_even
from core.evaluation.footing import Footing, footing_sentence
from core.evaluation.grouping import grouping_sentence
from core.evaluation.latency import Latency
from core.records import Evaluation

ELSEWHERE = "elsewhere"
"""Name of the template of predictions that were made elsewhere."""


@dataclass(frozen=True)
class ArmScores:
    """One arm on the common rows: every metric by its flat name with its 95 % interval, how long its answers took, and how many
    were cut off at the most tokens that it may answer with."""

    evaluation: Evaluation
    scores: dict[str, float]
    intervals: dict[str, tuple[float, float]]
    latency: Latency | None = None
    cut: int = 0

    @property
    def longest(self) -> int:
        """The most tokens of an answer."""
        return self.evaluation.spec.arm.generation.max_new_tokens


@dataclass(frozen=True)
class Versus:
    """An arm against the first one.

    ``difference``: this arm minus the first, ``{metric: {"value", "low", "high", "p"}}``; ``p_holm`` beside ``p`` when there
    are several such arms. ``won``, ``lost``, ``tied``: rows by their own score. ``moves``: the fate of each pair
    (``core.evaluation.transitions``), none for other tasks than extraction. ``verdict``: the finding in one sentence.
    ``mcnemar``: exact p that as many rows turned wholly right as wrong; ``mcnemar_holm`` beside it when there are
    several such arms. ``costs``: of the first arm and of this one. ``alike``: where no row has another score than in the
    first arm, how many independent rows (or groups of rows) show that; else 0.
    """

    evaluation_id: str
    difference: dict[str, dict[str, float]]
    won: int
    lost: int
    tied: int
    moves: pa.Table
    verdict: str
    mcnemar: float | None = None
    mcnemar_holm: float | None = None
    costs: tuple[ArmCost, ArmCost] | None = None
    alike: int = 0

    @property
    def matrix(self) -> dict[str, dict[str, int]]:
        """Counts of pairs by kind in the first arm, then in this one."""
        return transitions.matrix(self.moves)


@dataclass(frozen=True)
class Comparison:
    """Two to six evaluations on their common rows.

    ``frame``: one line a row: ``row_id``, ``instruction``, ``input``, ``output``, ``split``, ``source``, and of the n-th arm
    ``prediction_n`` and ``score_n`` (0 to 1), with ``result_n`` (``won``, ``lost``, ``tied``) from the second arm on.
    ``left_out``: the rows of each evaluation that are not compared. ``footing``: of perplexity, tokens and seconds, on how
    many rows they are compared, or why they aren't. ``groups``: how many groups of rows were resampled, 0 where single rows were.
    """

    task: str
    primary: str
    row_ids: tuple[str, ...]
    arms: tuple[ArmScores, ...]
    versus: tuple[Versus, ...]
    frame: pa.Table
    left_out: dict[str, tuple[str, ...]]
    footing: dict[str, Footing] = field(default_factory=dict)
    groups: int = 0

    @property
    def notes(self) -> tuple[str, ...]:
        """What of ``groups``, ``footing`` and the arms' settings a reader must know, in words."""
        measured = (footing_sentence(metric, how, self.rows) for metric, how in self.footing.items())
        said = (grouping_sentence(self.groups) if self.groups else "", *measured, self._lengths_sentence)
        return tuple(text for text in said if text)

    @property
    def _lengths_sentence(self) -> str:
        """Whether one arm's answers were cut off earlier than another's; nothing of answers from elsewhere."""
        asked = [arm for arm in self.arms if arm.evaluation.template.name != ELSEWHERE]
        if len({arm.longest for arm in asked}) < 2 or not any(arm.cut for arm in asked):
            return ""
        told = "; ".join(f"{arm.cut:,} with {arm.evaluation.short_name}, at {arm.longest:,} tokens" for arm in asked)
        return f"Not all arms may answer at the same length. Of {self.rows:,} answers were cut off: {told}."

    @property
    def rows(self) -> int:
        """How many rows are compared."""
        return len(self.row_ids)

    @property
    def named(self) -> tuple[str, ...]:
        """Elements (or labels) that gold or the dataset's schema has; not those that only answers made up."""
        found: dict[str, None] = {}
        for arm in self.arms:
            counted = arm.evaluation.scores.get("per_element") or arm.evaluation.scores.get("per_label", {})
            found |= dict.fromkeys(arm.evaluation.elements)
            found |= dict.fromkeys(name for name, part in counted.items() if part.get("gold"))
        return tuple(found)

    @property
    def difference(self) -> dict[str, dict[str, float]]:
        """The second arm minus the first: ``{metric: {"value", "low", "high", "p"}}``."""
        return self.versus[0].difference

    @property
    def verdict(self) -> str:
        """The finding on the second arm in one sentence."""
        return self.versus[0].verdict

    def to_json(self) -> dict[str, Any]:
        """The fixed keys of the command ``compare``, and the rest of what it found but for rows."""
        return {
            "rows": self.rows,
            "task": self.task,
            "primary": self.primary,
            "arms": [
                {
                    "evaluation": arm.evaluation.evaluation_id,
                    "name": arm.evaluation.name,
                    "scores": arm.scores,
                    "intervals": arm.intervals,
                    "latency": arm.latency.to_json() if arm.latency else None,
                }
                for arm in self.arms
            ],
            "difference": self.difference,
            "versus": [
                {
                    "evaluation": v.evaluation_id,
                    "difference": v.difference,
                    "won": v.won,
                    "lost": v.lost,
                    "tied": v.tied,
                    "mcnemar": v.mcnemar,
                    "mcnemar_holm": v.mcnemar_holm,
                    "transitions": v.matrix,
                    "verdict": v.verdict,
                    "cost": found.to_json() if v.costs and (found := break_even(*v.costs)) else None,
                }
                for v in self.versus
            ],
            "verdict": self.verdict,
            "left_out": {key: len(rows) for key, rows in self.left_out.items()},
            "named": list(self.named),
            "groups": self.groups,
            "footing": {metric: how.to_json() for metric, how in self.footing.items()},
            "notes": list(self.notes),
        }
