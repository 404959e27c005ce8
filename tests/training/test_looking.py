"""Looks at dev before a training: how many there will be, and how long they take at most."""

from __future__ import annotations

from typing import Any

import pytest

from core.prompts.templates import find_template
from core.records import DatasetUse, Run, TrainSpec
from core.training.costs import Basis, Constants
from core.training.looking import LOOK_SECONDS, looking, looks_to_come, planned_looks
from core.training.shape import ModelShape

SHAPE = ModelShape(layers=10, width=100, inner=300, vocabulary=1000, query=100, key=100, tied=True)
GPU = Basis(Constants("a card", True, seconds={"launches": 1.0, "products": 1e6, "unpacking": 50.0}), "a card", True, 1.0)


def spec(people: str, **values: Any) -> TrainSpec:
    dev = DatasetUse(dataset=people, split="dev")
    return TrainSpec(**({"data": (DatasetUse(dataset=people),), "dev": dev, "method": "lora"} | values))


@pytest.mark.parametrize(("every", "steps", "looks"), [(None, 10, 1), (5, 10, 2), (4, 10, 3), (20, 10, 1), (1, 1, 1)])
def test_looks_are_counted_as_a_training_makes_them(people: str, every: int | None, steps: int, looks: int) -> None:
    assert planned_looks(spec(people, eval_every=every), steps) == looks
    assert planned_looks(spec(people, eval_every=None, dev=None), steps) == 0


@pytest.mark.parametrize(
    ("every", "step", "looks"), [(None, 0, 1), (None, 9, 1), (None, 10, 0), (4, 0, 3), (4, 4, 2), (4, 7, 2), (4, 8, 1)]
)
def test_looks_still_to_come_are_counted(people: str, every: int | None, step: int, looks: int) -> None:
    assert looks_to_come(spec(people, eval_every=every), step, 10) == looks


def test_a_look_costs_two_passes_over_its_rows_and_one_for_each_token(people: str) -> None:
    wanted = spec(people, eval_rows=4, eval_max_new_tokens=30)
    long, short = 2 * 4 * 50 * SHAPE.in_blocks / 1e6, 2 * 4 * SHAPE.in_blocks / 1e6
    one = 2 * (0.01 + long) + 30 * (0.01 + short)
    assert looking(wanted, 10, SHAPE, 50.0, GPU).seconds == pytest.approx(one)
    assert looking(wanted.model_copy(update={"eval_every": 4}), 10, SHAPE, 50.0, GPU).seconds == pytest.approx(3 * one)
    unpacked = looking(wanted.model_copy(update={"method": "qlora"}), 10, SHAPE, 50.0, GPU).seconds - one
    assert unpacked == pytest.approx(32 * 50 * SHAPE.in_blocks / 1e9)
    assert looking(spec(people, dev=None), 10, SHAPE, 50.0, GPU).seconds == 0
    more = wanted.model_copy(update={"eval_rows": 4000})  # dev has fewer
    assert one < looking(more, 10, SHAPE, 50.0, GPU).seconds < 100 * one


def test_looks_that_were_measured_correct_it(people: str) -> None:
    wanted = spec(people, eval_rows=4, eval_max_new_tokens=30)
    said = looking(wanted, 10, SHAPE, 50.0, GPU).seconds

    def run(**summary: float) -> Run:
        return Run(run_id="r", name="r", spec=wanted, template=find_template("chat"), summary=summary)

    alike = [run(loss=1.0), run(**{LOOK_SECONDS: said / 2}), run(**{LOOK_SECONDS: said / 4}), run(**{LOOK_SECONDS: said})]
    assert looking(wanted, 10, SHAPE, 50.0, GPU, alike).seconds == pytest.approx(said / 2)
    assert looking(wanted, 10, SHAPE, 50.0, GPU, alike[:1]).seconds == pytest.approx(said)
