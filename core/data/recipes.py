"""Recipes: ordered steps that make each version of a dataset out of what was imported.

Preview shows what steps would do, apply does it as a new version with its ledger, undo replays the recipe
without one step, also an earlier one, into a new version. Nothing is ever taken away: versions don't change.
Knows nothing of pages; what a step does is its operation's business.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from core.data import ledger
from core.data.elements import infer_elements
from core.data.operations.base import Context, State
from core.data.operations.registry import OPERATIONS, operation_of
from core.data.recipe_files import dump_recipe, load_recipe, read_recipe
from core.errors import NotFoundError, SpecError, UserError
from core.records import Dataset, Reporter, SilentReporter, Step, Version
from core.store import schema
from core.store.content import content_hash, split_sizes
from core.store.datasets import (
    get_dataset,
    get_version,
    list_versions,
    read_quarantine,
    read_rows,
    read_step,
    save_version,
)

__all__ = [
    "Preview",
    "StepPreview",
    "apply",
    "default_recipe",
    "dump_recipe",
    "given_elements",
    "load_recipe",
    "preview",
    "preview_undo",
    "read_recipe",
    "replay",
    "undo",
]


@dataclass(frozen=True, slots=True)
class StepPreview:
    """What one step does: how many rows it drops (some of them put aside), changes and adds."""

    step: Step
    title: str
    dropped: int
    changed: int
    added: int
    quarantined: int
    rows_after: int

    @property
    def affected(self) -> int:
        """Rows that the step touches."""
        return self.dropped + self.changed + self.added


@dataclass(frozen=True, slots=True)
class Preview:
    """What steps would do to a version: every affected row in ``changes`` (``ledger.CHANGES``: reason, before, after)."""

    dataset: str
    version: int
    steps: tuple[StepPreview, ...]
    changes: pa.Table
    rows_before: int
    rows_after: int

    @property
    def affected(self) -> int:
        """Distinct rows that are touched."""
        return len(pc.unique(self.changes["row_id"]))


@dataclass(frozen=True, slots=True)
class _Done:
    state: State
    steps: tuple[StepPreview, ...]
    changes: pa.Table
    elements: tuple[str, ...]


def given_elements(dataset: Dataset, recipe: Sequence[Step]) -> tuple[str, ...]:
    """The elements that were given for a dataset, as its recipe leaves them; empty when none were given."""
    elements = () if dataset.elements_inferred else dataset.elements
    if any(step.op in ("import", "mix") and step.params.get("elements") for step in recipe):
        elements = ()
    for number, step in enumerate(recipe, start=1):
        elements = operation_of(step, number).elements_after(elements)
    return elements


def _run(dataset: Dataset, before: Sequence[Step], state: State, steps: Sequence[Step], reporter: Reporter) -> _Done:
    operations = [operation_of(step, number) for number, step in enumerate(steps, start=1)]
    elements = given_elements(dataset, before)
    done: list[StepPreview] = []
    changes = [ledger.CHANGES.empty_table()]
    for number, (step, operation) in enumerate(zip(steps, operations, strict=True)):
        reporter.progress(number, len(steps), unit="steps", message=operation.title)
        context = Context(dataset, step.step_id, elements, lambda step_id: read_step(dataset.name, step_id))
        operation = operation.resolved(state, context)
        outcome = operation.run(state, context)
        params = operation.model_dump(mode="json", exclude_defaults=True) if step.op not in ("import", "mix") else step.params
        done.append(_told(step.model_copy(update={"params": params}), operation.title, state, outcome.state, outcome.changes))
        state = outcome.state
        elements = operation.elements_after(elements)
        changes.append(outcome.changes)
    reporter.progress(len(steps), len(steps), unit="steps")
    return _Done(state, tuple(done), pa.concat_tables(changes), elements)


def _told(step: Step, title: str, old: State, new: State, changes: pa.Table) -> StepPreview:
    gone, come = changes["after"].null_count, changes["before"].null_count
    aside = new.quarantine.num_rows - old.quarantine.num_rows
    return StepPreview(step, title, gone, changes.num_rows - gone - come, come, max(aside, 0), new.rows.num_rows)


def _state_of(name: str, number: int | None = None) -> State:
    return State(read_rows(name, number), read_quarantine(name, number))


def _fresh(steps: Sequence[Step], taken: Sequence[Step]) -> list[Step]:
    """The steps with identifiers that no other step of the recipe has."""
    used = {step.step_id for step in taken}
    fresh: list[Step] = []
    for step in steps:
        if step.op in ("import", "mix"):
            raise SpecError(f"{step.op!r} can't be applied as a cleaning step", "Import a file, or mix datasets, instead.")
        step_id = step.step_id if step.step_id not in used else secrets.token_hex(4)
        used.add(step_id)
        fresh.append(step.model_copy(update={"step_id": step_id}))
    return fresh


def preview(name: str, steps: Sequence[Step], reporter: Reporter | None = None) -> Preview:
    """What ``steps`` would do to the latest version. Nothing is written. SpecError for a wrong step."""
    dataset, version = get_dataset(name), get_version(name)
    state = _state_of(name, version.number)
    done = _run(dataset, version.recipe, state, _fresh(steps, version.recipe), reporter or SilentReporter())
    return Preview(name, version.number, done.steps, done.changes, state.rows.num_rows, done.state.rows.num_rows)


def apply(name: str, steps: Sequence[Step], note: str = "", reporter: Reporter | None = None) -> Version:
    """Do ``steps`` to the latest version: a new version with its ledger."""
    dataset, version = get_dataset(name), get_version(name)
    if not steps:
        raise SpecError("There are no steps to apply", "Choose at least one.")
    fresh = _fresh(steps, version.recipe)
    done = _run(dataset, version.recipe, _state_of(name, version.number), fresh, reporter or SilentReporter())
    recipe = (*version.recipe, *(told.step for told in done.steps))
    touched = [told for told in done.steps if told.affected] or done.steps
    return _save(dataset, version, recipe, done.state, done.changes, note or "; ".join(told.title for told in touched))


def _save(dataset: Dataset, parent: Version, recipe: tuple[Step, ...], state: State, changes: pa.Table, note: str) -> Version:
    number = parent.number + 1
    given = given_elements(dataset, recipe)
    inferred = not given and dataset.task == "extraction"
    elements = infer_elements(state.rows) if inferred else given
    dataset = dataset.model_copy(update={"elements": elements, "elements_inferred": inferred})
    made = Version(
        dataset=dataset.name,
        number=number,
        parent=parent.number,
        recipe=recipe,
        rows=state.rows.num_rows,
        quarantined=state.quarantine.num_rows,
        content_hash=content_hash(state.rows),
        split_sizes=split_sizes(state.rows),
        note=note,
    )
    return save_version(dataset, made, state.rows, ledger.with_version(changes, number), state.quarantine)


# ---------------------------------------------------------------- undo


def replay(name: str, recipe: Sequence[Step], reporter: Reporter | None = None) -> State:
    """The rows that a recipe makes, begun from the version that has most of it done already."""
    dataset = get_dataset(name)
    state, done = State(schema.ROWS.empty_table()), 0
    for version in reversed(list_versions(name)):
        if len(version.recipe) > done and tuple(recipe[: len(version.recipe)]) == version.recipe:
            state, done = _state_of(name, version.number), len(version.recipe)
    return _run(dataset, recipe[:done], state, recipe[done:], reporter or SilentReporter()).state


def _without(version: Version, step_id: str) -> tuple[Step, tuple[Step, ...]]:
    if step_id == "last" and version.recipe:
        step_id = version.recipe[-1].step_id
    for place, step in enumerate(version.recipe):
        if step.step_id == step_id:
            rest = (*version.recipe[:place], *version.recipe[place + 1 :])
            if not any(left.op in ("import", "mix") for left in rest):
                raise UserError(
                    "The only import can't be undone: nothing would be left",
                    f"`python -m core delete dataset {version.dataset}`.",
                )
            return step, rest
    steps = ", ".join(f"{step.step_id} ({step.op})" for step in version.recipe)
    raise NotFoundError(f"Version {version.number} of {version.dataset!r} has no step {step_id!r}", f"Its steps: {steps}.")


def _undone(name: str, step_id: str, reporter: Reporter | None) -> tuple[Version, Step, tuple[Step, ...], State, State, pa.Table]:
    version = get_version(name)
    step, rest = _without(version, step_id)
    old, new = _state_of(name, version.number), replay(name, rest, reporter)
    changes = ledger.diff(old.rows, new.rows, step_id=step.step_id, op="undo", reason=f"undone: {OPERATIONS[step.op].title}")
    return version, step, rest, old, new, changes


def preview_undo(name: str, step_id: str = "last", reporter: Reporter | None = None) -> Preview:
    """What would change if a step of the latest version were undone. Nothing is written."""
    version, step, _, old, new, changes = _undone(name, step_id, reporter)
    told = _told(step, f"Undo: {OPERATIONS[step.op].title}", old, new, changes)
    return Preview(name, version.number, (told,), changes, old.rows.num_rows, new.rows.num_rows)


def undo(name: str, step_id: str = "last", reporter: Reporter | None = None) -> Version:
    """Undo one step of the latest version, also one in the middle: the others are replayed into a new version.

    The new version's ledger tells what changed against the version before. NotFoundError if there is no such step.
    """
    version, step, rest, _, new, changes = _undone(name, step_id, reporter)
    return _save(get_dataset(name), version, rest, new, changes, f"undo: {OPERATIONS[step.op].title}")


# ---------------------------------------------------------------- what to begin with


def default_recipe(name: str) -> tuple[Step, ...]:
    """Sound cleaning for a dataset's task: what is broken is mended or taken out, what is only unusual stays.

    White space and HTML are left alone where they may be meant (generation, chat, code), and so are several
    answers to one question. Personal data and near duplicates are left to the user.
    """
    dataset, version = get_dataset(name), get_version(name)
    labelled = dataset.task in ("extraction", "classification")
    steps = [Step(op="repair_mojibake"), Step(op="strip_control")]
    if labelled:
        steps += [Step(op="strip_markup"), Step(op="normalise")]
    if dataset.task == "extraction":
        steps.append(Step(op="fix_json", params={"action": "quarantine"}))
    if dataset.task == "chat":
        steps.append(Step(op="drop_turn_faults"))
    steps.append(Step(op="drop_empty"))
    if dataset.task == "extraction":
        steps += [Step(op="unknown_elements"), Step(op="ungrounded_values")]
    steps.append(Step(op="drop_exact_duplicates"))
    if labelled:
        steps.append(Step(op="resolve_conflicts", params={"rule": "drop_all"}))
    if "train" in version.split_sizes and {"dev", "test"} & version.split_sizes.keys():
        steps.append(Step(op="resolve_leaks"))
    return tuple(steps)
