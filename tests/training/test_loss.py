"""The loss against transformers' own, cutting a step, and the quick dropout."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from core.prompts.examples import IGNORED, Example
from core.training.batches import best_fit, even_fit, split_step

CALM = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # the machine may be busy


def examples() -> list[Example]:
    made = []
    for length, learnt in ((12, 4), (7, 3), (9, 8), (12, 1)):
        ids = [3 + (number * length) % 200 for number in range(length)]
        made.append(Example(f"r{length}", ids, [IGNORED] * (length - learnt) + ids[-learnt:], length - learnt))
    return made


@pytest.fixture(scope="module")
def model(tiny: Path) -> Any:
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(tiny, dtype="float32")


def reference(model: Any, rows: list[Example]) -> float:
    """transformers' own loss of each row by itself, summed over learnt tokens."""
    import torch

    from core.training.loss import learnt_tokens

    total = 0.0
    for row in rows:
        output = model(input_ids=torch.tensor([row.input_ids]), labels=torch.tensor([row.labels]))
        total += float(output.loss.detach()) * learnt_tokens(row)
    return total


@pytest.mark.parametrize("fixed", [True, False])
@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_padded_and_packed_rows_have_loss_and_gradient_of_rows_by_themselves(
    model: Any, fixed: bool, attention: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    from core.training import loss

    monkeypatch.setattr(loss, "CHUNK_BYTES", 1)  # 16 places at a time
    model.set_attn_implementation(attention)
    rows = [*examples(), *examples()]
    alone = reference(model, rows)
    head = loss.Head(model)
    learns = model.model.layers[0].mlp.down_proj.weight
    gradients = []
    model.lm_head.weight.requires_grad_(not fixed)
    for inputs, targets in (loss.padded_batch(rows, 0, "cpu"), loss.packed_batch(rows, "cpu", borders=False)):
        model.zero_grad()
        found = head.loss_sum(model, inputs, targets)
        assert float(found.detach()) == pytest.approx(alone, rel=1e-5)
        (3 * found).backward()
        gradients.append(learns.grad.clone())
    model.zero_grad()
    for row in rows:
        labels = torch.tensor([row.labels])
        (3 * loss.learnt_tokens(row) * model(input_ids=torch.tensor([row.input_ids]), labels=labels).loss).backward()
    for gradient in gradients:
        assert torch.allclose(gradient, learns.grad, rtol=1e-4, atol=1e-5 * float(learns.grad.abs().max()))
    assert model(input_ids=inputs["input_ids"]).logits.shape[1] == inputs["input_ids"].shape[1]


def test_packed_rows_know_their_borders() -> None:
    from core.training.loss import packed_batch

    inputs, targets = packed_batch(examples()[:2], "cpu", borders=True)
    assert inputs["cu_seq_lens_q"].tolist() == [0, 12, 19]
    assert inputs["max_length_q"] == 12
    assert inputs["position_ids"][0, 11:14].tolist() == [11, 0, 1]
    assert targets[0, 11] == IGNORED


def test_packed_rows_brought_up_to_a_multiple_say_and_learn_the_same(tiny: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM

    from core.training.loss import Head, packed_batch

    model = AutoModelForCausalLM.from_pretrained(tiny, dtype="float32", attn_implementation="sdpa").eval()
    found = []
    for multiple in (1, 64):
        inputs, targets = packed_batch(examples()[:2], "cpu", borders=False, multiple=multiple, pad=3)
        found.append((model(**inputs, use_cache=False).logits, Head(model).loss_sum(model, inputs, targets)))
    assert found[1][0].shape[1] == 64
    assert torch.allclose(found[0][0], found[1][0][:, :19], atol=1e-4)
    assert torch.allclose(found[0][1], found[1][1], rtol=1e-5)
    inputs, _ = packed_batch(examples()[:2], "cpu", borders=True, multiple=8)
    assert inputs["cu_seq_lens_q"].tolist() == [0, 12, 19, 24]
    inputs, _ = packed_batch(examples()[:2], "cpu", borders=True, multiple=19)
    assert inputs["cu_seq_lens_q"].tolist() == [0, 12, 19]


def test_rows_are_padded_behind_without_a_mask_so_that_no_place_sees_nothing() -> None:
    from core.training.loss import padded_batch

    inputs, targets = padded_batch(examples(), 0, "cpu")
    assert list(inputs) == ["input_ids"]
    for row, example, learnt in zip(inputs["input_ids"].tolist(), examples(), targets.tolist(), strict=True):
        size = len(example.input_ids)
        assert row == example.input_ids + [0] * (12 - size)
        assert learnt[size - 1 :] == [IGNORED] * (13 - size)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_batch_of_the_collator_where_packing_cannot_be_has_a_finite_gradient(tiny: Path, people: str, dtype: str) -> None:
    import torch

    from core.training.data import training_data
    from core.training.loss import Head
    from core.training.prepare import load_for_training
    from core.training.trainer import Passes, collate
    from tests.training.test_runner import make_run

    run = make_run(tiny, people, dtype=dtype, lora_dropout=0.0)
    loaded = load_for_training(run.spec)
    loaded.model.set_attn_implementation("sdpa")
    step = collate(list(training_data(run.spec, run.template, loaded.tokenizer).examples[:8]))["step"].examples
    passes = Passes(pad=int(loaded.tokenizer.pad_token_id), packed=False)
    inputs, targets = passes.tensors(step, torch.device("cpu"))
    assert inputs["input_ids"].shape[0] == 8
    Head(loaded.model).loss_sum(loaded.model, inputs, targets).backward()
    gradients = [p.grad for p in loaded.model.parameters() if p.requires_grad]
    assert all(bool(torch.isfinite(gradient).all()) for gradient in gradients)
    assert sum(float(gradient.norm()) for gradient in gradients) > 0


def test_every_row_of_loss_on_all_is_learnt_but_its_first_token(model: Any) -> None:
    from core.training.loss import learnt_tokens, padded_batch

    row = Example("r", [5, 6, 7, 8], [5, 6, 7, 8], 2)
    assert learnt_tokens(row) == 3
    _, targets = padded_batch([row], pad=0, device="cpu")
    assert targets.tolist() == [[6, 7, 8, IGNORED]]


@CALM
@given(
    st.lists(st.integers(1, 300), min_size=1, max_size=40),
    st.none() | st.integers(1, 9),
    st.none() | st.integers(1, 1000),
)
def test_a_cut_step_has_every_row_once_and_keeps_its_limits(lengths: list[int], largest: int | None, most: int | None) -> None:
    groups = split_step(lengths, largest, 64, most)
    assert sorted(place for group in groups for place in group) == list(range(len(lengths)))
    for group in groups:
        assert largest is None or len(group) <= largest
        assert most is None or len(group) == 1 or max(lengths[p] for p in group) * len(group) <= most
    assert groups == split_step(lengths, largest, 64, most)


@CALM
@given(st.lists(st.integers(1, 300), min_size=1, max_size=12))
def test_a_cut_is_no_worse_than_one_pass_or_one_a_row(lengths: list[int]) -> None:
    def cost(groups: list[list[int]]) -> int:
        return sum(max(lengths[p] for p in group) * len(group) + 64 for group in groups)

    best = cost(split_step(lengths, None, 64))
    assert best <= cost([list(range(len(lengths)))])
    assert best <= cost([[place] for place in range(len(lengths))])


@CALM
@given(st.lists(st.integers(1, 120), min_size=1, max_size=60), st.integers(1, 100))
def test_bins_hold_every_row_once_and_are_few(lengths: list[int], most: int) -> None:
    bins = best_fit(lengths, most)
    assert sorted(place for group in bins for place in group) == list(range(len(lengths)))
    sizes = [sum(lengths[place] for place in group) for group in bins]
    assert all(size <= most or len(group) == 1 for size, group in zip(sizes, bins, strict=True))
    fewest = sum(length > most for length in lengths) + -(-sum(n for n in lengths if n <= most) // most)
    assert len(bins) <= 2 * fewest


@CALM
@given(st.lists(st.integers(1, 120), min_size=1, max_size=60), st.integers(1, 400))
def test_even_bins_are_as_few_and_no_fuller(lengths: list[int], most: int) -> None:
    bins, plain = even_fit(lengths, most), best_fit(lengths, most)
    assert sorted(place for group in bins for place in group) == list(range(len(lengths)))
    assert len(bins) == len(plain)
    sizes = [sum(lengths[place] for place in group) for group in bins]
    assert max(sizes) <= max(most, max(lengths))


def test_two_passes_are_halves() -> None:
    assert [len(group) for group in even_fit([100] * 10, 800)] == [5, 5]
    assert sorted(len(group) for group in even_fit([100] * 9, 800)) == [4, 5]
    assert len(even_fit([100] * 8, 800)) == 1


def test_like_lengths_go_together() -> None:
    assert split_step([100, 10, 100, 10, 100], None, 20) == [[0, 2, 4], [1, 3]]


@pytest.mark.parametrize("p", [0.05, 0.5])
def test_quick_dropout_drops_its_share_and_keeps_the_mean(p: float) -> None:
    import torch

    from core.training.dropout import QuickDropout

    torch.manual_seed(1)
    layer = QuickDropout(p)
    x = torch.ones(401, 499, requires_grad=True)
    y = layer(x)
    zeros = float((y == 0).float().mean())
    assert zeros == pytest.approx(p, abs=4 * (p * (1 - p) / x.numel()) ** 0.5 + 1e-4)
    assert float(y.mean().detach()) == pytest.approx(1, abs=0.01)
    assert sorted(set(y.flatten().tolist())) == pytest.approx([0, 1 / (1 - p)], rel=1e-5)
    for part in y.detach().flatten()[: 4 * 50_000].view(-1, 4).T:  # each quarter of a draw is as random as the others
        assert float((part == 0).float().mean()) == pytest.approx(p, abs=0.01)
    y.sum().backward()
    assert x.grad is not None
    assert torch.equal(x.grad, y)
    torch.manual_seed(1)
    assert torch.equal(layer(x), y)
    assert layer.eval()(x) is x
