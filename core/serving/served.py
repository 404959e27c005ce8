"""What a server offers: one model in memory, and the names under which it and its adapters are asked.

The base is asked with the first run's template, so that base and fine-tune answer the very same prompt.
Knows nothing of HTTP and engines.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from core.errors import NotFoundError, SpecError
from core.jobs.submissions import run_model
from core.records import ModelRef, Run, Template
from core.store.datasets import find_dataset, read_rows
from core.store.files import is_complete
from core.store.runs import get_run
from core.training.artefacts import result_folder

BASE = "base"


@dataclass(frozen=True)
class ServedModel:
    """A name that can be asked. ``run``: none for the base; ``adapter``: the run's identifier if it is one's weights.

    ``conversational``: trained on conversations, where a system message is a system text and not an instruction.
    """

    name: str
    template: Template
    created: int
    run: str | None = None
    adapter: str | None = None
    folder: Path | None = None
    elements: tuple[str, ...] = ()
    conversational: bool = False


@dataclass(frozen=True)
class Plan:
    """A model and all names it is asked by; the first run's stands first. ``instruction``: of a row it was trained on."""

    model: ModelRef
    models: tuple[ServedModel, ...]
    instruction: str = ""

    def find(self, name: str) -> ServedModel:
        """The model that is asked by a name, a run's identifier or ``base``. NotFoundError lists the names."""
        for model in self.models:
            if name in (model.name, model.run or BASE):
                return model
        raise NotFoundError(f"There is no model {name!r} here", f"Models here: {', '.join(m.name for m in self.models)}.")


def plan_serving(run: str, also: Sequence[str] = ()) -> Plan:
    """What to serve for a run and further runs of the same base, by identifier or name.

    NotFoundError: no such run; SpecError: not finished, another base, or whole weights beside others.
    """
    runs = list({found.run_id: found for found in (get_run(key) for key in (run, *also))}.values())
    for found in runs:
        if not is_complete(result_folder(found)):
            raise SpecError(f"Run {found.name} has no finished result", "Wait for its job, or resume it: `python -m core jobs`.")
    first = runs[0]
    whole = [found for found in runs if found.spec.method == "full"]
    if whole:
        if len(runs) > 1:
            raise SpecError(
                f"{whole[0].name} has whole weights, a model of its own",
                "Serve it by itself, in a second server on another port.",
            )
        model = ModelRef(source="path", name=str(result_folder(first)), dtype=first.spec.model.dtype)
        return Plan(model, (_served(first, first.name, adapter=False),), _instruction(first))
    model = run_model(first)
    for found in runs[1:]:
        if run_model(found) != model:
            raise SpecError(
                f"{found.name} was trained on {run_model(found).label}, {first.name} on {model.label}",
                "One server holds one base: serve it by itself, on another port.",
            )
    base = model.name.rstrip("/").rsplit("/", 1)[-1]
    names: dict[str, Run] = {}
    for found in runs:
        names[found.run_id if found.name in {*names, base, BASE} else found.name] = found
    tuned = [_served(found, name) for name, found in names.items()]
    under = ServedModel(
        base,
        first.template,
        int(first.created_at.timestamp()),
        elements=tuned[0].elements,
        conversational=tuned[0].conversational,
    )
    return Plan(model, (*tuned, under), _instruction(first))


def _served(run: Run, name: str, *, adapter: bool = True) -> ServedModel:
    dataset = find_dataset(run.spec.data[0].dataset)
    return ServedModel(
        name,
        run.template,
        int(run.created_at.timestamp()),
        run=run.run_id,
        adapter=run.run_id if adapter else None,
        folder=result_folder(run) if adapter else None,
        elements=dataset.elements if dataset else (),
        conversational=dataset is not None and dataset.task == "chat",
    )


def _instruction(run: Run) -> str:
    """The instruction of the first row that the run was trained on; empty where its data is gone."""
    use = run.spec.data[0]
    if find_dataset(use.dataset) is None:
        return ""
    try:
        table = read_rows(use.dataset, use.version, columns=["instruction"], split=use.split, limit=1)
    except NotFoundError:
        return ""
    return str(table["instruction"][0]) if table.num_rows else ""
