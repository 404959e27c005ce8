"""Scores of saved predictions under other gold answers, without the model: after a fix of the data, without leaked rows,
or for predictions that were made elsewhere.

Each is an evaluation of its own, so that before and after can be compared. Knows nothing of models.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from core.data.leaks import leaking_rows
from core.errors import InputFileError, UserError
from core.evaluation import artefacts, comparison
from core.evaluation.latency import HOW, MACHINE
from core.evaluation.nearest import training_rows
from core.evaluation.prediction_files import NUMBERS, read_prediction_file
from core.evaluation.questions import load_rows
from core.evaluation.runner import finish
from core.evaluation.scoring import flat_scores, score_intervals, strip_thinking
from core.evaluation.words import gold_of
from core.records import Arm, Evaluation, EvaluationSpec, ModelRef, Template, new_id
from core.store.datasets import get_dataset, get_version, read_rows
from core.store.runs import get_evaluation

ELSEWHERE = Template(
    name=comparison.ELSEWHERE, kind="raw", user="", description="Prompts of predictions that were made elsewhere."
)


def rescore(evaluation_id: str, version: int | None = None, *, name: str = "") -> Evaluation:
    """Score an evaluation's predictions against the gold answers of another version (the latest by default); returns a new one.

    Rows that the version no longer has, or whose input changed (the prediction answers another question), are left out and
    named in ``scores["left_out"]``. UserError if none is left.
    """
    old = get_evaluation(evaluation_id)
    number = get_version(old.spec.dataset, version).number
    rows = read_rows(old.spec.dataset, number).to_pylist()
    now = {row["row_id"]: row for row in rows}
    kept, left_out = [], {}
    for line in artefacts.read_predictions(old.evaluation_id).to_pylist():
        row = now.get(line["row_id"])
        if row is None:
            left_out[line["row_id"]] = f"not in version {number}"
        elif (row["instruction"], row["input"]) != (line["instruction"], line["input"]):
            left_out[line["row_id"]] = f"its question changed in version {number}"
        else:
            output = line["output"] if row["messages"] else row["output"]
            kept.append({**line, "output": output, "nll": line["nll"] if output == line["output"] else None})
    if not kept:
        raise UserError(f"Version {number} has none of the rows of {old.name!r} as they were asked", "Choose another version.")
    dataset = get_dataset(old.spec.dataset)
    new = old.model_copy(
        update={
            "evaluation_id": new_id("evaluation"),
            "name": name or _new_name(old, number),
            "spec": old.spec.model_copy(update={"version": number}),
            "version": number,
            "elements": dataset.elements,
            "complete": False,
            "job_id": "",
        }
    )
    made = {key: old.signature[key] for key in (MACHINE, HOW, "passages") if key in old.signature}
    return finish(new, pa.Table.from_pylist(kept, schema=artefacts.PREDICTIONS), left_out, made=made)


def rescored(evaluation: Evaluation, others: Iterable[Evaluation], version: int) -> Evaluation | None:
    """Among ``others`` the newest that ``rescore`` made of this evaluation, under its own name, with that version's gold."""
    name = _new_name(evaluation, version)
    for other in others:
        if other.complete and other.version == version and other.name == name and other.spec.arm == evaluation.spec.arm:
            return other
    return None


def _new_name(evaluation: Evaluation, version: int) -> str:
    return f"{evaluation.name}{gold_of(version)}"


def import_predictions(
    path: Path, dataset: str, *, split: str = "test", version: int | None = None, name: str = "", model: str = "elsewhere"
) -> Evaluation:
    """Make an evaluation of predictions made elsewhere: lines of ``{"prediction"}`` with ``row_id``, or with ``input``.

    Gold answers are the dataset's. Rows of the split without a prediction are named in ``scores["left_out"]``;
    InputFileError for a line that fits no row, or a row that is answered twice.
    """
    number = get_version(dataset, version).number
    arm = Arm(model=ModelRef(source="endpoint", name=model), template=ELSEWHERE.ref, name=name)
    spec = EvaluationSpec(dataset=dataset, version=number, split=split, arm=arm, perplexity=False)
    record = get_dataset(dataset)
    evaluation = Evaluation(
        evaluation_id=new_id("evaluation"),
        name=name or path.stem,
        spec=spec,
        task=record.task,
        elements=record.elements,
        template=ELSEWHERE,
        version=number,
    )
    rows = load_rows(evaluation)
    answers = _matched(read_prediction_file(path, gold=False), rows, path.name)
    left_out = {row["row_id"]: "no prediction" for row in rows if row["row_id"] not in answers}
    lines = [_line(row, answers[row["row_id"]]) for row in rows if row["row_id"] in answers]
    return finish(evaluation, pa.Table.from_pylist(lines, schema=artefacts.PREDICTIONS), left_out)


def _line(row: Mapping[str, Any], answer: Mapping[str, Any]) -> dict[str, Any]:
    line = {name: row[name] for name in ("row_id", "instruction", "input", "output", "split", "source")}
    raw = answer["prediction"]
    return {**line, "raw": raw, "prediction": strip_thinking(raw), "finish": "", **{n: answer.get(n) for n in NUMBERS}}


def _matched(columns: Mapping[str, Sequence[Any]], rows: Sequence[Mapping[str, Any]], name: str) -> dict[str, dict[str, Any]]:
    """Predictions by ``row_id``: a line's own, else that of the next row with its input that has none yet."""
    named = set(columns["row_id"])
    by_input: dict[str, list[str]] = {}
    for row in rows:
        if row["row_id"] not in named:
            by_input.setdefault(row["input"], []).append(row["row_id"])
    known, inputs = {row["row_id"] for row in rows}, {row["input"] for row in rows}
    found: dict[str, dict[str, Any]] = {}
    for place in range(len(columns["prediction"])):
        line = {key: values[place] for key, values in columns.items()}
        waiting = by_input.get(line["input"], [])
        where = f"{name}, line {line['line']}"
        if line["row_id"] is None and not waiting and line["input"] in inputs:
            raise InputFileError(
                f"{where}: all rows of the split with this input have a prediction already", "Keep one line a row."
            )
        row_id: str = line["row_id"] if line["row_id"] is not None else waiting.pop(0) if waiting else ""
        if row_id not in known:
            raise InputFileError(
                f"{where}: no row of the split has this {'row_id' if line['row_id'] is not None else 'input'}",
                "Give row_id or input as `python -m core show` has them, and the right split and version.",
            )
        if row_id in found:
            raise InputFileError(f"{where}: row {row_id} has a prediction already", "Keep one line a row.")
        found[row_id] = line
    return found


def leaked_rows(evaluation_id: str, *, near: float | None = 0.8) -> list[str]:
    """The rows of an evaluation whose question stands in its training data, by ``row_id``, in its order.

    Training data are those of the arm's run, else the train split of the same version. ``near``: similarity from which a
    question counts as the same, the script being overlooked; none: only equal ones.
    """
    evaluation = get_evaluation(evaluation_id)
    row_ids = artefacts.read_predictions(evaluation.evaluation_id, ("row_id",))["row_id"].to_pylist()
    asked = read_rows(evaluation.spec.dataset, evaluation.version)
    asked = asked.filter(pc.is_in(asked["row_id"], pa.array(row_ids, pa.large_string())))
    train = training_rows(evaluation)
    both = pa.concat_tables([_as_split(train, "train"), _as_split(asked, "test")])
    held, _ = leaking_rows(both, near=near)
    leaked = {both["row_id"][place].as_py() for place in held}
    return [row_id for row_id in row_ids if row_id in leaked]


def leaked_to_any(evaluation_ids: Sequence[str], *, near: float | None = 0.8) -> list[str]:
    """The rows that stand in the training data of any of these evaluations' arms, each once."""
    return list(dict.fromkeys(row for key in evaluation_ids for row in leaked_rows(key, near=near)))


def without_leaks(evaluation_id: str, *, near: float | None = 0.8) -> dict[str, Any]:
    """Scores with and without ``leaked_rows``, side by side.

    Keys ``rows``, ``leaked`` (row_ids), ``all`` and ``without``, each with ``scores`` and ``intervals`` by flat name.
    """
    leaked = leaked_rows(evaluation_id, near=near)
    row_ids, statistics = artefacts.read_statistics(get_evaluation(evaluation_id).evaluation_id)
    clean = statistics.take(~np.isin(row_ids, leaked))
    found = {
        key: {"scores": flat_scores(part), "intervals": {n: list(i) for n, i in score_intervals(part).items()}}
        for key, part in (("all", statistics), ("without", clean))
    }
    return {"rows": statistics.rows, "leaked": leaked, **found}


def _as_split(rows: pa.Table, split: str) -> pa.Table:
    place = rows.schema.get_field_index("split")
    return rows.set_column(place, rows.schema.field("split"), pa.array([split] * rows.num_rows, pa.large_string()))
