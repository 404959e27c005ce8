"""Rows as tensors, and the loss of their learnt tokens. A torch module.

Logits are made for the learnt places only: the vocabulary's matrix is a large part of a small model's work, and a
prompt's logits are of no use. Knows nothing of trainers.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch.nn.functional import cross_entropy

from core.prompts.examples import IGNORED, Example


def learnt_tokens(example: Example) -> int:
    """How many tokens of an example are learnt (the first of a row has nothing before it to be foretold from)."""
    return sum(label != IGNORED for label in example.labels[1:])


def padded_batch(examples: Sequence[Example], pad: int, device: torch.device | str) -> tuple[dict[str, Any], torch.Tensor]:
    """Arguments of a forward pass, and for each place the token that follows it, IGNORED where it isn't learnt.

    All are [rows, longest], padded on the left; ``attention_mask`` is there where rows differ in length.
    """
    longest = max(len(example.input_ids) for example in examples)
    padding = [longest - len(example.input_ids) for example in examples]
    ids = [[pad] * p + example.input_ids for p, example in zip(padding, examples, strict=True)]
    targets = [[IGNORED] * p + example.labels[1:] + [IGNORED] for p, example in zip(padding, examples, strict=True)]
    columns = torch.arange(longest).unsqueeze(0)
    begin = torch.tensor(padding).unsqueeze(1)
    inputs = {"input_ids": torch.tensor(ids).to(device), "position_ids": (columns - begin).clamp(min=0).to(device)}
    if max(padding) > 0:
        inputs["attention_mask"] = (columns >= begin).long().to(device)
    return inputs, torch.tensor(targets).to(device)


class Head:
    """The output layer of a model, which can be made to see chosen places only.

    Without it a slice of the hidden states reaches the layer, for which torch copies the vocabulary's matrix once a row
    (a third of a CPU step). Models without such a layer work too, with all logits.
    """

    def __init__(self, model: Any) -> None:
        inner = getattr(model, "module", model)
        inner = inner.get_base_model() if hasattr(inner, "get_base_model") else inner
        layer = inner.get_output_embeddings()
        self._places: torch.Tensor | None = None
        if layer is not None:
            layer.register_forward_pre_hook(self._pick)
        self._picks = layer is not None

    def logits(self, model: Any, inputs: dict[str, Any], places: torch.Tensor) -> torch.Tensor:
        """Logits [places that are true, vocabulary] of one forward pass; ``places`` is [rows, columns]."""
        self._places = places
        try:
            found: torch.Tensor = model(**inputs, use_cache=False).logits
        finally:
            self._places = None
        return found[0] if self._picks else found[places]

    def _pick(self, _layer: Any, arguments: tuple[Any, ...]) -> tuple[Any, ...] | None:
        if self._places is None:
            return None
        return (arguments[0][self._places].unsqueeze(0), *arguments[1:])


def loss_sum(model: Any, head: Head, inputs: dict[str, Any], targets: torch.Tensor) -> torch.Tensor:
    """Summed negative log likelihood of the learnt tokens, in float32."""
    learnt = targets != IGNORED
    return cross_entropy(head.logits(model, inputs, learnt).float(), targets[learnt], reduction="sum")
