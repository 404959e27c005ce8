"""Adapters computed beside the base: what peft says row by row, mixed and alone, and peft's way where it must be."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM

from core.models.adapters import Adapters
from core.models.load import load_model
from core.records import ModelRef
from tests.tiny import make_tiny_model

ROWS = ["one", None, "two", "one", "few"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_model(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def adapters(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    kinds = {
        "one": {"r": 4, "target_modules": "all-linear"},
        "two": {"r": 8, "lora_alpha": 40, "use_rslora": True, "target_modules": "all-linear"},
        "few": {"r": 2, "target_modules": ["q_proj", "down_proj"]},
        "dora": {"r": 4, "target_modules": "all-linear", "use_dora": True},
        "head": {"r": 4, "target_modules": ["q_proj"], "modules_to_save": ["lm_head"]},
    }
    made = {}
    for seed, (name, values) in enumerate(kinds.items()):
        torch.manual_seed(seed)
        config = LoraConfig(**values, init_lora_weights=False, task_type="CAUSAL_LM")
        made[name] = tmp_path_factory.mktemp(name)
        get_peft_model(AutoModelForCausalLM.from_pretrained(folder), config).save_pretrained(made[name])
    return made


def logits(mine: Adapters, names: list[str | None], ids: torch.Tensor) -> torch.Tensor:
    forward, arguments = mine.select(names)
    with torch.inference_mode():
        found: torch.Tensor = forward(input_ids=ids, **arguments).logits
    return found


def by_peft(mine: Adapters, names: list[str | None], ids: torch.Tensor) -> torch.Tensor:
    mixing, mine._mixing = mine._mixing, None
    if mixing is not None:
        mixing.off()
    try:
        return torch.cat([logits(mine, [name], ids[place : place + 1]) for place, name in enumerate(names)])
    finally:
        mine._mixing = mixing


@pytest.mark.parametrize("quantisation", ["none", "nf4"])
def test_each_row_has_what_peft_gives_it_alone(folder: Path, adapters: dict[str, Path], quantisation: str) -> None:
    dtype = "float32" if quantisation == "none" else "bfloat16"
    loaded = load_model(ModelRef(source="path", name=str(folder), dtype=dtype, quantisation=quantisation), device="cpu")  # type: ignore[arg-type]
    bound = 1e-4 if quantisation == "none" else 0.1
    torch.manual_seed(1)
    mine = Adapters(loaded.model)
    ids = torch.randint(5, 200, (5, 9))
    for name in ("one", "two", "few"):
        mine.attach(name, adapters[name])
    assert mine._mixing is not None
    base = by_peft(mine, [None] * 5, ids)
    wanted = by_peft(mine, ROWS, ids)
    found = logits(mine, ROWS, ids)
    error = (found - wanted).norm(dim=(1, 2)) / wanted.norm(dim=(1, 2))
    assert error.max() < bound
    assert (wanted[0] - base[0]).norm() / base[0].norm() > 2 * bound, "the adapters do something"
    for place, name in enumerate(ROWS):
        alone = logits(mine, [name], ids[place : place + 1])
        assert (alone - wanted[place]).norm() / wanted[place].norm() < bound
    whole = logits(mine, [None], ids)
    assert torch.allclose(whole, base, atol=bound)
    mixed = logits(mine, [None, "one", None, None, "two"], ids)
    assert torch.equal(mixed[[0, 2, 3]], whole[[0, 2, 3]]), "rows without an adapter are the base's, exactly"


def test_adapters_that_go_and_come_anew(folder: Path, adapters: dict[str, Path]) -> None:
    mine = Adapters(load_model(ModelRef(source="path", name=str(folder), dtype="float32"), device="cpu").model)
    ids = torch.randint(5, 200, (2, 7))
    mine.attach("one", adapters["one"])
    mine.attach("two", adapters["two"])
    before = logits(mine, ["one", "two"], ids)
    mine.detach("one")
    assert torch.allclose(logits(mine, ["two", "two"], ids)[1], before[1], atol=1e-5)
    mine.attach("one", adapters["two"])  # another's weights under the name
    again = logits(mine, ["one", "two"], ids)
    assert torch.allclose(again[1], before[1], atol=1e-5)
    assert torch.allclose(again[0], logits(mine, ["two"], ids)[0], atol=1e-5)


def test_what_it_does_not_compute_goes_the_way_of_peft(folder: Path, adapters: dict[str, Path]) -> None:
    mine = Adapters(load_model(ModelRef(source="path", name=str(folder), dtype="float32"), device="cpu").model)
    ids = torch.randint(5, 200, (2, 7))
    mine.attach("one", adapters["one"])
    alone = logits(mine, ["one"], ids)
    mine.attach("dora", adapters["dora"])
    assert not mine.can_mix(["one", "dora"])
    dora = logits(mine, ["dora"], ids)
    assert torch.allclose(dora, by_peft(mine, ["dora", "dora"], ids), atol=1e-5)
    assert not torch.allclose(dora, alone, atol=1e-3)
    assert torch.allclose(logits(mine, ["one"], ids), alone, atol=1e-5)
    mine.attach("head", adapters["head"])  # a trained head: nothing is computed beside peft any more
    assert mine._mixing is None
    assert torch.allclose(logits(mine, ["one"], ids), alone, atol=1e-5)
