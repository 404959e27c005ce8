"""NEFTune: noise on embeddings while training, against learning by heart (Jain et al. 2023). A torch module.

    noise = α / sqrt(L d) · U(-1, 1)          (algorithm 1; L tokens of the row, d the width of its embeddings)

L is each row's own, wherever it lies. transformers takes that of the batch instead: rows end to end in a pass of 8,000
tokens got a sixth of their noise, short rows beside a long one too little.
"""

from __future__ import annotations

from typing import Any

import torch


class Noise:
    """Adds noise to the embeddings of a model in training mode. ``pad``: the token that rows are brought to one length with."""

    def __init__(self, model: Any, alpha: float, pad: int) -> None:
        self._alpha, self._pad = alpha, pad
        self._lengths: torch.Tensor | None = None
        model.register_forward_pre_hook(self._see, with_kwargs=True)
        model.get_input_embeddings().register_forward_hook(self._add)

    def _see(self, _model: Any, _arguments: tuple[Any, ...], named: dict[str, Any]) -> None:
        ids, positions = named.get("input_ids"), named.get("position_ids")
        self._lengths = None if ids is None else row_lengths(ids, positions, self._pad)

    def _add(self, layer: Any, _arguments: tuple[Any, ...], embedded: torch.Tensor) -> torch.Tensor:
        if not layer.training or self._lengths is None:
            return embedded
        most = self._alpha / (self._lengths * embedded.shape[-1]).sqrt()
        return embedded + torch.empty_like(embedded).uniform_(-1, 1) * most.unsqueeze(-1).to(embedded.dtype)


def row_lengths(ids: torch.Tensor, positions: torch.Tensor | None, pad: int) -> torch.Tensor:
    """For each place of ``ids`` [rows, tokens] how long its row is, padding left out; no question to a GPU.

    With ``positions`` of the same shape several rows lie end to end, each beginning with position 0.
    """
    tokens = ids.shape[1]
    if positions is None:
        padding = (ids == pad).flip(1).cumprod(1).sum(1, keepdim=True)
        return (tokens - padding).clamp(min=1).expand_as(ids)
    places = torch.arange(tokens, device=ids.device).expand_as(ids)
    first = positions == 0
    begin = torch.where(first, places, 0).cummax(1).values
    later = torch.where(first, places, tokens).roll(-1, 1)
    later[:, -1] = tokens
    return later.flip(1).cummin(1).values.flip(1) - begin
