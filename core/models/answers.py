"""What an answer is, whoever gave it: an engine here or an endpoint elsewhere. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Answered:
    """An answer. ``ids`` leaves the ending token out, ``tokens`` counts it: it was computed.

    ``finish``: ``stop`` (end of turn or stop string), ``length``, ``stopped`` (by the caller). ``seconds``: from its
    batch's start to its end; ``first_token_seconds``: from being asked to its first token, waiting included.
    An endpoint's answer has no ``ids``.
    """

    ids: tuple[int, ...]
    text: str
    tokens: int
    seconds: float
    finish: str
    prompt_tokens: int = 0
    first_token_seconds: float = 0.0
