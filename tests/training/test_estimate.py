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
from core.training import memory_plan
from core.training.costs import INPUTS_HERE, learnt_numbers
from core.training.estimate import estimate_spec, plan_memory, shape_of

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

CALM = settings(
    deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture]
)  # the machine may be busy


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
    assert trainable_parameters(with_lora(model, wanted))[0] == learnt_numbers(shape, wanted.method, wanted.lora_r)


@pytest.fixture
def a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Constants as they are counted, whatever card was measured last; Liger is installed."""
    from core.training import costs, estimate, memory_plan

    counted = costs.Constants("a card", True, memory={"activations": 1.0, "constant": 0.4}, seconds={"products": 0.01})
    for module in (estimate, memory_plan):
        monkeypatch.setattr(module, "device_basis", lambda device: costs.Basis(counted, "a card", True, 1.0))
    monkeypatch.setattr(costs, "liger", lambda: True)


@pytest.mark.parametrize(("recomputed", "measured"), [(28, 9.7), (0, 58.5)])
def test_7b_qlora_by_peft_at_8k_tokens_is_near_what_was_measured_on_an_h100(recomputed: int, measured: float) -> None:
    from core.training.costs import Work, peak_bytes

    work = Work(shape_of(QWEN_7B), "qlora", 8192, 200, recomputed=recomputed, nf4=True, gpu=True, packed=True)
    assert peak_bytes(work, {"activations": 1.0, "constant": 0.4}) / 1e9 == pytest.approx(measured, rel=0.15)


@pytest.mark.parametrize(("checkpointing", "dropout", "counted"), [(True, 0.0, 3.10), (False, 0.0, 28.51), (True, 0.05, 3.97)])
def test_fused_7b_qlora_needs_what_was_counted(a_gpu: None, checkpointing: bool, dropout: float, counted: float) -> None:
    """``bench/train_ops.py`` counts all but the weights, the learnt numbers, their short copy and the optimiser's state."""
    wanted = spec(gradient_checkpointing=checkpointing, lora_dropout=dropout)
    plan = plan_memory(wanted, shape_of(QWEN_7B), 1024, 8192, "cuda:0", int(200e9))
    one = plan.total - plan.weights - 0.4e9 - learnt_numbers(shape_of(QWEN_7B), wanted.method, wanted.lora_r) * (4 + 8 + 2)
    assert one / plan.pass_tokens * 8192 / 1e9 == pytest.approx(counted, rel=0.12)


def test_free_memory_decides_how_much_is_recomputed_and_then_how_large_passes_are(
    a_gpu: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def plan(gigabytes: float, **values: Any) -> tuple[int, int, bool]:
        found = plan_memory(
            spec(lora_dropout=0.0, batch_size=40, **values), shape_of(QWEN_7B), 1024, 8000, "cuda:0", int(gigabytes * 1e9)
        )
        return found.checkpointed, found.pass_tokens, found.fits

    assert plan(76) == (0, 11162, True)
    assert plan(60) == (0, 11162, True)
    assert plan(10) == (28, 8192, True)
    every, tokens, fits = plan(10.4)
    assert (every, fits) == (28, True)
    assert 8192 < tokens < 11162, "all layers are recomputed: passes grow towards the step"
    some, tokens, fits = plan(20)
    assert 0 < some < 28
    assert (tokens, fits) == (8192, True)
    monkeypatch.setattr(memory_plan, "_host_holds", lambda *_: False)
    assert plan(9)[0] == 28
    assert 4096 < plan(9)[1] < 8192
    assert plan(60, use_dora=True)[0] > 0  # peft's path keeps twice as much
    assert plan(4)[2] is False


def test_before_passes_get_small_inputs_of_layers_go_to_the_host(a_gpu: None, monkeypatch: pytest.MonkeyPatch) -> None:
    def plan(gigabytes: float) -> Any:
        values = spec(lora_dropout=0.0, batch_size=40), shape_of(QWEN_7B), 1024, 8000, "cuda:0", int(gigabytes * 1e9)
        return plan_memory(*values)

    here, away, least = plan(10), plan(9), plan(7.9)
    assert not here.offloaded
    assert (away.offloaded, away.checkpointed, away.fits) == (True, 28, True)
    assert away.words == "28 layers are computed twice, to keep less; what is kept of them waits in the host's memory."
    assert here.words == "28 layers are computed twice, to keep less."
    assert away.pass_tokens >= 8192
    inputs = (28 - INPUTS_HERE) * 2 * 3584 * away.pass_tokens
    assert inputs > 1.5e9
    monkeypatch.setattr(memory_plan, "HOST_SHARE", 0.0)
    assert plan(9).pass_tokens < 8192
    assert not plan(9).offloaded
    assert (least.offloaded, least.fits) == (True, True)
    assert 1024 < least.pass_tokens < 8192


def test_memory_that_is_left_goes_to_unpacked_weights(a_gpu: None) -> None:
    def plan(gigabytes: float, **values: Any) -> Any:
        return plan_memory(
            spec(lora_dropout=0.0, batch_size=40, **values), shape_of(QWEN_7B), 1024, 8000, "cuda:0", int(gigabytes * 1e9)
        )

    whole, part, none = plan(60), plan(42), plan(30)
    assert (whole.unpacked, whole.checkpointed) == (28, 0)
    assert whole.words == "The 4-bit weights of 28 layers lie unpacked beside, since there is room."
    assert 0 < part.unpacked < 28
    assert (none.unpacked, none.checkpointed > 0) == (0, True)
    assert whole.fits
    assert part.fits
    assert whole.weights - part.weights == pytest.approx(2 * shape_of(QWEN_7B).in_blocks * (28 - part.unpacked) / 28, rel=1e-6)
    assert plan(70, method="lora").unpacked == plan(70, use_dora=True).unpacked == 0  # nothing to unpack; peft's own layers


@CALM
@given(st.floats(1, 200), st.integers(8, 4096), st.integers(8, 100_000), st.sampled_from(["qlora", "lora", "full"]))
def test_a_plan_that_says_it_fits_does(a_gpu: None, gigabytes: float, longest: int, step: int, method: Any) -> None:
    free = int(gigabytes * 1e9)
    plan = plan_memory(spec(method=method), shape_of(QWEN_7B), longest, step, "cuda:0", free)
    assert plan.fits == (plan.total <= free)
    assert 0 <= plan.checkpointed <= 28
    assert plan.pass_tokens >= longest
    more = plan_memory(spec(method=method), shape_of(QWEN_7B), longest, step, "cuda:0", 2 * free)
    assert more.pass_tokens >= plan.pass_tokens or more.checkpointed < plan.checkpointed


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
