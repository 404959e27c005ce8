"""A training's specification: from YAML and overrides to a TrainSpec, and whether it can be carried out here.

All faults are found at once, each naming its key; an unknown key is told with the nearest known one.
Knows nothing of torch: pages use it.
"""

from __future__ import annotations

import copy
import difflib
import re
from collections.abc import Collection, Mapping, Sequence
from functools import reduce
from operator import getitem
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from core.errors import SpecError, UserError
from core.models.memory import devices
from core.prompts.templates import find_template
from core.records import DatasetUse, Method, ModelRef, Run, TrainSpec
from core.store.datasets import get_dataset, get_version
from core.store.files import write_text
from core.store.runs import run_folder
from core.store.yamltext import read_yaml
from core.training.faults import layer_faults, length_faults, model_folder
from core.training.limits import format_faults, number_faults, report_faults
from core.training.scores import metrics_of
from core.training.shape import read_shape
from core.training.written import lengthen, override

LEARNING_RATES: Mapping[Method, float] = {"full": 2e-5, "lora": 2e-4, "qlora": 2e-4}
"""Used when a spec names none. LoRA wants about ten times the rate of full tuning (Biderman et al. 2024, section 4)."""
METHOD_NAMES: Mapping[Method, str] = {"full": "Full fine-tuning", "lora": "LoRA", "qlora": "QLoRA"}
SMALL_WIDTH = 1024
SMALL_RATES: Mapping[Method, float] = {"full": 1e-4, "lora": 1e-3, "qlora": 1e-3}
"""The same for models no wider than that, which bear and need more (``docs/benchmarks.md``, learning rates)."""


def load_spec(path: Path, overrides: Sequence[str] = ()) -> TrainSpec:
    """The spec in a YAML file, with ``key=value`` overrides (dotted keys reach inside: ``model.name=…``).

    Raises SpecError that lists every fault of the file's form; ``check`` finds those of its content.
    """
    try:
        text = path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise SpecError(f"The spec {path} can't be read: {reason}", "Give a YAML file with at least `data: DATASET`.") from error
    values = read_yaml(text, str(path), "Write `key: value` lines.")
    if not isinstance(values, dict):
        raise SpecError(f"{path} holds no keys", "Write `key: value` lines, at least `data: DATASET`.")
    for change in overrides:
        override(values, change)
    return make_spec(values, str(path))


def make_spec(values: Mapping[str, Any], where: str = "the spec") -> TrainSpec:
    """A TrainSpec from plain values. Short forms: ``model: PATH``, ``data: NAME`` or a list of names, ``dev: NAME``."""
    whole = lengthen(dict(values))
    try:
        return TrainSpec.model_validate(whole)
    except ValidationError as error:
        found: list[dict[str, Any]] = [dict(item) for item in error.errors()]
        inner = {item["loc"][0] for item in found if len(item["loc"]) > 1}  # a list whose item is at fault is called too short
        found = [item for item in found if not (item["type"] == "too_short" and item["loc"][0] in inner)]
        raise _spec_error(where, (*map(_fault, found), *_faults_beside(whole, [item["loc"] for item in found]))) from error


def _faults_beside(values: Mapping[str, Any], places: Sequence[tuple[str | int, ...]]) -> list[str]:
    """What else is wrong with a spec whose form is at fault at ``places``: faults of content that don't hang on these keys."""
    left: Any = copy.deepcopy(dict(values))
    for *path, last in places:
        inside = reduce(getitem, path, left)
        if not isinstance(inside, dict):  # a name in a list
            return []
        inside.pop(last, None)
    wrong = {str(place[-1] if place[0] == "data" else place[0]) for place in places}
    if "method" in wrong:
        left["method"] = "lora"  # which goes with most
    try:
        found = validate(TrainSpec.model_validate(left))
    except ValidationError:
        return []
    unsure = ("target_modules", "max_length") if wrong & {"model", "template"} else ()
    return [fault for fault in found if not wrong & set(re.findall(r"\w+", fault)) and not fault.startswith(unsure)]


def dump_spec(spec: TrainSpec) -> str:
    """YAML of a spec that ``load_spec`` reads back to an equal one."""
    return yaml.safe_dump(spec.model_dump(mode="json"), allow_unicode=True, sort_keys=False, width=120)


def said_data(spec: TrainSpec) -> str:
    """What is trained on, in a few words: ``people v2``; uses of the same dataset with what tells them apart."""
    names = [use.dataset for use in spec.data]
    said = []
    for use in spec.data:
        text = use.dataset + (f" v{use.version}" if use.version else "")
        if names.count(use.dataset) > 1:
            text += f" {use.split or 'in no split'}" + (f" (the first {use.limit:,})" if use.limit else "")
        said.append(text)
    return ", ".join(said)


def write_spec(run: Run) -> Path:
    """Keep a run's spec as ``spec.yaml`` in its folder; returns the path."""
    path = run_folder(run.run_id) / "spec.yaml"
    write_text(path, f"# python -m core train {path.name}\n{dump_spec(run.spec)}")
    return path


def learning_rate(spec: TrainSpec) -> float:
    """The spec's learning rate; else its method's, for a model of its width where that is known without a download."""
    if spec.learning_rate is not None:
        return spec.learning_rate
    return (SMALL_RATES if _is_small(spec.model) else LEARNING_RATES)[spec.method]


def _is_small(model: ModelRef) -> bool:
    if model.source == "default":  # of 135 million numbers, also before it is converted
        return True
    folder = model_folder(model)
    try:
        return folder is not None and read_shape(folder).width <= SMALL_WIDTH
    except UserError:
        return False


def validate(spec: TrainSpec, gpus: int | None = None, backends: Collection[str] = ()) -> list[str]:
    """All reasons why a spec can't be carried out here; empty when it can. ``gpus``: how many may be used (none: all).

    ``backends``: the ways to launch a worker that there are (none: not looked at).
    """
    faults: list[str] = []
    there: list[tuple[str, DatasetUse]] = []
    for place, use in _uses(spec):
        try:
            version = get_version(use.dataset, use.version)
        except UserError as error:
            faults.append(f"{place}: {error.message}. {error.hint}")
            continue
        if version.rows and not version.split_sizes.get(use.split, 0):
            sizes = ", ".join(f"{name or 'no split'}: {count}" for name, count in version.split_sizes.items()) or "none"
            faults.append(f"{place}.split: {use.dataset!r} v{version.number} has no rows in {use.split!r} ({sizes})")
        elif version.rows:
            there.append((place, use))
    try:
        find_template(spec.template)
    except UserError as error:
        faults.append(f"template: {error.message}. {error.hint}")
    if spec.model.source == "endpoint":
        faults.append("model: a model behind an endpoint can't be trained here; give a folder or a hub name")
    elif spec.model.source == "path" and not (Path(spec.model.name) / "config.json").is_file():
        faults.append(f"model: {spec.model.name} is no model folder: it has no config.json")
    if spec.micro_batch_size is not None and spec.micro_batch_size > spec.batch_size:
        faults.append(f"micro_batch_size: {spec.micro_batch_size} is more than batch_size {spec.batch_size}")
    if spec.batch_size % spec.gpus:
        faults.append(f"batch_size: {spec.batch_size} rows of a step can't be shared evenly by {spec.gpus} GPUs")
    cards = sum(device.name.startswith("cuda") for device in devices())
    usable = cards if gpus is None else gpus
    if spec.gpus > max(1, usable):
        faults.append(f"gpus: {spec.gpus} are asked for, and {usable} can be used here; leave gpus out, or give {max(1, usable)}")
    if backends and spec.launch_backend not in backends:
        faults.append(f"launch_backend: there is no {spec.launch_backend!r}; those here: {', '.join(backends)}")
    faults += number_faults(spec, _uses(spec)) + format_faults(spec, cards)
    faults += layer_faults(spec) + length_faults(spec, there)
    return faults + _dev_faults(spec) + report_faults(spec)


def _dev_faults(spec: TrainSpec) -> list[str]:
    faults = []
    if spec.dev is None:
        keys = [key for key in ("eval_every", "patience") if getattr(spec, key) is not None]
        faults += [f"{key}: there is no dev data to look at; add `dev: DATASET` or leave {key} out" for key in keys]
    elif spec.patience is not None and spec.eval_every is None:
        faults.append("patience: dev is looked at once, at the end; set eval_every to look at it while training")
    if spec.dev is not None:
        try:
            known = metrics_of(get_dataset(spec.dev.dataset).task)
        except UserError:  # told with the dataset's own place
            return faults
        if any((use.dataset, use.split) == (spec.dev.dataset, spec.dev.split) for use in spec.data):
            faults.append(
                f"dev: {spec.dev.split!r} of {spec.dev.dataset!r} is what is trained on, so its scores would say nothing; "
                f"take another split (`python -m core split {spec.dev.dataset}` makes train, dev and test)"
            )
        if spec.best_metric not in known:
            faults.append(f"best_metric: {spec.dev.dataset!r} has no {spec.best_metric}; it has {', '.join(known)}")
    return faults


def check(spec: TrainSpec, gpus: int | None = None, backends: Collection[str] = ()) -> None:
    """Raise a SpecError with all faults of ``validate``, if there are any."""
    faults = tuple(validate(spec, gpus, backends))
    if faults:
        raise _spec_error("the spec", faults)


def freeze_versions(spec: TrainSpec) -> tuple[TrainSpec, dict[str, tuple[int, ...]]]:
    """The spec with its learning rate and every dataset's version named (the latest where it names none); versions by dataset."""
    frozen = [use.model_copy(update={"version": get_version(use.dataset, use.version).number}) for use in spec.data]
    dev = spec.dev and spec.dev.model_copy(update={"version": get_version(spec.dev.dataset, spec.dev.version).number})
    versions: dict[str, tuple[int, ...]] = {}
    for use in [*frozen, *([dev] if dev else [])]:
        versions[use.dataset] = tuple(sorted({*versions.get(use.dataset, ()), use.version or 0}))
    return spec.model_copy(update={"data": tuple(frozen), "dev": dev, "learning_rate": learning_rate(spec)}), versions


def _uses(spec: TrainSpec) -> list[tuple[str, DatasetUse]]:
    uses = [(f"data[{number}]" if len(spec.data) > 1 else "data", use) for number, use in enumerate(spec.data)]
    return uses + ([("dev", spec.dev)] if spec.dev else [])


def _fault(error: dict[str, Any]) -> str:
    """One fault of the form, as ``key: what is wrong``."""
    location = [str(part) for part in error["loc"]]
    key = ".".join(location)
    if error["type"] == "extra_forbidden":
        known = _fields(location[:-1])
        near = difflib.get_close_matches(location[-1], known, n=1, cutoff=0.7)
        return f"unknown key {key!r}" + (f", did you mean {near[0]!r}?" if near else f"; the keys are {', '.join(known)}")
    if error["type"] == "missing":
        return f"{key} is missing"
    words = "must name at least one dataset" if (error["type"], key) == ("too_short", "data") else _must(error)
    return f"{key}: {words} (it is {error['input']!r})"


def _must(error: Mapping[str, Any]) -> str:
    """What a value would have to be, told from the kind of a validation error."""
    bounds = {"greater_than": "more than {gt:g}", "greater_than_equal": "{ge:g} or more", "less_than": "less than {lt:g}"}
    bounds |= {"less_than_equal": "{le:g} or less", "literal_error": "{expected}", "finite_number": "a finite number"}
    if error["type"] in bounds:
        return "must be " + bounds[error["type"]].format(**error.get("ctx", {}))
    kinds = {"int": "a whole number", "float": "a number", "bool": "true or false", "string": "a text", "tuple": "a list"}
    return "must be " + kinds.get(error["type"].partition("_")[0], "written as keys with values")


def _fields(location: Sequence[str]) -> list[str]:
    """The known keys at a place of the spec."""
    inside: dict[str, type[BaseModel]] = {"model": ModelRef, "data": DatasetUse, "dev": DatasetUse}
    return list(inside.get(location[0] if location else "", TrainSpec).model_fields)


def _spec_error(where: str, faults: tuple[str, ...]) -> SpecError:
    subject = "The spec" if where == "the spec" else where
    if len(faults) == 1:
        return SpecError(f"{subject}: {faults[0]}", "Mend it and try again; nothing was started.", faults)
    return SpecError(f"{subject} has {len(faults)} faults", "Mend them and try again; nothing was started.", faults)
