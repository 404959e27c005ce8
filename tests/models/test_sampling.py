"""Draws follow the chances they should, and only those that are allowed."""

from __future__ import annotations

from collections import Counter

import pytest
import torch

from core.models.sampling import choose, seeded
from core.records import GenerationSettings

LOGITS = torch.tensor([[0.5, 0.3, 0.15, 0.05]]).log()


def draws(number: int = 4000, **settings: float) -> Counter[int]:
    generator = seeded(1, 0)
    chosen = GenerationSettings(**{"temperature": 1.0, **settings})  # type: ignore[arg-type]
    return Counter(choose(LOGITS, chosen, [generator], [[]])[0] for _ in range(number))


@pytest.mark.parametrize(
    ("settings", "chances"),
    [
        ({}, (0.5, 0.3, 0.15, 0.05)),
        ({"top_k": 2}, (0.625, 0.375, 0, 0)),
        ({"top_p": 0.7}, (0.625, 0.375, 0, 0)),
        ({"top_p": 0.81}, (0.526, 0.316, 0.158, 0)),
        ({"top_p": 0.01}, (1, 0, 0, 0)),
        ({"temperature": 0.5}, (0.685, 0.247, 0.062, 0.007)),
    ],
)
def test_chances(settings: dict[str, float], chances: tuple[float, ...]) -> None:
    found = draws(**settings)
    for token, chance in enumerate(chances):
        assert found[token] / 4000 == pytest.approx(chance, abs=0.03)
        assert chance > 0 or found[token] == 0


def test_repetition_penalty_divides_or_multiplies() -> None:
    logits = torch.tensor([[2.0, 1.5, -1.0], [2.0, 1.5, -1.0]])
    settings = GenerationSettings(repetition_penalty=2.0)
    assert choose(logits, settings, [seeded(0, 0)] * 2, [[0], [0, 1, 2]]) == [1, 0]
    assert logits[0, 0] == 2.0


def test_rows_draw_apart_and_seeds_repeat() -> None:
    settings = GenerationSettings(temperature=1.0)
    flat = torch.zeros(3, 1000)
    first = choose(flat, settings, [seeded(7, row) for row in range(3)], [[]] * 3)
    assert len(set(first)) == 3
    assert choose(flat[1:2], settings, [seeded(7, 1)], [[]]) == first[1:2]
