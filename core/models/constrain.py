"""Answers that must match a pattern: which tokens may come next, row by row. A torch module by way of its masks.

The pattern (a regular expression over the whole answer) is compiled with the tokenizer's vocabulary into an automaton by
outlines-core (Willard & Louf 2023, "Efficient Guided Generation for Large Language Models"). Knows nothing of elements.
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import torch

from core.errors import ModelError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

_BYTE_PIECE = re.compile(r"<0x([0-9A-Fa-f]{2})>")


class Constraint:
    """A pattern compiled for a tokenizer; ``start`` one ``Following`` a row."""

    def __init__(self, pattern: str, tokenizer: PreTrainedTokenizerFast, ends: Iterable[int]) -> None:
        """ModelError where outlines-core is missing, or the tokenizer's tokens can't be read as bytes."""
        try:
            from outlines_core import Index, Vocabulary
        except ImportError:
            raise ModelError("Constrained answers need the package outlines-core", "`pip install outlines-core`.") from None
        self.ends = sorted(ends)
        pieces = _pieces(tokenizer, {*tokenizer.all_special_ids, *self.ends})
        self.index: Any = Index(pattern, Vocabulary(self.ends[0], pieces))
        self._masks: dict[tuple[int, int, str], torch.Tensor] = {}

    def start(self) -> Following:
        """The beginning of an answer."""
        return Following(self)

    def mask(self, guide: Any, size: int, device: torch.device) -> torch.Tensor:
        """Which of ``size`` tokens may come next (bool), kept for each state of the automaton."""
        key = (int(guide.get_state()), size, str(device))
        if key not in self._masks:
            words = torch.zeros((size + 31) // 32, dtype=torch.int32)
            guide.write_mask_into(words.data_ptr(), words.numel(), words.element_size())
            bits = (words.unsqueeze(-1) >> torch.arange(32)) & 1
            allowed = bits.flatten()[:size].bool()
            may_end = bool(allowed[self.ends[0]])
            allowed[[end for end in self.ends if end < size]] = may_end
            self._masks[key] = allowed.to(device)
        return self._masks[key]


class Following:
    """Where one row's answer stands in the pattern."""

    def __init__(self, constraint: Constraint) -> None:
        from outlines_core import Guide

        self._constraint, self._guide = constraint, Guide(constraint.index)

    def allowed(self, size: int, device: torch.device) -> torch.Tensor:
        """Which of ``size`` tokens may come next, bool [size]."""
        return self._constraint.mask(self._guide, size, device)

    def advance(self, token: int) -> None:
        """Take a token that was allowed."""
        self._guide.advance(token, return_tokens=False)


def _pieces(tokenizer: PreTrainedTokenizerFast, without: set[int]) -> dict[bytes, list[int]]:
    """The bytes that each token stands for, for byte-level vocabularies and those with ``▁`` for a blank."""
    decoder = json.dumps(json.loads(tokenizer.backend_tokenizer.to_str()).get("decoder") or {})
    if "ByteLevel" in decoder:
        read = _byte_piece
    elif "ByteFallback" in decoder or "Metaspace" in decoder:
        read = _blank_piece
    else:
        raise ModelError("This tokenizer's tokens can't be read as bytes", "Answer without a constraint.")
    found: dict[bytes, list[int]] = {}
    for text, number in tokenizer.get_vocab().items():
        if number in without:
            continue
        try:
            piece = read(text)
        except KeyError:  # an added token that isn't written in the byte alphabet
            piece = text.encode()
        if piece:
            found.setdefault(piece, []).append(number)
    return found


def _byte_piece(text: str) -> bytes:
    table = _bytes_by_character()
    return bytes(table[character] for character in text)


def _blank_piece(text: str) -> bytes:
    match = _BYTE_PIECE.fullmatch(text)
    return bytes([int(match.group(1), 16)]) if match else text.replace("▁", " ").encode()


@functools.cache
def _bytes_by_character() -> dict[str, int]:
    """The byte behind each printable character in byte-level vocabularies (Radford et al. 2019, GPT-2's encoder)."""
    plain = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = [byte for byte in range(256) if byte not in plain]
    return {chr(byte): byte for byte in plain} | {chr(256 + n): byte for n, byte in enumerate(others)}
