"""Lengths of a version without counting all of it: whole where that is quick or done already, else a random sample.

Knows nothing of pages.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from core.lengths.measuring import is_measured, measure, measure_rows
from core.lengths.statistics import lengths, summary
from core.models.tokenizer import load_tokenizer
from core.records import ModelRef, Reporter, Template
from core.store import datasets

AT_ONCE = 100_000
"""Rows that are counted whole unasked: seconds."""
SAMPLE = 20_000
SEED = 7
Z = 1.959964


@dataclass(frozen=True)
class Looked:
    """Lengths (columns of ``measure``) of all ``rows`` of a version, or of a sample of them."""

    table: pa.Table
    rows: int

    @property
    def whole(self) -> bool:
        """Whether every row was counted."""
        return bool(self.table.num_rows == self.rows)

    def figures(self, max_length: int | None = None) -> dict[str, Any]:
        """``summary`` with totals and counts scaled to all rows; ``total_error``: half of the 95 % interval of the total.

        The interval of a mean, with the correction for a sample without replacement (Cochran 1977, section 2.6).
        """
        found = summary(self.table, max_length)
        if self.whole:
            return {**found, "total_error": 0}
        scale = self.rows / max(1, self.table.num_rows)
        scaled: dict[str, Any] = {**found, "rows": self.rows, "total_error": self._error()}
        for part in ("prompt", "answer", "whole"):
            scaled[part] = {**found[part], "total": round(scale * found[part]["total"])}
        for count in ("over_max_length", "faults", "empty_answers"):
            scaled[count] = round(scale * found[count])
        return scaled

    def _error(self) -> int:
        values = lengths(self.table, "whole")
        if len(values) < 2:
            return 0
        left = 1 - self.table.num_rows / self.rows
        return math.ceil(Z * self.rows * float(np.std(values, ddof=1)) * math.sqrt(left / len(values)))


def look(
    dataset: str,
    version: int | None,
    template: Template,
    model: ModelRef | None = None,
    *,
    every: bool = False,
    reporter: Reporter | None = None,
) -> Looked:
    """Lengths of every row where that is quick, done before or asked for (``every``), else of ``SAMPLE`` rows."""
    of = datasets.get_version(dataset, version)
    if every or of.rows <= AT_ONCE or is_measured(dataset, version, template, model):
        return Looked(measure(dataset, version, template, model, reporter=reporter), of.rows)
    return sample(dataset, of.number, template, model)


def sample(dataset: str, version: int, template: Template, model: ModelRef | None = None) -> Looked:
    """Lengths of ``SAMPLE`` rows, drawn without replacement, the same each time."""
    of = datasets.get_version(dataset, version)
    places = np.sort(np.random.default_rng(SEED).choice(of.rows, SAMPLE, replace=False)).tolist()
    rows = datasets.read_rows_at(dataset, of.number, places)
    tokenizer = load_tokenizer(model or ModelRef())
    return Looked(measure_rows(rows, template, tokenizer, elements=datasets.get_dataset(dataset).elements), of.rows)
