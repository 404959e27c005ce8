"""What fits and what ends an answer, read off a loaded model. Imports no torch; knows nothing of requests."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from core.models.memory import free_memory

if TYPE_CHECKING:
    from core.models.load import LoadedModel


ROOM = 1.4
"""Bytes that a batch takes for each byte of its keys and values."""
SHARE = 0.8
"""Of the free memory that caches may fill; passes over prompts and the allocator's fragments need the rest."""


@dataclass(frozen=True)
class BatchLimits:
    """How many rows go together: by memory for their cache, and what is still quicker per row than fewer.

    ``most_tokens`` bounds all columns of a batch, padding included (none: memory alone does); ``pass_tokens`` those of prompts
    that are read in one pass, whose activations take about 40 widths of the model each.
    """

    device: str
    most: int
    bytes_per_token: int
    most_tokens: int | None
    pass_tokens: int

    def rows(self, widest: int, held: int) -> int:
        """Rows of ``widest`` tokens at once, ``held`` of them there already, their memory taken; one is always tried."""
        more = int(SHARE * free_memory(self.device)) // max(1, widest * self.bytes_per_token)
        by_tokens = self.most if self.most_tokens is None else self.most_tokens // max(1, widest)
        return max(1, min(self.most, held + more, by_tokens))

    def fits_pass(self, rows: int, longest: int) -> bool:
        """Whether so many prompts are read in one pass, padded to the longest."""
        return rows * longest <= self.pass_tokens


def batch_limits(loaded: LoadedModel, config: Any) -> BatchLimits:
    """The limits of a model on its device."""
    cpu = loaded.device.type == "cpu"
    # more than a token's cache: room that is made ahead, one layer's copies when rows join, gaps in the allocator
    per_token = int(ROOM * cache_bytes(loaded, config))
    return BatchLimits(str(loaded.device), 64 if cpu else 512, per_token, 16_384 if cpu else None, 4_096 if cpu else 16_384)


def cache_bytes(loaded: LoadedModel, config: Any) -> int:
    """Bytes of keys and values of one token over all layers."""
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    return 2 * int(config.num_hidden_layers) * int(heads) * int(size) * int(loaded.dtype.itemsize)


def end_tokens(loaded: LoadedModel) -> frozenset[int]:
    """The tokens that end an answer."""
    named: Any = getattr(loaded.model.generation_config, "eos_token_id", None)
    listed = named if isinstance(named, (list, tuple)) else [named]
    return frozenset(int(n) for n in [*listed, loaded.tokenizer.eos_token_id] if n is not None)
