"""Estimates: sizes of known models, plans against measured runs, and what is said when it doesn't fit."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from core.errors import UserError
from core.records import DatasetUse, ModelRef, TrainSpec
from core.training.estimate import adapter_numbers, estimate_spec, plan_memory, shape_of

QWEN_7B = {
    "hidden_size": 3584,
    "intermediate_size": 18944,
    "num_hidden_layers": 28,
    "num_attention_heads": 28,
    "num_key_value_heads": 4,
    "vocab_size": 152064,
    "tie_word_embeddings": False,
}
SMOLLM2 = {
    "hidden_size": 576,
    "intermediate_size": 1536,
    "num_hidden_layers": 30,
    "num_attention_heads": 9,
    "num_key_value_heads": 3,
    "vocab_size": 49152,
    "tie_word_embeddings": True,
}

CALM = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # the machine may be busy


def spec(**values: Any) -> TrainSpec:
    return TrainSpec(data=(DatasetUse(dataset="d"),), **values)


@pytest.mark.parametrize(("config", "millions"), [(QWEN_7B, 7615.6), (SMOLLM2, 134.5)])
def test_sizes_of_known_models(config: dict[str, Any], millions: float) -> None:
    shape = shape_of(config)
    assert (shape.in_blocks + shape.outside) / 1e6 == pytest.approx(millions, rel=1e-3)


def test_lora_numbers_are_those_that_peft_makes(tiny: Path) -> None:
    from core.models.load import load_model
    from core.training.prepare import trainable_parameters, with_lora

    reference = ModelRef(source="path", name=str(tiny))
    model = load_model(reference, for_training=True).model
    shape = shape_of(model.config.to_dict())
    model.requires_grad_(False)
    wanted = spec(model=reference, method="lora", lora_r=4)
    assert trainable_parameters(with_lora(model, wanted))[0] == adapter_numbers(wanted, shape)


@pytest.mark.parametrize(("checkpointing", "measured"), [(True, 9.7), (False, 58.5)])
def test_7b_qlora_at_8k_tokens_is_near_what_was_measured_on_an_h100(checkpointing: bool, measured: float) -> None:
    plan = plan_memory(spec(gradient_checkpointing=checkpointing), shape_of(QWEN_7B), 1024, 8192, "cuda:0", int(80e9))
    assert plan.total / 1e9 == pytest.approx(measured, rel=0.15)
    assert plan.pass_tokens == 8192


def test_free_memory_decides_how_much_is_recomputed_and_then_how_large_passes_are() -> None:
    def plan(gigabytes: float) -> tuple[int, int, bool]:
        found = plan_memory(spec(), shape_of(QWEN_7B), 1024, 8192, "cuda:0", int(gigabytes * 1e9))
        return found.checkpointed, found.pass_tokens, found.fits

    assert plan(76) == (0, 8192, True)
    some, tokens, fits = plan(30)
    assert 0 < some < 28
    assert (tokens, fits) == (8192, True)
    assert plan(9)[0] == 28
    assert plan(9)[1] < 8192
    assert plan(4)[2] is False


@CALM
@given(st.floats(1, 200), st.integers(8, 4096), st.integers(8, 100_000), st.sampled_from(["qlora", "lora", "full"]))
def test_a_plan_that_says_it_fits_does(gigabytes: float, longest: int, step: int, method: Any) -> None:
    free = int(gigabytes * 1e9)
    plan = plan_memory(spec(method=method), shape_of(QWEN_7B), longest, step, "cuda:0", free)
    assert plan.fits == (plan.total <= free)
    assert 0 <= plan.checkpointed <= 28
    assert plan.pass_tokens >= longest
    more = plan_memory(spec(method=method), shape_of(QWEN_7B), longest, step, "cuda:0", 2 * free)
    assert more.pass_tokens >= plan.pass_tokens


def test_a_config_without_sizes_is_told() -> None:
    with pytest.raises(UserError, match="hidden_size"):
        shape_of({"vocab_size": 3})


def test_a_spec_is_estimated_on_its_data(tiny: Path, people: str) -> None:
    wanted = TrainSpec(
        model=ModelRef(source="path", name=str(tiny)), data=(DatasetUse(dataset=people),), epochs=2, batch_size=7, max_length=200
    )
    found, data = estimate_spec(wanted, "cpu")
    assert (found.steps, found.examples, found.dropped) == (12, 40, 0)
    assert found.tokens == 2 * data.tokens
    assert 0 <= found.padding < 0.5
    assert math.isfinite(found.seconds)
    assert (found.measured_runs, found.advice) == (0, ())
    assert found.memory.fits
