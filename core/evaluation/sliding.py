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
from typing import TYPE_CHECKING, Any, NamedTuple

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
    asked = _cut(texts, engine, window, stride)
    if not asked:
        raise SpecError("There is no token to judge", "Give a text of two tokens or more.")
    found = dict(kept or {})
    left = [place for place in range(len(asked)) if place not in found]

    def take(number: int, measured: tuple[float, int]) -> None:
        found[left[number]] = measured
        if on_window is not None:
            on_window(left[number], len(asked), measured)

    engine.score(
        [asked[place].prompt for place in left],
        [asked[place].judged for place in left],
        adapter,
        should_stop=should_stop,
        on_row=take,
    )
    if len(found) < len(asked):
        return None
    columns: dict[str, list[float]] = {"nll": [0.0] * len(texts), "nll_tokens": [0.0] * len(texts)}
    for place, part in enumerate(asked):
        for name, value in zip(columns, found[place], strict=True):
            columns[name][part.text] += value
    first = "bos" if engine.tokenizer.bos_token_id is not None else "not judged"
    signature = f"plain text|window:{window}|stride:{stride}|first:{first}|token-weighted|model:{engine.ref.label}|version:1"
    return {**_summary(columns, sum(map(len, texts))), "signature": signature}


class _Asked(NamedTuple):
    """A window's tokens: ``prompt`` is read, ``judged`` is judged after it; ``text``: whose they are, by place."""

    text: int
    prompt: list[int]
    judged: list[int]


def _cut(texts: Sequence[str], engine: Engine, window: int, stride: int) -> list[_Asked]:
    """All windows of all texts."""
    begin = engine.tokenizer.bos_token_id
    found = []
    for place, text in enumerate(texts):
        ids = engine.tokenizer(text, add_special_tokens=False)["input_ids"]
        ids = [begin, *ids] if begin is not None else ids
        for part in windows(len(ids), window, stride):
            found.append(_Asked(place, ids[part.start : part.judged], ids[part.judged : part.end]))
    return found


def _summary(columns: dict[str, list[float]], characters: int) -> dict[str, Any]:
    """Perplexity of all texts, from ``nll`` (nats) and ``nll_tokens`` of each."""
    statistics: Statistics = perplexity.row_statistics(columns)
    ends = intervals(statistics, {"perplexity": perplexity.perplexity}) if statistics.rows > 1 else {}
    return {
        "perplexity": float(perplexity.perplexity(statistics.sums())),
        "interval": list(ends["perplexity"]) if "perplexity" in ends else None,
        "bits_per_character": float(sum(columns["nll"])) / math.log(2) / characters,
        "tokens": int(sum(columns["nll_tokens"])),
        "texts": statistics.rows,
        "per_text": columns,
    }
