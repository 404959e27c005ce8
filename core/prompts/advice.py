"""Which template to begin with for a dataset: one that says what to extract where its rows don't.

Knows nothing of what was chosen before.
"""

from __future__ import annotations

import pyarrow.compute as pc

from core.data.detect.language import LANGUAGES, count_kinds, languages
from core.records import Dataset
from core.store.datasets import read_rows

SAMPLE = 500
"""Rows from whose inputs the language is told."""
_CHINESE = tuple(LANGUAGES.index(name) for name in ("Hans", "Hant", "Han", "mixed"))


def instructed(dataset: str, version: int | None = None, split: str | None = None) -> bool:
    """Whether a row has an instruction, or is a conversation, whose turns may hold one. NotFoundError for what isn't there."""
    rows = read_rows(dataset, version, columns=["instruction", "messages"], split=split)
    return any(pc.any(pc.greater(pc.utf8_length(rows[name]), 0)).as_py() for name in ("instruction", "messages"))


def advised_template(dataset: Dataset, version: int | None = None) -> str:
    """``chat``; for an extraction whose rows say nothing of the task ``json-zh`` or ``json-en``, which name its elements."""
    if dataset.task != "extraction" or not dataset.elements or instructed(dataset.name, version):
        return "chat"
    texts = read_rows(dataset.name, version, columns=["input"], limit=SAMPLE)["input"].to_pylist()
    found = [language for language in languages(count_kinds([text or "" for text in texts])).tolist() if language]
    chinese = sum(language in _CHINESE for language in found)
    return "json-zh" if 2 * chinese > len(found) else "json-en"
