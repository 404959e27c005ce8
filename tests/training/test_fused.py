"""The fused LoRA layers against peft's own: answers, all gradients, dropout, checkpointing, and when peft's path is taken."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

SIZES: dict[str, Any] = {
    "vocab_size": 96,
    "hidden_size": 128,
    "intermediate_size": 256,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "use_cache": False,
}
QUANTISED = [False, True]


def make(kind: str = "qwen2", *, quantised: bool = False, dtype: str = "float32", **lora: Any) -> Any:
    """A tiny model with random adapters on all linear layers, learnt in float32."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoConfig, AutoModelForCausalLM

    torch.manual_seed(0)
    more = {"gemma": {"head_dim": 32}, "phi3": {"pad_token_id": 0}}.get(kind, {})
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **SIZES, **more)).to(getattr(torch, dtype))
    for name, parameter in model.named_parameters():
        if name.endswith("bias"):
            torch.nn.init.normal_(parameter, std=0.1)
    if quantised:
        quantise(model, getattr(torch, dtype))
    model.requires_grad_(False)
    given = {"r": 8, "lora_alpha": 16, "target_modules": "all-linear", "task_type": "CAUSAL_LM", "init_lora_weights": False}
    model = get_peft_model(model, LoraConfig(**{**given, **lora})).train()
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data = 0.2 * parameter.data.float()
    return model


def quantise(model: Any, dtype: Any) -> None:
    """Put double-quantised NF4 layers in place of the linear ones in a model's blocks."""
    import bitsandbytes as bnb
    import torch

    from core.models.cpu4bit import forbid_packing

    for name, layer in list(model.model.layers.named_modules()):
        if isinstance(layer, torch.nn.Linear):
            small = bnb.nn.Linear4bit(
                layer.in_features, layer.out_features, bias=layer.bias is not None, compute_dtype=dtype, quant_type="nf4"
            )
            small.weight = bnb.nn.Params4bit(layer.weight.data, requires_grad=False, quant_type="nf4").to("cpu")
            small.bias = layer.bias
            parent, _, last = name.rpartition(".")
            setattr(model.model.layers.get_submodule(parent), last, small)
    model.is_loaded_in_4bit = True
    forbid_packing(model)


def look(model: Any) -> tuple[Any, dict[str, Any]]:
    """Logits and gradients of two rows."""
    import torch

    model.zero_grad()
    ids = torch.arange(2 * 24).view(2, 24) * 7 % 90
    found = model(input_ids=ids, labels=ids)
    (10 * found.loss).backward()
    return found.logits.detach(), {name: p.grad.clone() for name, p in model.named_parameters() if p.requires_grad}


def far(found: Any, wanted: Any) -> float:
    """Relative distance."""
    return float((found.float() - wanted.float()).norm() / wanted.float().norm())


def distance(one: tuple[Any, dict[str, Any]], other: tuple[Any, dict[str, Any]]) -> float:
    """The largest relative distance of logits and of any gradient."""
    assert one[1].keys() == other[1].keys()
    return max(far(one[0], other[0]), *(far(one[1][name], other[1][name]) for name in one[1]))


@pytest.mark.parametrize("checkpointed", [False, True])
@pytest.mark.parametrize("norm_after", [False, True])
@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_low_rank_products_may_be_added_on_the_way(
    dropout: float, norm_after: bool, checkpointed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a GPU with our kernels, whose place plain products take."""
    import torch

    from core.training import fused_lora, fused_mlp
    from core.training.fused import fuse
    from core.training.prepare import enable_checkpointing

    def kept(x: Any, p: float) -> Any:
        draws = torch.rand(x.shape[-1], 48, generator=torch.Generator().manual_seed(x.shape[-1]))
        return draws.T.ge(p)

    monkeypatch.setattr(fused_lora, "draw_kept", kept)
    model = make("llama", lora_dropout=dropout, quantised=True)
    if norm_after:  # its answer is needed when it is recomputed
        for layer in model.base_model.model.model.layers:
            layer.mlp = torch.nn.Sequential(layer.mlp, torch.nn.Softmax(-1))
    if checkpointed:
        enable_checkpointing(model)
    fuse(model)
    wanted = look(model)
    ways: list[int] = []
    monkeypatch.setattr(fused_mlp, "adds_on_the_way", lambda rows, rank: ways.append(rank) or True)
    assert distance(look(model), wanted) < 1e-5
    assert set(ways) == {8}


@pytest.mark.parametrize("checkpointed", [False, True])
@pytest.mark.parametrize("quantised", QUANTISED)
@pytest.mark.parametrize("kind", ["qwen2", "llama", "gemma", "phi3"])
def test_answers_and_gradients_are_peft_s(kind: str, quantised: bool, checkpointed: bool) -> None:
    import torch

    from core.training.fused import fuse
    from core.training.prepare import enable_checkpointing

    model = make(kind, quantised=quantised)
    if checkpointed:
        enable_checkpointing(model)
    wanted = look(model)
    fused = fuse(model)
    assert len(fused.names) == sum(hasattr(module, "lora_A") for module in model.modules())
    found = look(model)
    assert distance(found, wanted) < 1e-5
    with fused.held():
        assert distance(look(model), wanted) < 1e-5
    assert {name: p.shape for name, p in model.named_parameters()}.keys() >= found[1].keys()
    assert torch.isfinite(found[0]).all()


@pytest.mark.parametrize("quantised", QUANTISED)
def test_in_bf16_it_is_no_further_from_float32_than_peft(quantised: bool) -> None:
    import torch

    from core.training.fused import fuse

    truth = look(make(quantised=quantised))
    model = make(quantised=quantised, dtype="bfloat16")
    with torch.autocast("cpu", torch.bfloat16):
        peft = distance(look(model), truth)
    fused = fuse(model)
    with fused.held():
        assert distance(look(model), truth) < 1.3 * peft
    with torch.autocast("cpu", torch.bfloat16), fused.held(torch.bfloat16):
        found = look(model)
    assert distance(found, truth) < 1.3 * peft
    assert all(gradient.dtype == torch.float32 for gradient in found[1].values())


@pytest.mark.parametrize("checkpointed", [False, True])
@pytest.mark.parametrize("quantised", QUANTISED)
def test_with_the_same_dropout_it_is_the_same(quantised: bool, checkpointed: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    from core.training import fused_lora
    from core.training.fused import fuse
    from core.training.prepare import enable_checkpointing

    def kept(x: Any, p: float) -> Any:
        draws = torch.rand(x.shape[-1] * 48, generator=torch.Generator().manual_seed(x.shape[-1]))
        return draws.view(48, x.shape[-1]) >= p

    def drop(self: Any, x: Any) -> Any:
        return x * kept(x, self.p).view(x.shape) / (1 - self.p)

    monkeypatch.setattr(torch.nn.Dropout, "forward", drop)
    monkeypatch.setattr(fused_lora, "draw_kept", kept)
    model = make(quantised=quantised, lora_dropout=0.3)
    if checkpointed:
        enable_checkpointing(model)
    without = look(make(quantised=quantised))
    wanted = look(model)
    assert distance(wanted, without) > 0.05
    fuse(model)
    assert distance(look(model), wanted) < 1e-5


def test_dropout_is_drawn_anew_and_again_where_a_layer_is_recomputed() -> None:
    import torch

    from core.training.fused import fuse
    from core.training.prepare import enable_checkpointing

    model = make(lora_dropout=0.3)
    fuse(model)
    torch.manual_seed(3)
    wanted, second = look(model), look(model)
    assert distance(wanted, second) > 0.05
    enable_checkpointing(model)
    torch.manual_seed(3)
    assert distance(look(model), wanted) < 1e-6


def test_rslora_is_fused_and_dora_is_left_to_peft() -> None:
    from core.training.fused import fuse

    model = make(use_rslora=True)
    wanted = look(model)
    assert len(fuse(model).names) == 14
    assert distance(look(model), wanted) < 1e-5
    model = make(use_dora=True)
    wanted = look(model)
    assert fuse(model).names == []
    assert distance(look(model), wanted) == 0


def test_an_answer_may_be_changed_in_place() -> None:
    """As OLMo clamps queries."""
    import torch

    from core.training.fused import fuse

    model = make()
    attention = model.base_model.model.model.layers[0].self_attn
    found = []
    for form in (lambda model: None, fuse):
        form(model)
        x = torch.linspace(-1, 1, 5 * 128).view(1, 5, 128).requires_grad_()
        answer = attention.q_proj(x)
        answer.clamp_(-0.5, 0.5)
        (answer * attention.v_proj(x).repeat(1, 1, 2)).sum().backward()
        found.append(x.grad)
    assert far(*found) < 1e-5


def test_some_layers_or_unlike_ranks_are_fused_by_themselves() -> None:
    from core.training.fused import fuse

    for lora in ({"target_modules": ["q_proj", "v_proj", "down_proj"]}, {"rank_pattern": {"k_proj": 4, "up_proj": 2}}):
        model = make(**lora)
        wanted = look(model)
        fused = fuse(model)
        assert fused.names
        assert distance(look(model), wanted) < 1e-5


@pytest.mark.parametrize("state", ["eval", "off", "merged", "no adapter's own"])
def test_peft_s_own_path_is_taken_where_more_is_asked_for(state: str) -> None:
    import torch

    from core.training.fused import fuse, unfuse

    model = make()
    ids = torch.arange(12).view(1, 12)
    change: dict[str, Callable[[], Any]] = {
        "eval": model.eval,
        "off": model.base_model.disable_adapter_layers,
        "merged": model.merge_adapter,
        "no adapter's own": lambda: model.add_adapter("other", model.peft_config["default"]),
    }
    change[state]()
    with torch.no_grad():
        wanted = model(input_ids=ids).logits
        fuse(model)
        assert torch.equal(model(input_ids=ids).logits, wanted)
        unfuse(model)
        assert torch.equal(model(input_ids=ids).logits, wanted)
    assert not any("forward" in vars(module) for module in model.modules())


def test_steps_change_what_is_computed_with() -> None:
    import torch

    from core.training.fused import fuse

    model = make()
    fused = fuse(model)
    with fused.held():
        before = look(model)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.data.mul_(1.5)  # what an optimiser of bitsandbytes does leaves no trace either
    with fused.held():
        after = look(model)
    assert distance(after, before) > 0.1
    assert distance(after, look(model)) < 1e-6


@pytest.mark.parametrize("norm_after", [False, True])
def test_a_recomputed_layer_leaves_out_the_product_that_nothing_needs(norm_after: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    from core.training.fused import fuse
    from core.training.fused_mlp import LoraMlp
    from core.training.prepare import enable_checkpointing

    model = make("llama")
    if norm_after:  # what comes behind the feed-forward part needs its answer, as in Gemma 2
        for layer in model.base_model.model.model.layers:
            layer.mlp = torch.nn.Sequential(layer.mlp, torch.nn.Softmax(-1))
    finished = []
    monkeypatch.setattr(LoraMlp, "finish", lambda self, *a, finish=LoraMlp.finish: finished.append(1) or finish(self, *a))
    enable_checkpointing(model)
    wanted = look(model)
    fuse(model)
    assert distance(look(model), wanted) < 1e-5
    assert len(finished) == (4 if norm_after else 2)


def test_scales_that_lie_together_are_those_of_each_weight() -> None:
    import torch
    from bitsandbytes.functional import dequantize_4bit

    from core.training.fused import fuse

    model = make(quantised=True)
    wanted = {
        name: dequantize_4bit(layer.weight.data, layer.weight.quant_state)
        for name, layer in model.named_modules()
        if type(layer).__name__ == "Linear4bit" and hasattr(layer, "compute_dtype")
    }
    fused = fuse(model)
    by_layer = {layer.base.layer: layer.base for group in fused.groups for layer in group.layers}
    joined = [weight for weight in by_layer.values() if weight.scales is not None]
    assert 4 < len(joined) < 14  # those of key and value are too small to be joined
    assert len(wanted) == 14
    for _ in range(2):
        for name, layer in model.named_modules():
            if name in wanted:
                assert torch.equal(by_layer[layer].weight(torch.float32), wanted[name])
                assert torch.equal(dequantize_4bit(layer.weight.data, layer.weight.quant_state), wanted[name])


def test_kept_weights_lie_unpacked_until_they_are_let_go() -> None:
    import torch

    from core.training.fused import fuse

    model = make("llama", quantised=True)
    fused = fuse(model)
    wanted = look(model)
    assert fused.keep(1) == 1
    kept = [name for name, base in fused.bases.items() if base._kept is not None]
    assert len(kept) == 7
    assert all(".layers.0." in name for name in kept)
    assert fused.keep(5, torch.float32) == 2
    first = fused.bases[kept[0]].weight(torch.float32)
    assert first.data_ptr() == fused.bases[kept[0]].weight(torch.float32).data_ptr()
    with fused.held():
        assert distance(look(model), wanted) == 0
    assert fused.let_go()
    assert not fused.let_go()
    assert not any(base._kept is not None for base in fused.bases.values())
    assert distance(look(model), wanted) == 0


def test_weights_are_kept_as_far_as_memory_goes(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    from core.models.frozen import FrozenWeight
    from core.training.fused import fuse

    kept: list[Any] = []

    def keep(self: Any, dtype: Any) -> None:
        if len(kept) == 10:
            raise torch.OutOfMemoryError("CUDA out of memory (made up)")
        kept.append(self)
        real(self, dtype)

    real = FrozenWeight.keep
    monkeypatch.setattr(FrozenWeight, "keep", keep)
    fused = fuse(make("llama", quantised=True))
    assert fused.keep(2) == 1
    assert sum(base._kept is not None for base in fused.bases.values()) == 7
    assert fuse(make("llama")).keep(2) == 0  # nothing to unpack
