"""The usual architectures, tiny: adapters on every linear layer of their blocks, padded rows like rows alone, and they learn."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from core.store.runs import run_folder
from tests.tiny import make_tiny_tokenizer
from tests.training.conftest import Keeper
from tests.training.test_loss import examples, reference
from tests.training.test_runner import make_run, train

SIZES: dict[str, Any] = {
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 2048,
    "initializer_range": 0.2,
    "attention_dropout": 0.0,
}
APART = {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}
FUSED = {"qkv_proj", "o_proj", "gate_up_proj", "down_proj"}
ARCHITECTURES: dict[str, tuple[dict[str, Any], set[str]]] = {
    "llama": ({"tie_word_embeddings": True}, APART),
    "qwen2": ({}, APART),
    "qwen3": ({"head_dim": 16}, APART),
    "gemma": ({"head_dim": 16}, APART),
    "gemma2": ({"head_dim": 16, "sliding_window": 8, "final_logit_softcapping": 30.0}, APART),
    "gemma3_text": ({"head_dim": 16, "sliding_window": 8}, APART),
    "mistral": ({"sliding_window": 8}, APART),
    "phi3": ({}, FUSED),
}


def make_model(folder: Path, kind: str) -> Path:
    """A tiny model of an architecture with random weights, with the tokenizer of the other tests."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    from core.models.tokenizer import tokenizer_in

    tokenizer = tokenizer_in(make_tiny_tokenizer(folder))
    ends = {
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    config = AutoConfig.for_model(kind, vocab_size=len(tokenizer), **{**SIZES, **ends, **ARCHITECTURES[kind][0]})
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = AutoModelForCausalLM.from_config(config)
    model.save_pretrained(folder)
    return folder


@pytest.mark.parametrize("kind", list(ARCHITECTURES))
def test_an_architecture_is_tuned_in_all_its_blocks(kind: str, people: str, tmp_path: Path) -> None:
    from core.models.engine import Engine
    from core.models.load import load_model
    from core.records import GenerationSettings

    keeper = Keeper()
    run = train(make_run(make_model(tmp_path / kind, kind), people, max_steps=12), keeper)
    assert sum(keeper.losses[step] for step in (10, 11, 12)) < 0.95 * sum(keeper.losses[step] for step in (1, 2, 3))
    config = json.loads((run_folder(run.run_id) / "adapter" / "adapter_config.json").read_text("utf-8"))
    assert {name.rpartition(".")[2] for name in config["target_modules"]} == ARCHITECTURES[kind][1]
    with Engine(load_model(run.spec.model)) as engine:
        engine.attach(run.run_id, run_folder(run.run_id) / "adapter")
        assert engine.generate([[5, 6, 7]], GenerationSettings(max_new_tokens=3), adapter=run.run_id)[0].tokens > 0


@pytest.mark.parametrize("kind", list(ARCHITECTURES))
def test_padding_changes_neither_loss_nor_gradient(kind: str, tmp_path: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM

    from core.training.attention import fused_or_eager
    from core.training.loss import Head, padded_batch

    model = AutoModelForCausalLM.from_pretrained(make_model(tmp_path / kind, kind), dtype="float32")
    rows, head = examples(), Head(model)
    alone = reference(model, rows)
    for attention in {"eager", fused_or_eager(model)}:
        model.set_attn_implementation(attention)
        model.zero_grad()
        loss = head.loss_sum(model, *padded_batch(rows, 0, "cpu"))
        assert float(loss.detach()) == pytest.approx(alone, rel=1e-5)
        loss.backward()
        assert all(bool(torch.isfinite(p.grad).all()) for p in model.parameters() if p.grad is not None)
