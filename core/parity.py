"""The parity gate as a command: every template on rows of a dataset and on rows that tend to come apart.

The comparison itself is ``core.prompts.parity``, which training asks before it starts.
"""

from __future__ import annotations

from collections.abc import Sequence

from core.models.tokenizer import load_tokenizer
from core.prompts.parity import ODD_ROWS, Parity, check_parity
from core.prompts.templates import list_templates
from core.records import ModelRef, Template
from core.store import datasets

ROWS = 200


def check_dataset(
    dataset: str,
    version: int | None = None,
    *,
    models: Sequence[ModelRef] = (ModelRef(),),
    templates: Sequence[Template] | None = None,
    limit: int = ROWS,
) -> dict[str, list[Parity]]:
    """For each model (by its label) each template's parity on the first ``limit`` rows and on ``ODD_ROWS``."""
    elements = datasets.get_dataset(dataset).elements
    rows = [*datasets.read_rows(dataset, version, limit=limit).to_pylist(), *ODD_ROWS]
    found: dict[str, list[Parity]] = {}
    for model in models:
        tokenizer = load_tokenizer(model)
        known = list_templates() if templates is None else templates
        found[model.label] = [check_parity(t, rows, tokenizer=tokenizer, elements=elements) for t in known]
    return found
