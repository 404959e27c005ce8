"""Noise on embeddings is measured by each row's own length, padded or end to end, and only while training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from core.models.load import load_model
from core.prompts.examples import Example
from core.records import ModelRef
from core.training.loss import packed_batch, padded_batch
from core.training.noise import Noise, row_lengths

ALPHA, PAD = 5.0, 0
LENGTHS = (10, 90, 40)


def rows() -> list[Example]:
    return [Example(f"r{size}", list(range(3, 3 + size)), list(range(3, 3 + size)), 0) for size in LENGTHS]


@pytest.fixture
def model(tiny: Path) -> Any:
    return load_model(ModelRef(source="path", name=str(tiny), dtype="float32"), device="cpu", for_training=True).model


def test_the_length_of_the_row_at_each_place() -> None:
    padded, _ = padded_batch(rows(), PAD, "cpu")
    assert row_lengths(padded["input_ids"], None, PAD)[:, 0].tolist() == list(LENGTHS)
    packed, _ = packed_batch(rows(), "cpu", borders=False)
    found = row_lengths(packed["input_ids"], packed["position_ids"], PAD)
    assert found[0].tolist() == [size for size in LENGTHS for _ in range(size)]
    one = torch.zeros(1, 1, dtype=torch.long)
    assert row_lengths(one, one, PAD).tolist() == row_lengths(one, None, PAD).tolist() == [[1]]


@pytest.mark.parametrize("packed", [False, True])
def test_each_row_gets_the_noise_of_its_own_length(model: Any, packed: bool) -> None:
    layer, seen = model.get_input_embeddings(), []
    Noise(model, ALPHA, PAD)
    layer.register_forward_hook(lambda _layer, _arguments, embedded: seen.append(embedded.detach().clone()))
    inputs, _ = packed_batch(rows(), "cpu", borders=False) if packed else padded_batch(rows(), PAD, "cpu")
    plain = torch.nn.functional.embedding(inputs["input_ids"], layer.weight).detach()
    model(**inputs)
    noise = (seen[0] - plain).abs().flatten(0, 1)
    begin = 0
    for number, size in enumerate(LENGTHS):
        start = begin if packed else number * max(LENGTHS)
        most = ALPHA / (size * plain.shape[-1]) ** 0.5
        assert 0.97 * most < float(noise[start : start + size].max()) <= 1.0001 * most
        begin += size
    model.eval()
    model(**inputs)
    assert torch.equal(seen[1], plain)
