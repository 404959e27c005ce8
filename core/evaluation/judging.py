"""Judges finished evaluations: one by a rubric, or two against each other, with resume and agreement with people's labels.

Replies are kept beside the (second) evaluation as they come, by what the judge was asked with, so that a stop or a crash
repeats nothing. Knows nothing of where the judge runs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

from core.errors import InputFileError, UserError
from core.evaluation import artefacts
from core.evaluation.agreement import Agreement, cohens_kappa
from core.evaluation.artefacts import Journal
from core.evaluation.code import read_lines
from core.evaluation.common import common_rows, in_order
from core.evaluation.judge import Judge, Rubric, judge_pairs, judge_singles
from core.store.runs import evaluation_folder, get_evaluation

Label = float | str
CHOICES = ("left", "right", "tie")


def read_labels(path: Path, *, pairs: bool) -> dict[str, Label]:
    """People's labels by ``row_id``: lines of ``{"row_id", "label"}``, a number, or ``left``, ``right``, ``tie`` for pairs."""
    labels: dict[str, Label] = {}
    for number, line in enumerate(read_lines(path), 1):
        label: Any = line.get("label")
        sound = label in CHOICES if pairs else isinstance(label, int | float) and not isinstance(label, bool)
        if line.get("row_id") is None or not sound:
            wanted = ", ".join(CHOICES) if pairs else "a number"
            raise InputFileError(f"{path.name}, line {number}: no row_id, or a label that isn't {wanted}", "Mend the line.")
        labels[str(line["row_id"])] = str(label) if pairs else float(label)
    return labels


def judge_evaluations(
    evaluation_ids: Sequence[str],
    judge: Judge,
    rubric: Rubric,
    *,
    gold: bool = True,
    limit: int | None = None,
    labels: Mapping[str, Label] | None = None,
    on_progress: Callable[[int, int], None] | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> dict[str, Any] | None:
    """Judge the rows of one evaluation, or those that two share (left, right). JSON-ready; keys by kind.

    ``kind`` ``single``: ``mean``, ``interval``, ``scores`` by row. ``pair``: ``left``, ``right``, ``ties``, ``flips``,
    ``first``, ``rate``, ``interval``, ``p``, ``choices`` by row. Both: ``rows``, ``unreadable``, ``signature``, and with
    ``labels`` ``agreement`` (quadratic weights for scores). ``on_progress(replies, questions)``. None after a stop, which the
    judge obeys by itself. UserError for more than two, or without a common row.
    """
    if not 1 <= len(evaluation_ids) <= 2:
        raise UserError(f"{len(evaluation_ids)} evaluations can't be judged together", "Give one, or two to choose between.")
    evaluations = [get_evaluation(key) for key in evaluation_ids]
    tables = [artefacts.read_predictions(e.evaluation_id) for e in evaluations]
    common = common_rows(evaluations, tables)[0][:limit]
    lines = [in_order(table, common).to_pylist() for table in tables]
    pairs = len(evaluations) == 2
    signature = rubric.signature(judge.name, "pair" if pairs else "single", gold)
    journal = Journal(_path([e.evaluation_id for e in evaluations], signature))
    before = {key: str(record["reply"]) for key, record in journal.records.items()}

    def keep(key: str, reply: str) -> None:
        journal.add({"row_id": key, "reply": reply})
        if on_progress is not None:
            on_progress(len(journal.records), len(common) * (2 if pairs else 1))

    try:
        if pairs:
            rows = [{**a, "left": a["prediction"], "right": b["prediction"]} for a, b in zip(*lines, strict=True)]
            found = judge_pairs(rows, judge, rubric, gold=gold, keep=before, on_reply=keep)
            values: dict[str, Any] = {
                "kind": "pair", "left": found.left, "right": found.right, "ties": found.ties, "flips": found.flips,
                "first": found.first, "rate": found.rate, "interval": list(found.interval), "p": found.p,
                "unreadable": found.unreadable, "choices": found.choices,
            }  # fmt: skip
            said: Mapping[str, Label | None] = found.choices
        else:
            single = judge_singles(lines[0], judge, rubric, gold=gold, keep=before, on_reply=keep)
            values = {
                "kind": "single", "mean": single.mean, "interval": list(single.interval) if single.interval else None,
                "unreadable": single.unreadable, "scores": single.scores,
            }  # fmt: skip
            said = single.scores
    finally:
        journal.close()
    if should_stop is not None and should_stop():
        return None
    names = [e.name for e in evaluations]
    values |= {"evaluations": [e.evaluation_id for e in evaluations], "names": names, "rows": len(common), "signature": signature}
    if labels is not None:
        values["agreement"] = _agreed(said, labels, quadratic=not pairs)
    return values


def _agreed(said: Mapping[str, Label | None], labels: Mapping[str, Label], *, quadratic: bool) -> dict[str, Any]:
    both = [row_id for row_id, label in said.items() if label is not None and row_id in labels]
    found: Agreement = cohens_kappa([said[r] for r in both], [labels[r] for r in both], quadratic=quadratic)
    return {
        "rows": found.rows, "equal": found.equal, "kappa": found.kappa,
        "interval": list(found.interval) if found.interval else None, "weights": "quadratic" if quadratic else "none",
    }  # fmt: skip


def _path(evaluation_ids: Sequence[str], signature: str) -> Path:
    name = sha256("|".join([*evaluation_ids, signature]).encode()).hexdigest()[:12]
    return evaluation_folder(evaluation_ids[-1]) / f"judge-{name}.jsonl"
