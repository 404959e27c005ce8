"""Proposals for broken JSON. Never applied unseen: json-repair is known to change values (``100,,`` became ``"100,"``).

Knows nothing of rows or quarantine.
"""

from __future__ import annotations

import re

from core.data.answers import load_object, parse_answer

_FENCE = re.compile(r"^\s*```(?:json)?\s*\n?(.*?)\n?\s*```\s*$", re.S)


def propose_repair(text: str) -> str | None:
    """A readable answer that ``text`` may have been meant as; nothing if there is none with at least one element.

    A code fence around a readable answer is simply taken off; all else is json-repair's guess.
    """
    fenced = _FENCE.match(text)
    if fenced and parse_answer(fenced[1]).ok:
        return fenced[1]
    if "{" not in text:
        return None
    guess = guessed_json(text)
    if guess is None:
        return None
    try:
        return guess if any(value not in ("", [], None) for _, value in load_object(guess)) else None
    except ValueError:
        return None


def guessed_json(text: str) -> str | None:
    """json-repair's guess at a broken JSON object; nothing where it has none."""
    import json_repair

    try:
        guess = json_repair.repair_json(text, ensure_ascii=False)
    except (ValueError, RecursionError):
        return None
    return guess if isinstance(guess, str) and guess.startswith("{") else None
