"""Records of runs and evaluations as they are queued: everything named is looked up now and frozen.

A dataset without a version means its latest at this moment, a template its latest version; what the job does
later can't change under it. Nothing is written when something is missing.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from core.errors import NotFoundError, SpecError
from core.evaluation.passages import freeze
from core.jobs.backends import BACKENDS
from core.jobs.devices import gpu_count
from core.models.tokenizer import load_tokenizer
from core.prompts.templates import find_template, uses_passages
from core.records import (
    Arm,
    Evaluation,
    EvaluationSpec,
    ModelRef,
    NamedEndpoint,
    Passages,
    Run,
    Template,
    TrainSpec,
    Version,
    new_id,
)
from core.store.datasets import get_dataset, get_version
from core.store.endpoints import check_endpoint, get_endpoint
from core.store.runs import get_run, list_evaluations, list_runs, mark_template_used
from core.training.artefacts import result_folder
from core.training.spec import check, freeze_versions, write_spec


def prepare_training(spec: TrainSpec) -> Run:
    """The record of a run that is about to be queued, its spec.yaml written. SpecError lists all faults."""
    check(spec, gpu_count(), BACKENDS)
    spec, versions = freeze_versions(spec)
    template = find_template(spec.template)
    mark_template_used(template)
    default = f"{spec.data[0].dataset}-{spec.method}"
    run = Run(
        run_id=new_id("run"),
        name=spec.name or unused(default, (run.name for run in list_runs())),
        spec=spec.model_copy(update={"template": template.ref}),
        template=template,
        data_versions=versions,
    )
    write_spec(run)
    return run


def prepare_evaluation(spec: EvaluationSpec) -> Evaluation:
    """The record of an evaluation that is about to be queued. NotFoundError names what is missing.

    An arm with a run gets the run's own model and template unless it names others. A full tuning's run is a model of
    its own: its arm names that model and no adapter.
    """
    dataset = get_dataset(spec.dataset)
    version = get_version(spec.dataset, spec.version)
    _check_split(version, spec.split)
    arm = spec.arm
    template: Template | None = None
    if arm.run is not None:
        run = get_run(arm.run)
        model = arm.model if "model" in arm.model_fields_set else run_model(run)
        changes: dict[str, object] = {"run": None if run.spec.method == "full" else run.run_id, "model": model}
        changes["name"] = arm.name or _name_of(run, model)
        if "template" not in arm.model_fields_set:
            template = run.template
        arm = arm.model_copy(update=changes)
    if arm.model.source == "path":
        load_tokenizer(arm.model)  # says what is wrong with a folder that isn't a model, before anything is queued
    template = template or find_template(arm.template)
    frozen = {"endpoint": _frozen_endpoint(arm, template), "passages": _frozen_passages(arm, template)}
    arm = arm.model_copy(update={"template": template.ref, **frozen})
    mark_template_used(template)
    how = arm.name or f"{arm.model.label}, {template.name}" + (f", {arm.shots} shots" * bool(arm.shots))
    if arm.passages is not None and not arm.name:
        how += f", {arm.passages.k} passages of {Path(arm.passages.folder).name}"
    how += ", kept to JSON" * arm.constrained
    return Evaluation(
        evaluation_id=new_id("evaluation"),
        name=unused(spec.arm.name or f"{spec.dataset} {spec.split}: {how}", (e.name for e in list_evaluations())),
        spec=spec.model_copy(update={"arm": arm, "version": version.number}),
        task=dataset.task,
        elements=dataset.elements,
        template=template,
        version=version.number,
    )


def _frozen_endpoint(arm: Arm, template: Template) -> NamedEndpoint | None:
    """Where the arm's model answers, as it is now. SpecError where an endpoint can't do what the arm asks for."""
    if arm.model.source != "endpoint":
        return None
    endpoint = arm.endpoint or get_endpoint(arm.model.name)
    check_endpoint(endpoint)
    if arm.run is not None:
        raise SpecError("An endpoint answers with a model of its own", "Name a run, or an endpoint.")
    if template.kind != "chat":
        raise SpecError(
            f"Template {template.ref} is raw: an endpoint takes messages", "Choose a chat template, e.g. `chat` or `json-zh`."
        )
    return endpoint


def _frozen_passages(arm: Arm, template: Template) -> Passages | None:
    """The arm's passages with their folder's content; SpecError where the template has no place for them."""
    if arm.passages is None:
        return None
    if not uses_passages(template):
        raise SpecError(
            f"Template {template.ref} has no place for passages",
            "Take rag-zh or rag-en, or write {% for passage in passages %} into its user text.",
        )
    return freeze(arm.passages)


def _check_split(version: Version, split: str) -> None:
    if version.rows and not version.split_sizes.get(split):
        sizes = ", ".join(f"{name or 'in no split'} {size:,}" for name, size in version.split_sizes.items() if size)
        raise NotFoundError(
            f"Dataset {version.dataset!r} v{version.number} has no rows in split {split!r}",
            f"Its rows: {sizes}. `python -m core split {version.dataset}` makes train, dev and test.",
        )


def run_model(run: Run) -> ModelRef:
    """The model that a run is asked on: under its adapter the base as it was trained on, for full tuning its own weights."""
    if run.spec.method == "full":
        return ModelRef(source="path", name=str(result_folder(run)), dtype=run.spec.model.dtype)
    return run.spec.model.model_copy(update={"quantisation": "nf4"}) if run.spec.method == "qlora" else run.spec.model


def _name_of(run: Run, model: ModelRef) -> str:
    """A run's name, with what tells its arm from another of the same run where it isn't asked on its own model."""
    own = run_model(run)
    if model == own:
        return run.name
    same = model.model_copy(update={"dtype": own.dtype, "quantisation": own.quantisation}) == own
    return f"{run.name} ({model.number_format or 'default number format'})" if same else f"{run.name} on {model.label}"


def unused(name: str, taken: Iterable[str]) -> str:
    """``name``, or ``name-2``, ``name-3``, … if it is taken."""
    names = set(taken)
    number, found = 2, name
    while found in names:
        found, number = f"{name}-{number}", number + 1
    return found
