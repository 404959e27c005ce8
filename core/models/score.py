"""How likely a model finds given answers: summed negative log-likelihood, for perplexity.

A torch module; called in the thread that owns the model. Knows nothing of metrics.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch


def score_batch(
    forward: Callable[..., Any],
    arguments: dict[str, Any],
    prompts: Sequence[Sequence[int]],
    answers: Sequence[Sequence[int]],
    pad: int,
    device: torch.device,
) -> list[float]:
    """Natural-log negative log-likelihood of each answer given its prompt, summed over the answer's tokens.

    Rows are padded on the left, so that all answers end in the last column and only the columns of the
    longest answer need logits. Computed in float32 from the model's logits, one row at a time.
    """
    rows = [[*p, *a] for p, a in zip(prompts, answers, strict=True)]
    width, longest = max(map(len, rows)), max(map(len, answers))
    with torch.inference_mode():
        ids = torch.tensor([[pad] * (width - len(row)) + row for row in rows], device=device)
        padding = torch.tensor([width - len(row) for row in rows], device=device).unsqueeze(1)
        columns = torch.arange(width, device=device).unsqueeze(0)
        output = forward(
            input_ids=ids,
            attention_mask=(columns >= padding).long() if min(map(len, rows)) < width else None,
            position_ids=(columns - padding).clamp(min=0),
            use_cache=False,
            logits_to_keep=longest + 1,
            **arguments,
        )
        sums = []
        for row, answer in enumerate(answers):
            logits = output.logits[row, -len(answer) - 1 : -1].float()
            target = ids[row, -len(answer) :]
            sums.append(torch.nn.functional.cross_entropy(logits, target, reduction="sum"))
        return [float(value) for value in torch.stack(sums).tolist()]
