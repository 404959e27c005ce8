"""How likely a model finds given answers: summed negative log-likelihood, for perplexity.

A torch module; ``score_batch`` is called in the thread that owns the model. Knows nothing of metrics.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch

from core.models.memory import out_of_memory, release_memory


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


def score_rows(
    lengths: Sequence[tuple[int, int]],
    score: Callable[[Sequence[int]], list[float]],
    most: int,
    most_tokens: int,
    should_stop: Callable[[], bool] | None = None,
    on_row: Callable[[int, tuple[float, int]], None] | None = None,
) -> list[tuple[float, int]]:
    """Score rows in batches, the longest first: each row's sum in nats, and its number of answer tokens.

    ``lengths``: tokens of each row's prompt and answer; ``score(rows)`` gives the sums of some of them. A batch has ``most``
    rows and ``most_tokens`` tokens, padding included; one that doesn't fit into memory is halved. Rows that a stop left
    out are (nan, 0), empty answers (0.0, 0).
    """
    done: dict[int, tuple[float, int]] = {row: (0.0, 0) for row, (_, answer) in enumerate(lengths) if not answer}
    order = sorted((row for row in range(len(lengths)) if row not in done), key=lambda row: -sum(lengths[row]))
    while order and not (should_stop and should_stop()):
        rows = order[: min(most, max(1, most_tokens // sum(lengths[order[0]])))]
        try:
            sums = score(rows)
        except (torch.OutOfMemoryError, RuntimeError, MemoryError) as error:
            if not out_of_memory(error) or len(rows) == 1:
                raise
            most = len(rows) // 2
            error.__traceback__ = None
            release_memory()
            continue
        for row, value in zip(rows, sums, strict=True):
            done[row] = (value, lengths[row][1])
            if on_row:
                on_row(row, done[row])
        order = order[len(rows) :]
    return [done.get(row, (float("nan"), 0)) for row in range(len(lengths))]
