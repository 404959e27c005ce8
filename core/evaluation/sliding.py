"""Perplexity of plain text by a window that slides over it, so that each token is judged with enough text before it.

The first window judges all its tokens but the first; each later one starts ``stride`` tokens on and judges only the new
ones (as the loop of transformers' guide on perplexity does, which gives the same number). A smaller stride gives more
context and a lower perplexity, so window and stride stand in the signature.
Knows nothing of where the model runs: the engine is given.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from core.errors import SpecError
from core.evaluation.metrics import perplexity
from core.evaluation.metrics.rows import Statistics
from core.evaluation.statistics import intervals

if TYPE_CHECKING:
    from core.models.engine import Engine


@dataclass(frozen=True)
class Window:
    """Tokens ``start`` to ``end`` are read, those from ``judged`` on are judged; ``judged`` is above ``start``."""

    start: int
    judged: int
    end: int


def windows(length: int, window: int, stride: int) -> Iterator[Window]:
    """Windows that judge each of ``length`` tokens but the first exactly once. SpecError unless 1 <= stride < window."""
    if not 1 <= stride < window:
        raise SpecError(f"A stride of {stride} doesn't fit a window of {window} tokens", "Take 1 or more, less than the window.")
    judged = 1
    while judged < length:
        end = min(length, window if judged == 1 else judged + stride)
        yield Window(0 if judged == 1 else judged + stride - window, judged, end)
        judged = end


def text_perplexity(
    texts: Sequence[str],
    engine: Engine,
    *,
    window: int = 1024,
    stride: int = 512,
    adapter: str | None = None,
    should_stop: Callable[[], bool] | None = None,
    kept: Mapping[int, tuple[float, int]] | None = None,
    on_window: Callable[[int, int, tuple[float, int]], None] | None = None,
) -> dict[str, Any] | None:
    """Token-weighted perplexity of texts: ``perplexity`` with its 95 % interval over texts, ``bits_per_character``,
    ``tokens``, ``texts``, ``per_text`` (``nll`` in nats, ``nll_tokens``) and ``signature``.

    A text begins with the tokenizer's beginning-of-text token where there is one; else its first token isn't judged.
    ``kept``: windows that are measured already, by place; ``on_window(place, total, measured)`` gets new ones. None after a stop.
    SpecError for a window that the model can't read, or when there is no token to judge.
    """
    if window >= engine.context:
        raise SpecError(f"The model reads fewer than {window + 1:,} tokens", f"Take a window under {engine.context:,}.")
    begin = engine.tokenizer.bos_token_id
    prompts, judged, owners = [], [], []
    for place, text in enumerate(texts):
        ids = engine.tokenizer(text, add_special_tokens=False)["input_ids"]
        ids = [begin, *ids] if begin is not None else ids
        for part in windows(len(ids), window, stride):
            prompts.append(ids[part.start : part.judged])
            judged.append(ids[part.judged : part.end])
            owners.append(place)
    if not judged:
        raise SpecError("There is no token to judge", "Give a text of two tokens or more.")
    found = dict(kept or {})
    left = [place for place in range(len(judged)) if place not in found]

    def take(number: int, measured: tuple[float, int]) -> None:
        found[left[number]] = measured
        if on_window is not None:
            on_window(left[number], len(judged), measured)

    asked = ([prompts[place] for place in left], [judged[place] for place in left])
    engine.score(*asked, adapter, should_stop=should_stop, on_row=take)
    if len(found) < len(judged):
        return None
    sums = [[0.0, 0] for _ in texts]
    for place, owner in enumerate(owners):
        sums[owner][0] += found[place][0]
        sums[owner][1] += found[place][1]
    columns = {"nll": [s[0] for s in sums], "nll_tokens": [float(s[1]) for s in sums]}
    statistics: Statistics = perplexity.row_statistics(columns)
    total = float(sum(columns["nll"]))
    characters = sum(map(len, texts))
    ends = intervals(statistics, {"perplexity": perplexity.perplexity}) if len(texts) > 1 else {}
    return {
        "perplexity": float(perplexity.perplexity(statistics.sums())),
        "interval": list(ends["perplexity"]) if "perplexity" in ends else None,
        "bits_per_character": total / math.log(2) / characters,
        "tokens": int(sum(columns["nll_tokens"])),
        "texts": len(texts),
        "per_text": columns,
        "signature": f"plain text|window:{window}|stride:{stride}|first:{'bos' if begin is not None else 'not judged'}"
        f"|token-weighted|model:{engine.ref.label}|version:1",
    }
