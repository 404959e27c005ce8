"""Counts the tokens of texts, each different text once, in the tokenizer's own parallel batches.

Knows nothing of rows and templates.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from core.prompts.control import backend, encode
from core.prompts.render import Segment

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

KEPT = 200_000
"""Most different texts whose counts are remembered between calls, so that memory stays bounded."""


class Counter:
    """Token counts for one tokenizer."""

    def __init__(self, tokenizer: PreTrainedTokenizerFast) -> None:
        self.tokenizer = tokenizer
        self._known: dict[str, int] = {"": 0}

    def count(self, segments: Sequence[Segment]) -> list[int]:
        """Tokens of each segment."""
        wanted = dict.fromkeys(s.text for s in segments if not s.literal)
        self.learn([text for text in wanted if text not in self._known])
        known = self._known
        counts = [len(encode(self.tokenizer, s.text, s.literal)) if s.literal else known[s.text] for s in segments]
        if len(known) > KEPT:
            self._known = {"": 0}
        return counts

    def learn(self, texts: Sequence[str]) -> None:
        """Count texts that aren't known yet."""
        encoded = backend(self.tokenizer).encode_batch_fast(texts, add_special_tokens=False)
        self._known.update((text, len(found)) for text, found in zip(texts, encoded, strict=True))
