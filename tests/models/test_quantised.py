"""int8 and NF4 on this machine: loaded, near the plain model, with adapters, alone and in a batch."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from core.errors import MissingDependencyError
from core.models.engine import Engine
from core.models.lane import lane_for
from core.models.load import load_model
from core.records import GenerationSettings, ModelRef, Quantisation
from tests.tiny import make_tiny_model

pytestmark = pytest.mark.filterwarnings("ignore")
TEXTS = ("Anna Berg joined Norvik Trading", "张三于2021年3月5日", "x")
GREEDY = GenerationSettings(max_new_tokens=12)
TYPES: dict[str, tuple[str, torch.dtype]] = {
    "int8": ("Linear8bitLt", torch.int8),
    "nf4": ("Linear4bit", torch.uint8),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_model(tmp_path_factory.mktemp("tiny"))


def load(folder: Path, quantisation: Quantisation) -> Any:
    return load_model(ModelRef(source="path", name=str(folder), quantisation=quantisation), device="cpu")


@pytest.mark.parametrize("quantisation", ["int8", "nf4"])
def test_a_quantised_model_is_near_the_plain_one(folder: Path, quantisation: Quantisation) -> None:
    loaded = load(folder, quantisation)
    layer = loaded.model.model.layers[0].self_attn.q_proj
    assert (type(layer).__name__, layer.weight.dtype) == TYPES[quantisation]
    with Engine(load(folder, "none")) as plain, Engine(loaded) as engine:
        prompts = [plain.tokenizer(text).input_ids for text in TEXTS]
        answers = [answer.ids for answer in plain.generate(prompts, GREEDY)]
        wanted = sum(total for total, _ in plain.score(prompts, answers))
        found = sum(total for total, _ in engine.score(prompts, answers))
        uniform = sum(map(len, answers)) * torch.log(torch.tensor(float(len(plain.tokenizer)))).item()
        assert abs(found - wanted) < (0.1 if quantisation == "int8" else 0.6) * (uniform - wanted)
        for answer in engine.generate(prompts, GREEDY):
            assert answer.tokens == 12 or answer.finish == "stop"
        assert "".join(engine.stream(prompts[0], GREEDY)) == engine.generate(prompts[:1], GREEDY)[0].text


@pytest.mark.parametrize("quantisation", ["int8", "nf4"])
def test_adapters_on_a_quantised_base(folder: Path, tmp_path: Path, quantisation: Quantisation) -> None:
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    for seed, name in enumerate(("one", "two")):
        torch.manual_seed(seed)
        config = LoraConfig(r=4, target_modules="all-linear", init_lora_weights=False, task_type="CAUSAL_LM")
        get_peft_model(AutoModelForCausalLM.from_pretrained(folder), config).save_pretrained(tmp_path / name)
    with Engine(load(folder, quantisation)) as engine:
        ids = engine.tokenizer(TEXTS[0]).input_ids
        before = engine.generate([ids], GREEDY)[0].ids
        for name in ("one", "two"):
            engine.attach(name, tmp_path / name)
        alone = [engine.generate([ids], GREEDY, adapter=name)[0].ids for name in ("one", "two")]
        assert len({before, *alone}) == 3
        assert engine.generate([ids], GREEDY)[0].ids == before
        mixed = engine.generate([ids] * 3, GREEDY, adapter=[None, "one", "two"])
        assert [answer.ids[0] for answer in mixed] == [before[0], alone[0][0], alone[1][0]]


def test_which_models_take_the_lane_on_a_gpu(folder: Path) -> None:
    """int8 looks for outliers on the host at each layer, which no CUDA graph can hold; nor can a spread model's copies."""

    def lane(quantisation: Quantisation, **changes: Any) -> bool:
        loaded = dataclasses.replace(load(folder, quantisation), device=torch.device("cuda:0"))
        for name, value in changes.items():
            setattr(loaded.model if name == "hf_device_map" else loaded.model.config, name, value)
        return lane_for(loaded, loaded.model.config, "cache", 8, capture=None) is not None

    assert lane("none")
    assert lane("nf4")
    assert not lane("int8")
    assert not lane("none", hf_device_map={"a": 0, "b": "cpu"})
    assert not lane("none", _attn_implementation="eager")


@pytest.mark.parametrize("quantisation", ["int8", "nf4"])
def test_without_bitsandbytes_it_says_what_is_missing(
    folder: Path, quantisation: Quantisation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    with pytest.raises(MissingDependencyError, match=f"{quantisation} needs bitsandbytes"):
        load(folder, quantisation)
