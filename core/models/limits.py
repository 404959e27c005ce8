"""What fits and what ends an answer, read off a loaded model. Imports no torch; knows nothing of requests."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from core.models.memory import free_memory

if TYPE_CHECKING:
    from core.models.load import LoadedModel


@dataclass(frozen=True)
class BatchLimits:
    """How many rows go together: by memory for the cache, and what is still quicker per row than fewer."""

    device: str
    most: int
    bytes_per_token: int
    most_tokens: int

    def rows(self, widest: int, interactive: bool) -> int:
        """Rows of ``widest`` tokens that fit at once; at least one, which is then tried."""
        by_memory = int(0.5 * free_memory(self.device)) // max(1, widest * self.bytes_per_token)
        return max(1, min(self.most, by_memory, self.most_tokens // max(1, widest)))


def batch_limits(loaded: LoadedModel, config: Any) -> BatchLimits:
    """The limits of a model on its device."""
    cpu = loaded.device.type == "cpu"
    # prompts are read at once: the tokens bound the activations of that pass (about 40 widths of the model each)
    most_tokens = 16_384 if cpu else 131_072
    return BatchLimits(str(loaded.device), 64 if cpu else 256, 3 * cache_bytes(loaded, config), most_tokens)


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
