"""Runs a measurement that isn't an evaluation of a dataset's rows: a judge, code tasks, or the perplexity of plain texts.

What is measured is kept as it comes, so a stop or a crash repeats nothing of it. Knows nothing of jobs: it reports to a
``Reporter``.
"""

from __future__ import annotations

import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from core.errors import InputFileError
from core.evaluation import code, judge
from core.evaluation.answerer import Answerer, answerer, engine_for
from core.evaluation.artefacts import Journal
from core.evaluation.judges import EndpointJudge, EngineJudge
from core.evaluation.judging import judge_evaluations, read_labels
from core.evaluation.sandbox import Limits, check_sandbox
from core.records import Arm, CodeSpec, JudgeSpec, Measurement, Reporter, TextSpec
from core.store.measurements import measurement_folder, save_measurement

if TYPE_CHECKING:
    from core.models.engine import Engine


def run_measurement(measurement: Measurement, reporter: Reporter, engine: Engine | None = None) -> Measurement:
    """Measure what isn't measured yet; the saved record, ``complete`` unless a stop was obeyed.

    ``engine``: one that has the model loaded; else it is loaded here and let go at the end.
    """
    if measurement.complete:
        return measurement
    started = time.monotonic()
    spec = measurement.spec
    if isinstance(spec, JudgeSpec):
        result = _judge(spec, reporter, engine)
    elif isinstance(spec, CodeSpec):
        result = _code(spec, measurement_folder(measurement.measurement_id), reporter, engine)
    else:
        result = _text(spec, measurement_folder(measurement.measurement_id), reporter, engine)
    changes: dict[str, Any] = {"seconds": measurement.seconds + time.monotonic() - started}
    if result is not None:
        changes |= {"result": result, "complete": True}
    return save_measurement(measurement.model_copy(update=changes))


def _judge(spec: JudgeSpec, reporter: Reporter, engine: Engine | None) -> dict[str, Any] | None:
    rubric = judge.Rubric(text=spec.rubric or judge.RUBRIC, low=spec.low, high=spec.high)
    labels = read_labels(Path(spec.labels), pairs=len(spec.evaluations) == 2) if spec.labels else None

    def by(one: judge.Judge) -> dict[str, Any] | None:
        return judge_evaluations(
            spec.evaluations, one, rubric, gold=spec.gold, limit=spec.limit, labels=labels, should_stop=reporter.should_stop,
            on_progress=lambda done, total: reporter.progress(done, total, unit="replies", message="judging"),
        )  # fmt: skip

    if spec.endpoint is not None:
        return by(EndpointJudge(spec.endpoint, workers=spec.workers, should_stop=reporter.should_stop))
    with engine_for(Answerer(spec.model), engine, reporter) as ready:
        return by(EngineJudge(ready, should_stop=reporter.should_stop))


def _code(spec: CodeSpec, folder: Path, reporter: Reporter, engine: Engine | None) -> dict[str, Any] | None:
    check_sandbox()
    problems = code.load_problems(Path(spec.problems) if spec.problems else None)
    if spec.samples_file:
        samples = code.load_samples(Path(spec.samples_file), problems)
    else:
        asked = list(problems.values())[: spec.limit]
        samples = _completions(spec, asked, folder, reporter, engine)
        if len(samples) < len(asked) * spec.samples:
            return None
    journal = Journal(folder / "checked.jsonl")
    done = {int(place): code.Checked(**_without_id(record)) for place, record in journal.records.items()}
    left = [place for place in range(len(samples)) if place not in done]

    def keep(number: int, checked: code.Checked) -> None:
        done[left[number]] = checked
        journal.add({"row_id": str(left[number]), **asdict(checked)})
        reporter.progress(len(done), len(samples), unit="programs", message="running in the sandbox")

    try:
        code.check_samples(
            problems, [samples[place] for place in left], limits=Limits(seconds=spec.seconds), on_checked=keep,
            should_stop=reporter.should_stop,
        )  # fmt: skip
    finally:
        journal.close()
    if len(done) < len(samples):
        return None
    return code.score_samples([done[place] for place in range(len(samples))], [k for k in spec.ks if k > 0])


def _completions(
    spec: CodeSpec, problems: list[code.Problem], folder: Path, reporter: Reporter, engine: Engine | None
) -> list[tuple[str, str]]:
    from core.evaluation.code_answers import PLAIN, answer_problems
    from core.prompts.templates import find_template

    journal, total = Journal(folder / "answers.jsonl"), len(problems) * spec.samples
    kept = {int(place): str(record["completion"]) for place, record in journal.records.items()}

    def keep(place: int, completion: str) -> None:
        journal.add({"row_id": str(place), "completion": completion})
        reporter.progress(len(journal.records), total, unit="answers", message="answering")

    who = answerer(Arm(model=spec.model, run=spec.run))
    template = PLAIN if spec.template == "code" else find_template(spec.template)
    options: dict[str, Any] = {"samples": spec.samples, "kept": kept, "on_answer": keep, "should_stop": reporter.should_stop}
    try:
        if len(kept) == total:
            return [(p.task_id, kept[i * spec.samples + n]) for i, p in enumerate(problems) for n in range(spec.samples)]
        with engine_for(who, engine, reporter) as ready:
            return answer_problems(problems, ready, template, spec.generation, adapter=who.adapter, **options)
    finally:
        journal.close()


def _text(spec: TextSpec, folder: Path, reporter: Reporter, engine: Engine | None) -> dict[str, Any] | None:
    from core.evaluation.sliding import text_perplexity

    texts = [read_text(Path(name)) for name in spec.files]
    journal = Journal(folder / "windows.jsonl")
    kept = {int(place): (float(r["nll"]), int(r["tokens"])) for place, r in journal.records.items()}

    def keep(place: int, total: int, measured: tuple[float, int]) -> None:
        journal.add({"row_id": str(place), "nll": measured[0], "tokens": measured[1]})
        reporter.progress(len(journal.records), total, unit="windows", message="reading")

    who = answerer(Arm(model=spec.model, run=spec.run))
    try:
        with engine_for(who, engine, reporter) as ready:
            return text_perplexity(
                texts, ready, window=spec.window, stride=spec.stride, adapter=who.adapter, kept=kept, on_window=keep,
                should_stop=reporter.should_stop,
            )  # fmt: skip
    finally:
        journal.close()


def read_text(path: Path) -> str:
    """A text file in UTF-8; InputFileError names one that isn't."""
    try:
        return path.read_text("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InputFileError(f"{path} can't be read: {error}", "Give text files in UTF-8.") from None


def _without_id(record: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in record.items() if name != "row_id"}
