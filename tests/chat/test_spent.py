"""What a conversation took: summed over answers and arms, those that were replaced among it."""

from __future__ import annotations

import pytest

from core.chat.spent import by_arm, spent, together, total
from core.chat.talk import before
from core.records import Arm, Conversation, Spent, Turn


def answer(arm: int, tokens_in: int, tokens_out: int, cost: float | None = None) -> Turn:
    return Turn(
        role="assistant", content="a", arm=arm, tokens_in=tokens_in, tokens_out=tokens_out, seconds=2.0, cost=cost
    )  # fmt: skip


TALK = Conversation(
    conversation_id="chat-1",
    name="Talk",
    arms=(Arm(name="here"), Arm(name="there")),
    turns=(
        Turn(role="user", content="q"),
        answer(0, 10, 5),
        answer(1, 12, 7, 0.25),
        Turn(role="user", content="q"),
        answer(0, 20, 6),
        Turn(role="assistant", content="", arm=1, error="it is down"),
    ),
)


def test_answers_are_summed_and_an_arm_that_failed_gave_none() -> None:
    assert total(TALK) == Spent(answers=3, tokens_in=42, tokens_out=18, seconds=6.0, cost=0.25, priced=1)
    assert by_arm(TALK) == {
        0: Spent(answers=2, tokens_in=30, tokens_out=11, seconds=4.0),
        1: Spent(answers=1, tokens_in=12, tokens_out=7, seconds=2.0, cost=0.25, priced=1),
    }
    assert together(*by_arm(TALK).values()) == total(TALK)
    assert spent([]) == Spent()


def test_an_answer_that_is_replaced_was_paid_for_all_the_same() -> None:
    talk = before(TALK, 0)
    assert talk.turns == ()
    assert total(talk) == talk.replaced == total(TALK)
    again = talk.model_copy(update={"turns": TALK.turns[:3]})
    assert total(again).cost == pytest.approx(0.5)
    assert total(before(again, 0)).answers == 5
    assert Conversation.model_validate_json(again.model_dump_json()) == again


def test_a_conversation_of_before_there_were_costs_is_read() -> None:
    old = Conversation.model_validate({"conversation_id": "c", "name": "n", "turns": [{"role": "assistant", "content": "a"}]})
    assert (total(old).cost, total(old).priced, total(old).answers) == (0.0, 0, 1)
