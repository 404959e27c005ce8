"""The next token of each row: greedy, or drawn with temperature, top-k, top-p and repetition penalty.

A row's draws come from its own seeded generator, one uniform number a token, so that they don't
depend on what else is in the batch. A torch module; knows nothing of models.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from core.records import GenerationSettings


def seeded(seed: int, row: int) -> torch.Generator:
    """The generator of a row's draws (on the CPU, so that every device draws the same numbers)."""
    return torch.Generator().manual_seed((seed * 1_000_003 + row) % 2**63)


def choose(
    logits: torch.Tensor,
    settings: GenerationSettings,
    generators: Sequence[torch.Generator],
    seen: Sequence[Sequence[int]],
) -> list[int]:
    """Next tokens for ``logits`` [rows, vocabulary]. ``seen``: each row's tokens so far, for the repetition penalty.

    Repetition penalty: Keskar et al. 2019, CTRL, section 4.1 (with the sign rule of transformers);
    top-p: Holtzman et al. 2020, The Curious Case of Neural Text Degeneration, section 3.1.
    """
    if settings.repetition_penalty != 1.0:
        logits = _penalised(logits.float(), settings.repetition_penalty, seen)
    if settings.temperature == 0:
        return [int(t) for t in logits.argmax(dim=-1).tolist()]
    scores = logits.float() / settings.temperature
    if settings.top_k:
        ordered, tokens = scores.topk(min(settings.top_k, scores.shape[-1]), dim=-1)
    else:
        ordered, tokens = scores.sort(dim=-1, descending=True)
    chances = ordered.softmax(dim=-1)
    if settings.top_p < 1:
        before = chances.cumsum(dim=-1) - chances
        chances = chances.masked_fill(before >= settings.top_p, 0.0)
    summed = chances.cumsum(dim=-1, dtype=torch.float64)
    drawn = torch.stack([torch.rand((), generator=g, dtype=torch.float64) for g in generators]).to(summed.device)
    places = torch.searchsorted(summed, drawn.unsqueeze(-1) * summed[:, -1:], right=True)
    last = (chances > 0).sum(dim=-1, keepdim=True) - 1
    return [int(t) for t in tokens.gather(-1, places.minimum(last)).squeeze(-1).tolist()]


def _penalised(logits: torch.Tensor, penalty: float, seen: Sequence[Sequence[int]]) -> torch.Tensor:
    logits = logits.clone()
    for row, tokens in enumerate(seen):
        index = torch.tensor(sorted(set(tokens)), dtype=torch.long, device=logits.device)
        values = logits[row, index]
        logits[row, index] = torch.where(values < 0, values * penalty, values / penalty)
    return logits
