"""Where a model lies on this machine, and how many tokens it reads. Reads JSON only: no torch, nothing is downloaded."""

from __future__ import annotations

import json
from pathlib import Path

from core.models.default import default_model_folder, is_converted
from core.models.hub import downloaded
from core.records import ModelRef

DEFAULT_CONTEXT = 2048


def context_length(model_folder: Path) -> int:
    """The context window of a model in tokens, from its config.json; ``DEFAULT_CONTEXT`` where that doesn't say."""
    return known_context(model_folder) or DEFAULT_CONTEXT


def known_context(model_folder: Path) -> int | None:
    """The same, or none where the config.json doesn't say or can't be read."""
    try:
        config = json.loads((model_folder / "config.json").read_text("utf-8"))
    except (OSError, ValueError):
        return None
    text = (config.get("text_config") or config) if isinstance(config, dict) else {}
    return int(text.get("max_position_embeddings") or text.get("n_positions") or 0) or None


def local_folder(ref: ModelRef) -> Path | None:
    """Where a model lies on this machine, if it does; downloads nothing."""
    if ref.source == "default":
        return default_model_folder() if is_converted() else None
    if ref.source == "path":
        return Path(ref.name) if Path(ref.name).is_dir() else None
    wanted = (ref.source, ref.name, ref.revision)
    return next((folder for known, folder in downloaded() if (known.source, known.name, known.revision) == wanted), None)
