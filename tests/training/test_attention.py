"""The packed attention's way through transformers, with torch's kernel (which needs a GPU) replaced by plain products."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from core.records import DatasetUse, ModelRef, TrainSpec
from tests.training.test_loss import examples, reference


@pytest.fixture
def plain_kernel(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Stand in for ``varlen_attn`` with the same arguments; keeps those it was called with."""
    import torch
    from torch.nn.attention import varlen

    calls: list[dict[str, Any]] = []

    def varlen_attn(
        query: Any,
        key: Any,
        value: Any,
        cu_seq_q: Any,
        cu_seq_k: Any,
        max_q: int,
        max_k: int,
        *,
        scale: float | None = None,
        window_size: tuple[int, int] = (-1, -1),
        enable_gqa: bool = False,
    ) -> Any:
        calls.append({"scale": scale, "window_size": window_size, "enable_gqa": enable_gqa, "dtype": query.dtype, "max": max_q})
        found = []
        for start, end in zip(cu_seq_q[:-1].tolist(), cu_seq_k[1:].tolist(), strict=True):
            q, k, v = (part[start:end].transpose(0, 1).unsqueeze(0).float() for part in (query, key, value))
            one = torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True, scale=scale, enable_gqa=enable_gqa)
            found.append(one[0].transpose(0, 1))
        return torch.cat(found).to(query.dtype)

    monkeypatch.setattr(varlen, "varlen_attn", varlen_attn)
    return calls


@pytest.mark.parametrize("checkpointed", [0, 1, 2])
def test_rows_end_to_end_have_the_loss_of_rows_by_themselves(
    tiny: Path, plain_kernel: list[dict[str, Any]], checkpointed: int
) -> None:
    import torch
    from transformers import AutoModelForCausalLM

    from core.training.attention import NAME, register
    from core.training.loss import Head, packed_batch
    from core.training.prepare import enable_checkpointing, with_lora

    base = AutoModelForCausalLM.from_pretrained(tiny, dtype="float32").requires_grad_(False)
    spec = TrainSpec(model=ModelRef(source="path", name=str(tiny)), data=(DatasetUse(dataset="d"),), lora_dropout=0.0)
    model = with_lora(base, spec).train()
    alone = reference(model, examples())
    register()
    model.set_attn_implementation(NAME)
    if checkpointed:
        enable_checkpointing(model, checkpointed)
    head = Head(model)
    found = head.loss_sum(model, *packed_batch(examples(), "cpu", borders=True))
    assert float(found.detach()) == pytest.approx(alone, rel=5e-3)  # the kernel computes in bf16
    found.backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in model.parameters() if p.requires_grad)
    expected = {"scale": 0.25, "window_size": (-1, 0), "enable_gqa": True, "dtype": torch.bfloat16, "max": 12}
    assert plain_kernel == [expected] * (2 + checkpointed)  # two layers, and those that are computed again


def test_without_borders_it_refuses(tiny: Path, plain_kernel: list[dict[str, Any]]) -> None:
    from transformers import AutoModelForCausalLM

    from core.training.attention import NAME, generating_attention, register
    from core.training.loss import packed_batch

    model = AutoModelForCausalLM.from_pretrained(tiny, dtype="float32")
    register()
    model.set_attn_implementation(NAME)
    inputs, _ = packed_batch(examples(), "cpu", borders=False)
    with pytest.raises(ValueError, match="borders"):
        model(**inputs)
    with generating_attention(model):
        assert model.generate(inputs["input_ids"][:, :5], max_new_tokens=2).shape[1] > 5
    assert model.config._attn_implementation == NAME


def test_an_older_kernel_gets_what_it_knows(monkeypatch: pytest.MonkeyPatch) -> None:
    from torch.nn.attention import varlen

    from core.training import attention

    def older(
        query: Any, key: Any, value: Any, cu_seq_q: Any, cu_seq_k: Any, max_q: int, max_k: int, is_causal: bool = False
    ) -> None:
        return None

    monkeypatch.setattr(varlen, "varlen_attn", older)
    assert attention._options(0.125, None, 64, True) == {"is_causal": True, "factor": 1.0, "repeat": True}
    assert attention._options(0.25, None, 64, False) == {"is_causal": True, "factor": 2.0}


@pytest.mark.parametrize("right", [True, False])
def test_shared_heads_are_repeated_unless_the_kernel_is_proved_to_take_them(
    tiny: Path, monkeypatch: pytest.MonkeyPatch, right: bool
) -> None:
    """As with torch 2.11, whose kernel has no ``enable_gqa``."""
    import torch
    from torch.nn.attention import varlen

    from core.models.load import load_model
    from core.training import attention

    heads: list[tuple[int, int]] = []

    def varlen_attn(q: Any, k: Any, v: Any, ends: Any, _: Any, __: int, ___: int, *, is_causal: bool = False) -> Any:
        heads.append((q.shape[1], k.shape[1]))
        if not right and q.shape[1] != k.shape[1]:
            k = k * 1.5
        times = q.shape[1] // k.shape[1]
        scores = torch.einsum("qhd,khd->hqk", q, k.repeat_interleave(times, dim=1)) / q.shape[2] ** 0.5
        return torch.einsum("hqk,khd->qhd", scores.softmax(-1), v.repeat_interleave(times, dim=1))

    monkeypatch.setattr(varlen, "varlen_attn", varlen_attn)
    monkeypatch.setattr(attention, "_shares_heads", {})
    loaded = load_model(ModelRef(source="path", name=str(tiny), dtype="float32"), device="cpu", for_training=True)
    config = loaded.model.config
    config.num_attention_heads, config.num_key_value_heads = 4, 2
    attention.prove_shared_heads(loaded)
    assert heads == [(4, 2), (4, 4)]
    kind = (torch.device("cpu"), torch.bfloat16, 4, 2, config.head_dim)
    assert attention._shares_heads == {kind: right}
    states = [torch.randn(1, count, 6, config.head_dim) for count in (4, 2, 2)]
    ends = torch.tensor([0, 6], dtype=torch.int32)
    attention.packed_attention(None, *states, None, cu_seq_lens_q=ends, max_length_q=6)
    assert heads[-1] == ((4, 2) if right else (4, 4))
