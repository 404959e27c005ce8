"""Several evaluations on the same rows: what differs, how sure that is, and the rows it comes from.

Rows are the same by ``row_id`` and gold answer; those that aren't in all arms are named and left out. Differences
are of each arm against the first. Everything comes from saved row statistics, nothing is generated or read by a model.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa

from core.errors import NotFoundError, UserError
from core.evaluation import artefacts, transitions
from core.evaluation.common import common_rows, in_order, statistics_of
from core.evaluation.comparison import ArmScores, Comparison, Versus
from core.evaluation.cost import ArmCost, arm_cost, prices_of
from core.evaluation.footing import same_footing
from core.evaluation.grouping import grouped
from core.evaluation.latency import Latency, comparable, latency
from core.evaluation.metrics.generation import chrf
from core.evaluation.metrics.names import PRIMARY
from core.evaluation.metrics.rows import Floats, Statistics, Sums, align, ratio
from core.evaluation.scoring import RATES, flat_scores, metrics_of, rate_differences, score_intervals
from core.evaluation.statistics import Difference, Interval, holm, mcnemar, several, wilson
from core.evaluation.unvaried import widened, widened_differences
from core.evaluation.verdict import sentence
from core.records import Evaluation
from core.settings import get_settings
from core.store.runs import get_evaluation, get_run

MAX_ARMS = 6


def compare(
    evaluation_ids: Sequence[str], *, clusters: Mapping[str, str] | None = None, without: Collection[str] = ()
) -> Comparison:
    """Compare finished evaluations (identifiers or names), each against the first, on the rows that all have.

    ``clusters``: the group of each ``row_id`` that has one; whole groups are resampled then. ``without``: rows to leave out,
    e.g. leaked ones. UserError when there are fewer than two or more than six, when tasks differ, or when no row is common.
    """
    evaluations = [get_evaluation(key) for key in evaluation_ids]
    _check(evaluations)
    tables = [artefacts.read_predictions(e.evaluation_id) for e in evaluations]
    row_ids, left_out = common_rows(evaluations, tables, without)
    tables = [in_order(table, row_ids) for table in tables]
    own, pairs = statistics_of(evaluations, tables, row_ids)
    timed = [latency(e, table["seconds"].to_pylist()) for e, table in zip(evaluations, tables, strict=True)]
    own, statistics, footing = same_footing(own, timed_alike=all(comparable(timed[0], other) for other in timed[1:]))
    statistics = align(statistics)
    groups = grouped(row_ids, clusters) if clusters is not None else None
    task = evaluations[0].task
    primary = PRIMARY.get(task, "chrf")
    rows = [row_scores(s, task) for s in statistics]
    everything = align(own)  # one set of resamples for what is compared and for what only stands beside it
    ends, differences = several(everything, metrics_of(everything[0].names), clusters=groups)
    held = metrics_of(statistics[0].names)
    arms = tuple(_arm(*arm, groups=groups) for arm in zip(evaluations, statistics, own, ends, timed, strict=True))
    arms = tuple(replace(arm, cut=table["finish"].to_pylist().count("length")) for arm, table in zip(arms, tables, strict=True))
    found = [
        {name: d._asdict() for name, d in _rated(versus, everything[0], arm, groups).items() if name in held}
        for versus, arm in zip(differences, everything[1:], strict=True)
    ]
    _adjust(found)
    versus = tuple(
        replace(
            _versus(
                arms[0],
                arm,
                difference,
                (rows[0], mine),
                primary,
                transitions.moves(pairs[0], fates, set(row_ids)),
                groups,
                len(found),
            ),
            mcnemar=_mcnemar(statistics[0], counted) if groups is None else None,
        )
        for arm, difference, mine, fates, counted in zip(arms[1:], found, rows[1:], pairs[1:], statistics[1:], strict=True)
    )
    versus = _corrected(versus)
    return Comparison(task, primary, row_ids, arms, versus, _frame(tables, rows), left_out, footing, len(set(groups or ())))


def row_scores(statistics: Statistics, task: str) -> Floats:
    """Each row's own score, 0 to 1, shape (rows,).

    Extraction: F1 of its pairs, 1 for two readable answers without any. Classification: label right. Else chrF / 100.
    """
    sums = Sums(statistics.names, statistics.values)
    if task == "extraction":
        pairs = sums.group("predicted").sum(axis=-1) + sums.group("gold").sum(axis=-1)
        return np.where(pairs > 0, ratio(2 * sums.group("tp").sum(axis=-1), pairs), sums["exact_match"])
    return sums["correct"] if task == "classification" else chrf(sums) / 100


def _check(evaluations: Sequence[Evaluation]) -> None:
    if not 2 <= len(evaluations) <= MAX_ARMS:
        raise UserError(f"{len(evaluations)} evaluations can't be compared", f"Give two to {MAX_ARMS}.")
    if len({e.evaluation_id for e in evaluations}) < len(evaluations):
        raise UserError("The same evaluation was given twice", "`python -m core evaluations` lists them.")
    tasks = sorted({e.task for e in evaluations})
    if len(tasks) > 1:
        raise UserError(f"Evaluations of different tasks ({', '.join(tasks)}) can't be compared", "Choose those of one task.")


def _arm(
    evaluation: Evaluation,
    statistics: Statistics,
    own: Statistics,
    ends: Mapping[str, Interval],
    timed: Latency | None,
    *,
    groups: Sequence[str] | None,
) -> ArmScores:
    """``statistics`` are what is compared, on all arms' columns; ``own``: with what else the arm has. ``groups``: of the rows;
    none where they are independent, so that shares of them have Wilson's intervals."""
    metrics = metrics_of(statistics.names)
    beside = [name for name in metrics_of(own.names) if name not in metrics]
    found = {name: end for name, end in ends.items() if name in metrics or name in beside}
    scores = flat_scores(statistics) | {name: value for name, value in flat_scores(own).items() if name in beside}
    units = None if groups is None else len(set(groups))
    if units is None:
        found |= score_intervals(statistics, {name: metrics[name] for name in RATES if name in metrics})
    else:  # groups that are all alike show no doubt, and count as one row each
        found |= {n: wilson(scores[n] * units, units) for n in RATES if n in metrics and found[n].high - found[n].low < 1e-12}
    found = widened(found, scores, own, units)
    return ArmScores(evaluation, scores, {name: (end.low, end.high) for name, end in found.items()}, timed)


def _rated(
    found: dict[str, Difference], first: Statistics, arm: Statistics, groups: Sequence[str] | None
) -> dict[str, Difference]:
    """Differences with score intervals for shares of rows, and for what has no width. Where groups were resampled theirs stand,
    but for those without any width: groups that are all alike show no doubt, and count as one row each."""
    units = None if groups is None else len(set(groups))
    honest = rate_differences(first, arm, metrics_of(first.names), units)
    rated = {
        name: d._replace(**honest[name]._asdict()) if name in honest and (units is None or d.high - d.low < 1e-12) else d
        for name, d in found.items()
    }
    return widened_differences(rated, first, arm, units)


def _adjust(found: Sequence[dict[str, dict[str, float]]]) -> None:
    """Add ``p_holm`` to each metric's p when several arms are held against the first."""
    if len(found) < 2:
        return
    for name in dict.fromkeys(name for difference in found for name in difference):
        arms = [difference[name] for difference in found if name in difference]
        for arm, p in zip(arms, holm([arm["p"] for arm in arms]), strict=True):
            arm["p_holm"] = p


def _corrected(found: tuple[Versus, ...]) -> tuple[Versus, ...]:
    """McNemar's p corrected as ``_adjust`` does the others, where there are several."""
    given = [versus.mcnemar for versus in found if versus.mcnemar is not None]
    if len(given) < 2 or len(given) < len(found):
        return found
    return tuple(replace(versus, mcnemar_holm=p) for versus, p in zip(found, holm(given), strict=True))


def _versus(
    first: ArmScores,
    arm: ArmScores,
    difference: dict[str, dict[str, float]],
    rows: tuple[Floats, Floats],
    primary: str,
    moved: pa.Table,
    groups: Sequence[str] | None,
    looks: int,
) -> Versus:
    """``rows``: each row's score by both arms. ``groups``: of the rows, where whole ones were resampled. ``looks``: all arms."""
    costs = _arm_cost(first), _arm_cost(arm)
    change = rows[1] - rows[0]
    won, lost, total = int((change > 1e-12).sum()), int((change < -1e-12).sum()), len(change)
    tied = total - won - lost
    same = tied == total and abs(difference[primary]["value"]) < 1e-12
    units = len(set(groups or ()))
    alike = (total if groups is None else units) if same else 0
    verdict = sentence(first, arm, difference, primary, total, costs, alike, units, looks)
    return Versus(arm.evaluation.evaluation_id, difference, won, lost, tied, moved, verdict, costs=costs, alike=alike)


def _arm_cost(arm: ArmScores) -> ArmCost:
    """Its request and its training; a run that was deleted counts as none."""
    seconds, gpus = 0.0, 1
    if arm.evaluation.spec.arm.run:
        try:
            run = get_run(arm.evaluation.spec.arm.run)
            seconds, gpus = run.seconds, run.spec.gpus
        except NotFoundError:
            pass
    return arm_cost(arm.scores, seconds, gpus, prices_of(arm.evaluation.spec.arm, get_settings()))


def _mcnemar(first: Statistics, other: Statistics) -> float | None:
    """p on rows wholly right (extraction, free text) or with the right label; none where rows aren't right or wrong."""
    name = next((n for n in ("exact_match", "correct") if n in first.names), None)
    if name is None:
        return None
    return mcnemar(*(Sums(s.names, s.values)[name] > 0 for s in (first, other)))


def _frame(tables: Sequence[pa.Table], rows: Sequence[Floats]) -> pa.Table:
    names = ("row_id", "instruction", "input", "output", "split", "source")
    columns: dict[str, Any] = {name: tables[0][name] for name in names}
    for n, (table, mine) in enumerate(zip(tables, rows, strict=True)):
        columns[f"prediction_{n}"] = table["prediction"]
        columns[f"score_{n}"] = pa.array(mine)
        if n:
            change = mine - rows[0]
            columns[f"result_{n}"] = pa.array(np.where(change > 1e-12, "won", np.where(change < -1e-12, "lost", "tied")).tolist())
    return pa.table(columns)
