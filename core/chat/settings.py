"""What a chat begins with: presets of generation, the model's own generation_config, its context window.

Reads a model folder's JSON only: no torch, nothing is downloaded.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from core.models.context import context_length, local_folder
from core.records import GenerationSettings, Template

__all__ = ["PLAIN", "PRESETS", "context_length", "local_folder", "own_settings"]

PLAIN = Template(
    name="plain", kind="chat", system="", user="{{ input }}", description="Free chat: what is typed, nothing around it."
)
MOST_TOKENS = 256
PRESETS: dict[str, GenerationSettings] = {
    "Greedy": GenerationSettings(max_new_tokens=MOST_TOKENS),
    "Balanced": GenerationSettings(max_new_tokens=MOST_TOKENS, temperature=0.7, top_p=0.9),
    "Creative": GenerationSettings(max_new_tokens=2 * MOST_TOKENS, temperature=1.0, top_p=0.95, repetition_penalty=1.05),
}


def own_settings(model_folder: Path | None) -> GenerationSettings:
    """How a model's makers would have it generate (generation_config.json); greedy where they say nothing."""
    config = _read(model_folder / "generation_config.json") if model_folder is not None else {}
    most = int(_number(config.get("max_new_tokens"), MOST_TOKENS, 1, 8192))
    penalty = _number(config.get("repetition_penalty"), 1.0, 0.8, 2.0)
    if not config.get("do_sample"):
        return GenerationSettings(max_new_tokens=most, repetition_penalty=penalty)
    return GenerationSettings(
        max_new_tokens=most,
        temperature=_number(config.get("temperature"), 1.0, 0.0, 2.0),
        top_p=_number(config.get("top_p"), 1.0, 0.05, 1.0),
        top_k=int(_number(config.get("top_k"), 50, 0, 1000)),  # 50 is transformers' own when it draws
        repetition_penalty=penalty,
    )


def _number(value: Any, default: float, low: float, high: float) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return default
    return min(high, max(low, float(value)))


def _read(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
