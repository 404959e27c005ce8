"""What a conversation took: tokens, seconds and, where there are prices, money; together and by arm. Stores nothing."""

from __future__ import annotations

from collections.abc import Iterable

from core.records import Conversation, Spent, Turn


def spent(turns: Iterable[Turn]) -> Spent:
    """What the answers among some turns took; an arm that failed before its first word gave none."""
    answers = [turn for turn in turns if turn.role == "assistant" and (turn.content or turn.tokens_out)]
    priced = [turn.cost for turn in answers if turn.cost is not None]
    return Spent(
        answers=len(answers),
        tokens_in=sum(turn.tokens_in for turn in answers),
        tokens_out=sum(turn.tokens_out for turn in answers),
        seconds=sum(turn.seconds for turn in answers),
        cost=sum(priced),
        priced=len(priced),
    )


def together(*parts: Spent) -> Spent:
    """The sum of several."""
    return Spent.model_validate({name: sum(getattr(part, name) for part in parts) for name in Spent.model_fields})


def total(conversation: Conversation) -> Spent:
    """What a conversation took so far, answers that were replaced among it: they were paid for, too."""
    return together(spent(conversation.turns), conversation.replaced)


def by_arm(conversation: Conversation) -> dict[int, Spent]:
    """What the answers that stand in a conversation took, by the place of their arm."""
    arms = sorted({turn.arm for turn in conversation.turns if turn.arm is not None})
    return {arm: spent(turn for turn in conversation.turns if turn.arm == arm) for arm in arms}
