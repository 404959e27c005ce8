"""Faults of a conversation: roles in an order that can't be, turns without text, no answer at the end."""

from __future__ import annotations

import json

_AFTER = {
    "": {"system", "user"},
    "system": {"user"},
    "user": {"assistant"},
    "assistant": {"user", "tool"},
    "tool": {"assistant", "tool"},
}
"""Which role may follow which."""


def turn_fault(text: str) -> str:
    """What is wrong with a conversation (JSON list of role and content), in words; empty if nothing is."""
    turns = json.loads(text)
    if not turns:
        return "no turns"
    before = ""
    for number, turn in enumerate(turns, start=1):
        role = turn.get("role", "")
        if role not in _AFTER or not role:
            return f"turn {number}: unknown role {role!r}"
        if role not in _AFTER[before]:
            return f"turn {number}: {role} after {before}" if before else f"begins with {role}"
        if not (turn.get("content") or "").strip():
            return f"turn {number}: empty"
        before = role
    return "" if before == "assistant" else f"ends with {before}"
