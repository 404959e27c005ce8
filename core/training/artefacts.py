"""What a finished run leaves: its adapter (or whole weights) with a model card and a manifest, whole or not there.

Knows nothing of training itself.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from core.models.catalogue import resolve
from core.models.identity import KEPT, check_same, identity
from core.records import Run
from core.store.files import atomic_folder, write_text
from core.store.runs import run_folder
from core.training.spec import dump_spec, learning_rate

LIBRARIES = ("torch", "transformers", "peft", "bitsandbytes", "accelerate", "liger-kernel")
ADAPTER_FILES = ("adapter_config.json", "adapter_model.safetensors")


def library_versions() -> dict[str, str]:
    """Versions of the libraries that a training's numbers depend on, those that are installed."""
    found = {}
    for name in LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def what_it_stands_on(run: Run, goes_on: bool) -> dict[str, dict[str, str]]:
    """The libraries of a training and what tells its base's weights, as a run's record keeps them.

    ModelError where it goes on from a checkpoint and another model lies in the base's folder by now.
    """
    here = identity(resolve(run.spec.model))
    if goes_on:
        check_same(run.base, here, f"Run {run.name}")
    return {"libraries": library_versions(), "base": run.base if goes_on else here}


def result_folder(run: Run) -> Path:
    """Where a run's result lies once it is complete: ``adapter/``, or ``model/`` (whole weights) for full tuning."""
    return run_folder(run.run_id) / ("model" if run.spec.method == "full" else "adapter")


def save_result(run: Run, model: Any, tokenizer: Any, base: Path, scores: Mapping[str, float], best: Path | None = None) -> Path:
    """Write a run's result folder; the manifest comes last. ``best``: a checkpoint whose weights are taken instead.

    ``model`` is the trained model (peft or whole); only an adapter's own weights are written.
    """
    folder = result_folder(run)
    shutil.rmtree(folder, ignore_errors=True)  # of a worker that was killed before it could say that it had finished
    with atomic_folder(folder, _manifest(run, base, scores)) as temporary:
        if best is not None:
            _copy_weights(best, temporary)
        elif run.spec.method == "full":
            model.save_pretrained(temporary)
        else:
            model.save_pretrained(temporary, save_embedding_layers=False)
        tokenizer.save_pretrained(temporary)  # an adapter's too: an export needs nothing else of the base
        write_text(temporary / "README.md", model_card(run, base, scores))
    return folder


def base_of(run: Run, base: Path) -> str:
    """What another program loads a run's base by: its name on a hub, else the folder where it lies on this machine."""
    return run.spec.model.name if run.spec.model.source in ("hub", "modelscope") else str(base)


def model_card(run: Run, base: Path, scores: Mapping[str, float], *, merged: bool = False) -> str:
    """The README of a result, with the metadata block that the hub reads. ``merged``: of an adapter put into its base."""
    spec = run.spec
    kind = "Whole weights" if spec.method == "full" else f"A {'4-bit ' if spec.method == 'qlora' else ''}LoRA adapter"
    kind = f"Whole bf16 weights with a {spec.method} adapter merged in," if merged else kind
    data = [
        f"- {use.dataset}, version {use.version}, split {use.split}, weight {use.weight:g}"
        + (f", the first {use.limit} rows" if use.limit else "")
        for use in spec.data
    ]
    numbers = [f"| {name} | {value:,.4g} |" for name, value in scores.items()]
    libraries = ", ".join(f"{name} {number}" for name, number in run.libraries.items())
    rows = f"{run.trained_rows:,} rows trained on, {run.dropped_rows:,} left out, {run.steps:,} steps in {run.seconds:,.0f} s."
    parts = [
        f"---\nbase_model: {base_of(run, base)}\n"
        + f"library_name: {'transformers' if merged or spec.method == 'full' else 'peft'}\n"
        + f"tags:\n- tunewise\n- {spec.method}\n---",
        f"# {run.name}",
        f"{kind} for {spec.model.label}, made by Tunewise run `{run.run_id}`. {rows}",
        "## Data\n" + "\n".join(data),
        f"## Template\n`{run.template.ref}`, learning rate {learning_rate(spec):g}, loss on {spec.loss_on}.",
        "## Numbers\n| | |\n|-|-|\n" + "\n".join(numbers),
        f"## Spec\n```yaml\n{dump_spec(spec)}```",
        f"## Libraries\n{libraries}",
    ]
    return "\n\n".join(parts) + "\n"


def _manifest(run: Run, base: Path, scores: Mapping[str, float]) -> dict[str, Any]:
    return {
        "run": run.run_id,
        "name": run.name,
        "method": run.spec.method,
        "model": run.spec.model.model_dump(mode="json"),
        "base": str(base),
        KEPT: run.base,
        "template": run.template.ref,
        "data": [use.model_dump(mode="json") for use in run.spec.data],
        "steps": run.steps,
        "scores": dict(scores),
        "libraries": run.libraries,
    }


def _copy_weights(checkpoint: Path, target: Path) -> None:
    names = [*ADAPTER_FILES, "config.json", "generation_config.json", "*.safetensors", "*.safetensors.index.json"]
    for path in {found for name in names for found in checkpoint.glob(name)}:
        shutil.copyfile(path, target / path.name)
