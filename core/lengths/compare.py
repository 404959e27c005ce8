"""The same rows under several tokenizers or templates, side by side. Knows nothing of training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from core.lengths.counting import Counter
from core.lengths.measuring import measure
from core.lengths.statistics import summary
from core.models.tokenizer import load_tokenizer
from core.records import ModelRef, Reporter, Template
from core.store import datasets

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

SAMPLE = 20_000
"""Rows that characters per token are measured on."""
LANGUAGES = ("zh", "en", "mixed")


@dataclass(frozen=True)
class Compared:
    """One template with one model's tokenizer on a version: ``figures`` of ``summary``, characters per token by language."""

    template: str
    model: str
    figures: dict[str, Any]
    characters_per_token: dict[str, float]
    vocabulary: int


def compare(
    dataset: str,
    version: int | None,
    templates: Sequence[Template],
    models: Sequence[ModelRef],
    max_length: int | None = None,
    reporter: Reporter | None = None,
) -> list[Compared]:
    """Every template with every model, in that order. Counts are kept, so a second look is quick."""
    rows = datasets.read_rows(dataset, version, columns=("input",), limit=SAMPLE)["input"].combine_chunks()
    made: list[Compared] = []
    for model in models:
        tokenizer = load_tokenizer(model)
        density = characters_per_token(rows, tokenizer)
        for template in templates:
            figures = summary(measure(dataset, version, template, model, reporter=reporter), max_length)
            made.append(Compared(template.ref, model.label, figures, density, len(tokenizer)))
    return made


def languages(texts: pa.Array) -> Any:
    """For each text ``zh``, ``en`` or ``mixed``: more than 40 % of the letters are Han, fewer than 5 %, between."""
    han = pc.count_substring_regex(texts, r"\p{Han}").to_numpy(zero_copy_only=False)
    letters = pc.count_substring_regex(texts, r"\p{L}").to_numpy(zero_copy_only=False)
    share = han / np.maximum(letters, 1)
    return np.select([share > 0.4, share < 0.05], ["zh", "en"], "mixed")


def characters_per_token(texts: pa.Array, tokenizer: PreTrainedTokenizerFast) -> dict[str, float]:
    """Characters that one token holds on average, by language; languages without a text are left out."""
    counts = Counter(tokenizer).column(texts)
    sizes = pc.utf8_length(texts).to_numpy(zero_copy_only=False)
    kinds = languages(texts)
    found: dict[str, float] = {}
    for language in LANGUAGES:
        chosen = kinds == language
        if counts[chosen].sum():
            found[language] = round(float(sizes[chosen].sum() / counts[chosen].sum()), 3)
    return found
