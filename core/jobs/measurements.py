"""Records of judges, code tasks and texts as they are queued: everything named is looked up now, files by their whole path.

Nothing is written when something is missing.
"""

from __future__ import annotations

from pathlib import Path

from core.errors import ModelError, SpecError
from core.evaluation import artefacts
from core.evaluation.code import load_problems, load_samples
from core.evaluation.judge import RUBRIC, Rubric
from core.evaluation.judging import read_labels
from core.evaluation.measuring import read_text
from core.evaluation.sandbox import check_sandbox
from core.jobs.submissions import run_model, unused
from core.prompts.templates import find_template
from core.records import CodeSpec, JudgeSpec, Measurement, ModelRef, TextSpec, new_id
from core.store.endpoints import check_endpoint, get_endpoint
from core.store.measurements import list_measurements
from core.store.runs import get_evaluation, get_run


def prepare_measurement(spec: JudgeSpec | CodeSpec | TextSpec, name: str = "") -> Measurement:
    """The record of a measurement that is about to be queued. UserError for what is missing, before anything is queued."""
    if isinstance(spec, JudgeSpec):
        spec, words = _judge_spec(spec)
    elif isinstance(spec, CodeSpec):
        spec, words = _code_spec(spec)
    else:
        files = tuple(str(Path(file).expanduser().absolute()) for file in spec.files)
        for file in files:
            read_text(Path(file))
        spec = spec.model_copy(update={"files": files, "model": _model_of(spec)})
        words = f"perplexity of {Path(files[0]).name}" + f" and {len(files) - 1} more" * (len(files) > 1)
        words += f": {spec.run or spec.model.label}"
    taken = (one.name for one in list_measurements())
    return Measurement(measurement_id=new_id("measurement"), name=unused(name or words, taken), spec=spec)


def _judge_spec(spec: JudgeSpec) -> tuple[JudgeSpec, str]:
    Rubric(spec.rubric or RUBRIC, spec.low, spec.high)
    evaluations = [get_evaluation(key) for key in spec.evaluations]
    for evaluation in evaluations:
        artefacts.read_predictions(evaluation.evaluation_id, ["row_id"])
    if spec.labels:
        read_labels(Path(spec.labels), pairs=len(evaluations) == 2)
    endpoint = spec.endpoint
    if spec.model.source == "endpoint":
        endpoint = endpoint or get_endpoint(spec.model.name)
        check_endpoint(endpoint)
    labels = str(Path(spec.labels).expanduser().absolute()) if spec.labels else ""
    ids = tuple(evaluation.evaluation_id for evaluation in evaluations)
    changes = {"evaluations": ids, "endpoint": endpoint, "labels": labels}
    words = " against ".join(evaluation.name for evaluation in evaluations)
    return spec.model_copy(update=changes), f"{words}, judged by {spec.model.label}"


def _code_spec(spec: CodeSpec) -> tuple[CodeSpec, str]:
    check_sandbox()
    paths = {
        name: str(Path(path).expanduser().absolute()) for name in ("problems", "samples_file") if (path := getattr(spec, name))
    }
    problems = load_problems(Path(paths["problems"]) if "problems" in paths else None)
    what = Path(paths["problems"]).stem if "problems" in paths else "HumanEval"
    if spec.samples_file:
        load_samples(Path(paths["samples_file"]), problems)
        return spec.model_copy(update=paths), f"{what}: {Path(spec.samples_file).name}"
    if spec.samples > 1 and spec.generation.temperature == 0:
        raise SpecError(f"{spec.samples} greedy samples of a task are all the same", "Set a temperature, e.g. 0.8.")
    if spec.template != "code":
        find_template(spec.template)
    spec = spec.model_copy(update={**paths, "model": _model_of(spec)})
    return spec, f"{what}: {spec.run or spec.model.label}"


def _model_of(spec: CodeSpec | TextSpec) -> ModelRef:
    """The model that answers; a run brings its own unless another is named. ModelError for an endpoint."""
    if spec.model.source == "endpoint":
        raise ModelError("This is measured on a model that is here, not behind an endpoint", "Choose a model of this machine.")
    return run_model(get_run(spec.run)) if spec.run and "model" not in spec.model_fields_set else spec.model
