"""Counts the tokens of texts, each different text once, in the tokenizer's own parallel batches.

Knows nothing of rows and templates.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from core.prompts.control import backend, encode
from core.prompts.render import Segment

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

Counts = npt.NDArray[np.int32]
KEPT = 100_000
"""Most different texts whose counts are remembered between calls, so that memory stays bounded."""
FEW = 10_000
"""A column with more different texts than this isn't looked up: its texts hardly come again."""
BATCH = 2_000
"""Texts that are encoded at once: enough for all cores, and few enough that their encodings stay in the caches."""


class Counter:
    """Token counts for one tokenizer."""

    def __init__(self, tokenizer: PreTrainedTokenizerFast) -> None:
        self.tokenizer = tokenizer
        self._known: dict[str, int] = {"": 0}

    def segments(self, segments: Sequence[Segment]) -> list[int]:
        """Tokens of each segment."""
        plain = self.texts(list(dict.fromkeys(s.text for s in segments if not s.literal)))
        return [len(encode(self.tokenizer, s.text, s.literal)) if s.literal else plain[s.text] for s in segments]

    def column(self, column: pa.Array) -> Counts:
        """Tokens of each text of a column."""
        encoded = pc.dictionary_encode(column)
        values: list[str] = encoded.dictionary.to_pylist()
        if len(values) > FEW:
            counts = np.fromiter(self._encoded(values), np.int32, len(values))
        else:
            known = self.texts(values)
            counts = np.fromiter((known[text] for text in values), np.int32, len(values))
        spread: Counts = counts[encoded.indices.to_numpy()]
        return spread

    def texts(self, texts: Sequence[str]) -> dict[str, int]:
        """Tokens of different texts."""
        found = {text: self._known[text] for text in texts if text in self._known}
        missing = [text for text in texts if text not in found]
        found.update(zip(missing, self._encoded(missing), strict=True))
        if len(self._known) + len(missing) > KEPT:
            self._known = {"": 0}
        if len(missing) <= KEPT:
            self._known.update((text, found[text]) for text in missing)
        return found

    def _encoded(self, texts: Sequence[str]) -> Iterator[int]:
        engine = backend(self.tokenizer)
        for start in range(0, len(texts), BATCH):
            yield from map(len, engine.encode_batch_fast(texts[start : start + BATCH], add_special_tokens=False))
