"""What answers on Chat took: tokens, seconds, rate and cost, under each answer and for the conversation so far."""

from __future__ import annotations

import streamlit as st

from core.chat.spent import by_arm, total
from core.records import Conversation, Spent, Turn
from pages.ui import formats, states

_COUNTED = (
    "Seconds and rate are from asking to the last token, waiting for others and reading the question among it. "
    "An endpoint's cost goes by its prices of a million tokens (Models on Home); it has no currency of its own."
)


def answer_line(turn: Turn) -> None:
    """Under an answer: what it took."""
    st.caption(_words(turn), help=_COUNTED)


def _words(turn: Turn) -> str:
    """Tokens, seconds, rate, time to the first token and cost of an answer, and what is to know about its length."""
    rate = turn.tokens_out / turn.seconds if turn.seconds else 0.0
    parts = [
        (f"{formats.count(turn.tokens_in)} tokens in, " if turn.tokens_in else "")
        + (f"{formats.count(turn.tokens_out)} out" if turn.tokens_in else formats.plural(turn.tokens_out, "token")),
        f"{formats.duration(turn.seconds)}, {formats.number(rate)} tokens/s",
        f"first token after {formats.duration(turn.first_token_seconds)}",
    ]
    if turn.cost is not None:
        parts.append(f"cost {formats.number(turn.cost)}")
    if turn.left_out:
        parts.append(f"without the {turn.left_out} oldest messages, for which the window has no room")
    if turn.stopped:
        parts.append("stopped")
    if turn.cut:
        parts.append("cut off at the most tokens allowed")
    return " · ".join(parts)


def total_line(talk: Conversation) -> None:
    """What the conversation took so far; by arm in the help."""
    whole = total(talk)
    if not whole.answers:
        return
    arms = [
        f"- {states.plain(talk.arms[arm].name if arm < len(talk.arms) else 'Assistant')}: {_took(part)}"
        for arm, part in by_arm(talk).items()
    ]
    replaced = f"- replaced by others since: {_took(talk.replaced)}" if talk.replaced.answers else ""
    st.caption(f"So far {_took(whole)}", help="\n".join([*arms, replaced]) if len(arms) > 1 or replaced else None)


def _took(part: Spent) -> str:
    words = (
        f"{formats.plural(part.answers, 'answer')}: {formats.count(part.tokens_in)} tokens in, "
        f"{formats.count(part.tokens_out)} out · {formats.duration(part.seconds)} of answering"
    )
    if not part.priced:
        return words
    some = "" if part.priced == part.answers else f" ({formats.plural(part.priced, 'answer')} with a price)"
    return f"{words} · cost {formats.number(part.cost)}{some}"
