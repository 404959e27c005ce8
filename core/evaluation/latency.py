"""How long answers took, of arms that were timed on the same machine in the same way: evidence beside quality.

A row's seconds run from its beginning to its last token, the rows that were answered beside it included: they say what
a request cost as the evaluation ran, not what one alone would take. Knows nothing of scores.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from core.evaluation.statistics import Interval, quantile_interval
from core.models.machine import where
from core.records import Arm, Evaluation

MACHINE, HOW = "machine", "seconds"
"""Keys of an evaluation's signature: what answered where, and how it was timed."""
SEVERAL = "; "
TOGETHER = "together with other rows"


class Latency(NamedTuple):
    """Seconds a row at the median and the 95th percentile with their 95 % intervals; where and how they were timed."""

    p50: float
    p50_interval: Interval
    p95: float
    p95_interval: Interval
    machine: str
    how: str

    def to_json(self) -> dict[str, Any]:
        """JSON-ready."""
        ends = {"p50_interval": list(self.p50_interval), "p95_interval": list(self.p95_interval)}
        return {"p50": self.p50, "p95": self.p95, **ends, "machine": self.machine, "how": self.how}


def measured_on(arm: Arm, device: str) -> str:
    """Where an arm's answers are timed: a device of this machine, or an endpoint as seen from it."""
    return f"{arm.endpoint.url}, from {where('cpu')}" if arm.endpoint is not None else where(device)


def timing_signature(arm: Arm, answers: Collection[Mapping[str, Any]]) -> dict[str, str]:
    """What tells whether the seconds of two evaluations can be held together; nothing where it isn't known of every answer."""
    machines = sorted({str(answer.get(MACHINE) or "") for answer in answers})
    if not machines or "" in machines:
        return {}
    how = f"of a request, {arm.workers} at once" if arm.endpoint is not None else f"of a row, {TOGETHER}"
    return {MACHINE: SEVERAL.join(machines), HOW: how}


def latency(evaluation: Evaluation, seconds: Sequence[float | None]) -> Latency | None:
    """Of these rows; none where a row wasn't timed, or it isn't known where."""
    machine, how = (evaluation.signature.get(key, "") for key in (MACHINE, HOW))
    values = np.array([np.nan if value is None else float(value) for value in seconds])
    if not machine or not values.size or np.isnan(values).any():
        return None
    ends = [(float(np.quantile(values, share)), quantile_interval(values, share)) for share in (0.5, 0.95)]
    return Latency(*ends[0], *ends[1], machine, how)


def comparable(first: Latency | None, other: Latency | None) -> bool:
    """Whether two arms were timed on the same machine, and one alone, in the same way."""
    if first is None or other is None or SEVERAL in first.machine:
        return False
    return (first.machine, first.how) == (other.machine, other.how)


def latency_sentence(first: Latency | None, other: Latency | None, names: tuple[str, str]) -> str:
    """Both arms' seconds in words, or why they aren't held together; empty where one isn't known. Begins with a blank."""
    if first is None or other is None:
        return ""
    if not comparable(first, other):
        return " Their seconds a row are not held together: they were not timed on the same machine in the same way."
    beside = ", rows answered together" if TOGETHER in first.how else f" ({first.how})"
    return (
        f" Half of the rows took {names[1]} up to {written(other.p50)} and 95 % up to {written(other.p95)}, {names[0]} "
        f"{written(first.p50)} and {written(first.p95)}, on the same machine{beside}."
    )


def written(seconds: float) -> str:
    """Seconds for a person, three significant digits."""
    return f"{seconds * 1000:.0f} ms" if seconds < 0.1 else f"{seconds:.2f} s" if seconds < 10 else f"{seconds:,.0f} s"
