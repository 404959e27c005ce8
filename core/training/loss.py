"""Rows as tensors, and the loss of their learnt tokens. A torch module.

Rows are padded on the left, so that answers end together and logits are made for the columns of answers only:
the vocabulary's matrix is a large part of a small model's work. Knows nothing of trainers.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

import torch
from torch.nn.functional import cross_entropy

from core.prompts.examples import IGNORED, Example


def learnt_tokens(example: Example) -> int:
    """How many tokens of an example are learnt (the first of a row has nothing before it to be foretold from)."""
    return sum(label != IGNORED for label in example.labels[1:])


def padded_batch(examples: Sequence[Example], pad: int, device: torch.device | str) -> tuple[dict[str, Any], torch.Tensor]:
    """Arguments of a forward pass and the targets of its logits.

    ``input_ids``, ``position_ids`` and, where rows differ in length, ``attention_mask`` are [rows, longest];
    ``logits_to_keep`` is K, and the targets [rows, K - 1] stand for all but the last kept column.
    """
    longest = max(len(example.input_ids) for example in examples)
    padding = [longest - len(example.input_ids) for example in examples]
    ids = torch.tensor([[pad] * p + example.input_ids for p, example in zip(padding, examples, strict=True)])
    labels = torch.tensor([[IGNORED] * (p + 1) + example.labels[1:] for p, example in zip(padding, examples, strict=True)])
    columns = torch.arange(longest).unsqueeze(0)
    begin = torch.tensor(padding).unsqueeze(1)
    first = int((labels != IGNORED).any(dim=0).int().argmax())
    inputs: dict[str, Any] = {
        "input_ids": ids.to(device),
        "position_ids": (columns - begin).clamp(min=0).to(device),
        "logits_to_keep": longest - first + 1,
    }
    if max(padding) > 0:
        inputs["attention_mask"] = (columns >= begin).long().to(device)
    return inputs, labels[:, first:].to(device)


def loss_sum(model: Any, inputs: dict[str, Any], targets: torch.Tensor) -> torch.Tensor:
    """Summed negative log likelihood of the learnt tokens, in float32."""
    kept = targets.shape[1] + 1
    arguments = dict(inputs) if keeps_logits(model) else {k: v for k, v in inputs.items() if k != "logits_to_keep"}
    logits = model(**arguments, use_cache=False).logits[:, -kept:-1]
    learnt = targets != IGNORED
    return cross_entropy(logits[learnt].float(), targets[learnt], reduction="sum")


def keeps_logits(model: Any) -> bool:
    """Whether a model (wrapped or not) can make logits for some columns only."""
    inner = getattr(model, "module", model)
    inner = inner.get_base_model() if hasattr(inner, "get_base_model") else inner
    return "logits_to_keep" in inspect.signature(type(inner).forward).parameters
