"""Quick A/B: a prompt that is just being written against another arm, on a few rows.

Says what must be evaluated and what is there already; runs nothing.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from core.prompts.templates import find_template, save_as_next_version
from core.records import Arm, Evaluation, EvaluationSpec, GenerationSettings, ModelRef, Template
from core.store.datasets import get_version

NAME = "quick"
ROWS = 20


@dataclass(frozen=True)
class QuickPlan:
    """``prompt`` is to be evaluated. ``other`` is the evaluation it is held against, or ``other_spec`` has to run first."""

    prompt: EvaluationSpec
    other: str | None = None
    other_spec: EvaluationSpec | None = None


def quick_template(base: str, system: str, user: str) -> Template:
    """The template ``quick`` in a new version with these texts (an equal one is taken again), else like ``base``."""
    like = find_template(base)
    return save_as_next_version(
        like.model_copy(
            update={
                "name": NAME,
                "version": 1,
                "system": system,
                "user": user,
                "description": f"Tried on Compare, from {like.ref}.",
            }
        )
    )


def quick_plan(
    template: Template,
    run: str,
    model: ModelRef,
    evaluations: Iterable[Evaluation],
    *,
    dataset: str,
    version: int | None,
    split: str,
    rows: int = ROWS,
    generation: GenerationSettings | None = None,
) -> QuickPlan:
    """What it takes to hold ``template`` on the bare ``model`` against the run's adapter on the first rows of a split.

    A finished evaluation of the run that has these rows, answered with the same settings, is taken as it is.
    """
    number = get_version(dataset, version).number
    settings = generation or GenerationSettings()
    place = {"dataset": dataset, "version": number, "split": split, "limit": rows, "perplexity": False}
    prompt = EvaluationSpec(arm=Arm(model=model, template=template.ref, generation=settings), **place)
    for evaluation in evaluations:
        spec = evaluation.spec
        same = (spec.dataset, evaluation.version, spec.split, spec.arm.run) == (dataset, number, split, run)
        same = same and spec.arm.generation == settings  # a shorter limit, say, would cut off the answers of one side only
        if same and evaluation.complete and (spec.limit is None or spec.limit >= rows):
            return QuickPlan(prompt, other=evaluation.evaluation_id)
    return QuickPlan(prompt, other_spec=EvaluationSpec(arm=Arm(run=run, generation=settings), **place))
