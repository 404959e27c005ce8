"""The sizes of a decoder, read from its config.json, and the numbers in its parts. Knows nothing of trainings. No torch."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from core.errors import UserError

_OLD_NAMES = {
    "n_embd": "hidden_size",
    "n_layer": "num_hidden_layers",
    "n_head": "num_attention_heads",
    "n_inner": "intermediate_size",
}


@dataclass(frozen=True)
class ModelShape:
    """Sizes of a decoder: layers, width, inner width of the feed-forward part, vocabulary, attention's widths, tied head."""

    layers: int
    width: int
    inner: int
    vocabulary: int
    query: int
    key: int
    tied: bool
    dtype_bytes: int = 2
    heads: int = 1

    @property
    def linear(self) -> tuple[tuple[int, int], ...]:
        """(in, out) of the linear layers of one block, as Llama-like models have them."""
        attention = ((self.width, self.query), (self.width, self.key), (self.width, self.key), (self.query, self.width))
        return (*attention, (self.width, self.inner), (self.width, self.inner), (self.inner, self.width))

    @property
    def in_blocks(self) -> int:
        """Numbers in the linear layers of all blocks."""
        return self.layers * sum(a * b for a, b in self.linear)

    @property
    def outside(self) -> int:
        """Numbers in embeddings and head."""
        return self.vocabulary * self.width * (1 if self.tied else 2)


def shape_of(config: Mapping[str, Any]) -> ModelShape:
    """The shape in a config.json. UserError where it names none (an architecture without these sizes)."""
    inner = {new: config[old] for old, new in _OLD_NAMES.items() if old in config} | dict(config.get("text_config") or config)
    try:
        width, heads = int(inner["hidden_size"]), int(inner["num_attention_heads"])
        size = int(inner.get("head_dim") or width // heads)
        return ModelShape(
            layers=int(inner["num_hidden_layers"]),
            width=width,
            inner=int(inner.get("intermediate_size") or 4 * width),
            vocabulary=int(inner["vocab_size"]),
            query=heads * size,
            key=int(inner.get("num_key_value_heads") or heads) * size,
            tied=bool(inner.get("tie_word_embeddings", config.get("tie_word_embeddings", False))),
            heads=heads,
        )
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"The model's config.json doesn't name its sizes ({error})", "No estimate can be made for it.") from error


def read_shape(folder: Path) -> ModelShape:
    """The shape of the model in a folder."""
    try:
        return shape_of(json.loads((folder / "config.json").read_text("utf-8")))
    except (OSError, ValueError) as error:
        raise UserError(f"{folder} has no config.json that can be read", "Give the folder of a whole model.") from error
