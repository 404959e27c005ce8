"""The answers that a run's looks at dev have left: the same few rows each time, so that they are seen to change. No torch."""

from __future__ import annotations

import json
from typing import Any

from core.store.runs import run_folder

SAMPLES = 8
"""Rows of each look whose answers are kept."""
SAMPLE_FILE = "samples.jsonl"


def read_samples(run_id: str) -> list[dict[str, Any]]:
    """``step``, ``row_id``, ``input``, ``output`` (gold) and ``prediction`` of each kept answer, in the order of steps."""
    path = run_folder(run_id) / SAMPLE_FILE
    if not path.is_file():
        return []
    return [json.loads(line) for line in path.read_text("utf-8").splitlines() if line.strip()]
