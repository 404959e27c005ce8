"""Runs an evaluation: rows to prompts, prompts to answers, answers to scores.

Answers are kept as they come, so a stop, a crash or a kill loses at most one batch and repeats nothing
that was kept. Knows nothing of jobs: it reports to a ``Reporter``. Torch module by way of the engine.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from core.errors import UserError
from core.evaluation import artefacts
from core.evaluation.answerer import Answerer, answerer, arm_signature, engine_for
from core.evaluation.artefacts import ANSWERING, JOURNALS, MEASURING, Journal
from core.evaluation.constrained import answer_pattern
from core.evaluation.latency import MACHINE, measured_on, timing_signature
from core.evaluation.passages import Library, found_table
from core.evaluation.questions import Question, ask, load_rows
from core.evaluation.remote import answer_remotely
from core.evaluation.scoring import score_frame, strip_thinking
from core.models.tokenizer import load_tokenizer
from core.prompts.render import stop_strings
from core.records import Evaluation, Reporter
from core.store.files import is_complete, write_parquet
from core.store.runs import evaluation_folder, save_evaluation

if TYPE_CHECKING:
    from core.models.engine import Engine


def run_evaluation(evaluation: Evaluation, reporter: Reporter, engine: Engine | None = None) -> Evaluation:
    """Answer the rows of the evaluation's split and score the answers; goes on where an earlier run left off.

    Returns the saved record, ``complete`` unless a stop was asked for (then all answers so far are kept).
    ``engine``: one that has the arm's model loaded; else it is loaded here and let go at the end. UserError for what the
    arm lacks: rows, worked examples, a finished run.
    """
    folder = evaluation_folder(evaluation.evaluation_id)
    if evaluation.complete and is_complete(folder):
        return evaluation
    started = time.monotonic()
    rows = load_rows(evaluation)
    asked = ask(evaluation, rows)
    questions, left_out = asked.questions, asked.left_out
    answers, likelihoods = (Journal(folder / JOURNALS[work]) for work in (ANSWERING, MEASURING))
    try:
        too_long = _work(evaluation, questions, answers, likelihoods, reporter, engine)
    finally:
        answers.close()
        likelihoods.close()
    evaluation = evaluation.model_copy(update={"seconds": evaluation.seconds + time.monotonic() - started})
    if too_long is None:
        reporter.log(f"stopped with {len(answers.records):,} of {len(questions):,} answers kept")
        return save_evaluation(evaluation)
    left_out |= too_long
    answered = [q for q in questions if q.row_id not in left_out]
    if not answered:
        raise UserError(
            f"No row can be asked: {next(iter(left_out.values()))}",
            "Another template, fewer worked examples or another model may help.",
        )
    for row_id, reason in left_out.items():
        reporter.log(f"row {row_id} is left out: {reason}")
    reporter.progress(len(answered), len(answered), message="scoring")
    table = predictions_table(answered, answers.records, likelihoods.records)
    if asked.library is not None:
        write_parquet(folder / "passages.parquet", found_table(asked.found))
    timed = timing_signature(evaluation.spec.arm, [answers.records[q.row_id] for q in answered])
    return finish(evaluation, table, left_out, asked.library, timed)


def _work(
    evaluation: Evaluation,
    questions: Sequence[Question],
    answers: Journal,
    likelihoods: Journal,
    reporter: Reporter,
    engine: Engine | None,
) -> dict[str, str] | None:
    """Answer and measure what isn't kept yet. None when a stop was obeyed, else why rows stay without an answer."""
    to_answer = [q for q in questions if q.row_id not in answers.records]
    to_measure = [q for q in questions if q.gold and q.row_id not in likelihoods.records]
    if not to_answer and not to_measure:
        return {}
    if evaluation.spec.arm.endpoint is not None:
        return answer_remotely(evaluation, to_answer, len(questions), answers, reporter)
    who = answerer(evaluation.spec.arm)
    with engine_for(who, engine, reporter) as ready:
        room = ready.context
        too_long = {
            q.row_id: f"its prompt has {len(q.prompt):,} tokens, and the model reads {room:,} at most"
            for q in to_answer
            if len(q.prompt) >= room
        }
        to_answer = [q for q in to_answer if q.row_id not in too_long]
        to_measure = [q for q in to_measure if len(q.prompt) + len(q.gold) < room]
        total = len(questions) - len(too_long)
        done = _answer(evaluation, who, to_answer, total, answers, reporter, ready)
        done = done and _measure(who, to_measure, total, likelihoods, reporter, ready)
    return too_long if done else None


def _answer(
    evaluation: Evaluation,
    who: Answerer,
    questions: Sequence[Question],
    total: int,
    answers: Journal,
    reporter: Reporter,
    engine: Engine,
) -> bool:
    """Generate the answers that are missing, each kept as it comes."""
    if not questions:
        return True
    before = total - len(questions)
    reporter.progress(before, total, message=ANSWERING)

    def keep(place: int, answered: Any) -> None:
        question = questions[place]
        answers.add(
            {
                "row_id": question.row_id,
                "raw": answered.text,
                "tokens_in": len(question.prompt),
                "tokens_out": answered.tokens,
                "seconds": answered.seconds,
                "finish": answered.finish,
                MACHINE: machine,
            }
        )
        reporter.progress(len(answers.records), total, message=ANSWERING)

    arm = evaluation.spec.arm
    machine = measured_on(arm, str(engine.device))
    stop = stop_strings(evaluation.template, load_tokenizer(who.model))
    prompts = [question.prompt for question in questions]
    kept_to: dict[str, Any] = {"pattern": answer_pattern(evaluation)} if arm.constrained else {}
    engine.generate(
        prompts, arm.generation, adapter=who.adapter, stop=stop, should_stop=reporter.should_stop, on_row=keep, **kept_to
    )
    answers.sync()
    return all(question.row_id in answers.records for question in questions)


def _measure(
    who: Answerer, questions: Sequence[Question], total: int, likelihoods: Journal, reporter: Reporter, engine: Engine
) -> bool:
    """Measure the missing likelihoods of gold answers given their prompts, each kept as it comes."""
    before = total - len(questions)
    reporter.progress(before, total, message=MEASURING)

    def keep(place: int, measured: tuple[float, int]) -> None:
        nll, tokens = measured
        likelihoods.add({"row_id": questions[place].row_id, "nll": nll, "nll_tokens": tokens})
        reporter.progress(len(likelihoods.records), total, message=MEASURING)

    prompts, gold = [q.prompt for q in questions], [q.gold for q in questions]
    engine.score(prompts, gold, who.adapter, should_stop=reporter.should_stop, on_row=keep)
    likelihoods.sync()
    return all(question.row_id in likelihoods.records for question in questions)


def predictions_table(
    questions: Sequence[Question], answers: Mapping[str, Mapping[str, Any]], likelihoods: Mapping[str, Mapping[str, Any]]
) -> pa.Table:
    """Rows and what became of them, in the dataset's order; columns of ``artefacts.PREDICTIONS``."""
    lines = []
    counted = all(answers[q.row_id][side] is not None for q in questions for side in ("tokens_in", "tokens_out"))
    for question in questions:
        row, answer = question.row, answers[question.row_id]
        line = {name: row[name] for name in ("row_id", "instruction", "input", "output", "split", "source")}
        line |= {name: answer[name] for name in ("raw", "seconds", "finish")}
        line |= {side: answer[side] if counted else None for side in ("tokens_in", "tokens_out")}  # a mean of some would mislead
        measured = likelihoods.get(question.row_id, {})
        lines.append(
            {
                **line,
                "prediction": strip_thinking(answer["raw"]),
                "nll": measured.get("nll"),
                "nll_tokens": measured.get("nll_tokens"),
            }
        )
    return pa.Table.from_pylist(lines, schema=artefacts.PREDICTIONS)


def finish(
    evaluation: Evaluation,
    predictions: pa.Table,
    left_out: Mapping[str, str] | None = None,
    library: Library | None = None,
    made: Mapping[str, str] | None = None,
) -> Evaluation:
    """Score predictions, write the tables, the record and last the manifest; returns the complete record.

    ``made``: what is to stand in the signature of how the answers were made, beside what the arm says.
    """
    scored = score_frame(predictions, evaluation.task, evaluation.elements)
    scores = {**scored.scores, "left_out": dict(left_out)} if left_out else scored.scores
    scores |= {"passages": library.told()} if library is not None else {}
    repairs = pa.array(scored.repairs or [None] * predictions.num_rows, pa.large_string())
    predictions = predictions.set_column(predictions.schema.get_field_index("repaired"), "repaired", repairs)
    artefacts.write_tables(evaluation, predictions, scored.statistics, scored.pairs)
    signature = scored.signature | arm_signature(evaluation.spec.arm) | dict(made or {})
    signature |= {"passages": library.signature} if library is not None else {}
    complete = evaluation.model_copy(
        update={"rows": predictions.num_rows, "scores": scores, "signature": signature, "complete": True}
    )
    artefacts.write_manifest(complete)
    return save_evaluation(complete)
