"""An evaluation between two training steps must not change the gradients: their values are compared."""

from __future__ import annotations

import importlib.util
import logging
from pathlib import Path
from typing import Any

import pytest
import torch

from core.models import cpu4bit
from core.models.adapters import Adapters
from core.models.load import load_model
from core.records import ModelRef
from tests.tiny import make_tiny_model

pytest.importorskip("bitsandbytes")
pytestmark = pytest.mark.filterwarnings("ignore")
IDS = torch.arange(3, 43).reshape(2, 20)
packs = pytest.mark.skipif(not cpu4bit._processor_packs(), reason="this processor doesn't repack 4-bit weights")


@pytest.fixture
def model(tmp_path: Path) -> Any:
    from peft import LoraConfig, get_peft_model

    ref = ModelRef(source="path", name=str(make_tiny_model(tmp_path)), dtype="bfloat16", quantisation="nf4")
    base = load_model(ref, device="cpu", for_training=True).model
    torch.manual_seed(0)
    return get_peft_model(base, LoraConfig(r=4, target_modules="all-linear", init_lora_weights=False, lora_dropout=0.0))


def gradients(model: Any) -> torch.Tensor:
    model.zero_grad()
    model(input_ids=IDS, labels=IDS).loss.backward()
    return torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])


def plain_weights(model: Any) -> torch.Tensor:
    from bitsandbytes.functional import dequantize_4bit

    layers = cpu4bit._layers(model)
    return torch.cat([dequantize_4bit(x.weight.data, x.weight.quant_state).float().flatten() for x in layers])


def evaluate(model: Any) -> torch.Tensor:
    with torch.inference_mode():
        return model(input_ids=IDS).logits


def difference(found: torch.Tensor, wanted: torch.Tensor) -> float:
    return float((found - wanted).norm() / wanted.norm())


def test_an_evaluation_inside_the_block_changes_no_gradient(model: Any) -> None:
    before = gradients(model)
    with cpu4bit.inference(model):
        assert not model.training
        evaluate(model)
        assert cpu4bit.is_packed(model) == cpu4bit._processor_packs()
    assert model.training
    assert not cpu4bit.is_packed(model)
    assert torch.equal(gradients(model), before)


def test_the_block_restores_after_an_error(model: Any) -> None:
    before = gradients(model)
    with pytest.raises(RuntimeError, match="halfway"), cpu4bit.inference(model):
        evaluate(model)
        raise RuntimeError("halfway")
    assert torch.equal(gradients(model), before)


def test_modes_of_parts_come_back_as_they_were(model: Any) -> None:
    frozen = next(m for m in model.modules() if isinstance(m, torch.nn.Linear))
    frozen.eval()
    with cpu4bit.inference(model, pack=False):
        evaluate(model)
        assert not cpu4bit.is_packed(model)
    assert model.training
    assert not frozen.training


def test_a_model_for_training_survives_an_unguarded_evaluation(model: Any) -> None:
    before = gradients(model)
    model.eval()
    evaluate(model)
    model.train()
    assert torch.equal(gradients(model), before)


@packs
def test_without_the_guard_gradients_are_wrong_and_restoring_mends_them(model: Any) -> None:
    before, weights = gradients(model), plain_weights(model)
    for layer in cpu4bit._layers(model):
        layer.support_avx512bf16_for_cpu = True
    model.eval()
    with torch.no_grad():
        model(input_ids=IDS)
    model.train()
    assert difference(gradients(model), before) > 0.5  # the trap: no error, another direction
    assert cpu4bit.restore_training_layout(model) == len(cpu4bit._layers(model)) > 0
    assert difference(plain_weights(model), weights) < 0.003
    assert difference(gradients(model), before) < 0.1  # computing in bf16 magnifies the rounding of the scales
    assert cpu4bit.restore_training_layout(model) == 0


@packs
def test_dora_is_evaluated_right_and_trained_on_as_before(tmp_path: Path) -> None:
    from peft import LoraConfig, get_peft_model

    ref = ModelRef(source="path", name=str(make_tiny_model(tmp_path)), dtype="bfloat16", quantisation="nf4")
    base = load_model(ref, device="cpu", for_training=True).model
    torch.manual_seed(0)
    model: Any = get_peft_model(base, LoraConfig(r=4, target_modules=["q_proj"], init_lora_weights=False, use_dora=True))
    before = gradients(model)
    plain = model(input_ids=IDS).logits.detach()
    with cpu4bit.inference(model):
        assert difference(evaluate(model), plain) < 0.1  # it read the norms of packed bytes: 0.6
        assert cpu4bit.is_packed(model)  # the layers beside it
    assert torch.equal(gradients(model), before)


@packs
def test_a_dora_adapter_on_a_packed_base_answers_as_on_an_unpacked_one(tmp_path: Path) -> None:
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    folder = make_tiny_model(tmp_path / "tiny")
    torch.manual_seed(0)
    plain: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16)
    config = LoraConfig(r=4, target_modules="all-linear", init_lora_weights=False, use_dora=True, task_type="CAUSAL_LM")
    get_peft_model(plain, config).save_pretrained(tmp_path / "dora")
    logits = []
    for packed in (False, True):
        loaded = load_model(ModelRef(source="path", name=str(folder), dtype="bfloat16", quantisation="nf4"), device="cpu")
        if packed:
            evaluate(loaded.model)
            assert cpu4bit.is_packed(loaded.model)
        else:
            cpu4bit.forbid_packing(loaded.model)
        adapters = Adapters(loaded.model)
        adapters.attach("dora", tmp_path / "dora")
        logits.append(evaluate(adapters.select(["dora"])[0]))
    assert difference(logits[1], logits[0]) < 0.1


@packs
def test_an_impossible_shape_is_not_packed() -> None:
    from bitsandbytes.nn import Linear4bit

    layer = Linear4bit(64, 40, bias=False, compute_dtype=torch.bfloat16, quant_type="nf4").to("cpu").eval()
    layer.weight = layer.weight.to("cpu")
    rows = torch.ones(1, 64, dtype=torch.bfloat16)
    with torch.no_grad(), pytest.raises(AssertionError):
        layer(rows)
    cpu4bit.forbid_impossible_packing(layer)
    with torch.no_grad():
        assert layer(rows).shape == (1, 40)


def test_models_without_4bit_layers_are_left_alone() -> None:
    plain = torch.nn.Linear(2, 2)
    assert cpu4bit.restore_training_layout(plain) == 0
    with cpu4bit.inference(plain):
        assert not plain.training
    assert plain.training


def test_one_message_of_bitsandbytes_is_silenced_and_no_other(caplog: pytest.LogCaptureFixture) -> None:
    import core

    source = importlib.util.find_spec("bitsandbytes.backends.cpu.ops")
    assert source is not None
    assert source.origin is not None
    assert f'"{core._UNWANTED}' in Path(source.origin).read_text("utf-8")  # else this filter is of no use any more
    logger = logging.getLogger(source.name)
    logger.warning(f"{core._UNWANTED} from kernels-community: %s.", "No module named 'kernels'")
    logger.warning("4-bit weights are slow here")
    assert caplog.messages == ["4-bit weights are slow here"]
