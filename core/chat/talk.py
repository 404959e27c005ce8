"""A conversation as exchanges: a question and what each arm answered, and what an edit of an earlier question does.

Makes new records; stores nothing.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from core.chat.spent import spent, together
from core.records import Arm, Conversation, GenerationSettings, ModelRef, Run, Template, Turn, new_id, now

UNNAMED = "New conversation"
_NAME = 40
"""Characters of a question that name a conversation."""
_ENDS = " .,;:!?。，；：！？、"
"""What a name made of a question doesn't end with."""


@dataclass(frozen=True)
class Exchange:
    """A question, its place among the turns, and the answers to it with theirs."""

    place: int
    question: Turn
    answers: tuple[tuple[int, Turn], ...]


def exchanges(conversation: Conversation) -> list[Exchange]:
    """Each question with its answers, in order."""
    found: list[Exchange] = []
    for place, turn in enumerate(conversation.turns):
        if turn.role == "user":
            found.append(Exchange(place, turn, ()))
        elif found:
            last = found[-1]
            found[-1] = Exchange(last.place, last.question, (*last.answers, (place, turn)))
    return found


def history_of(conversation: Conversation, arm: int) -> list[dict[str, str]]:
    """The exchanges so far as one arm saw them: questions, and its own answers. An answer that failed counts as none.

    An arm that was asked with other generation settings before, or paused for a question, is the same one.
    """
    who = _speaker(conversation, arm)
    kept: list[dict[str, str]] = []
    for turn in conversation.turns:
        if turn.role == "user":
            if kept and kept[-1]["role"] == "user":  # asked before this arm joined, or stopped before it spoke
                kept.pop()
            kept.append({"role": "user", "content": turn.content})
        elif not turn.content or turn.error or not kept or kept[-1]["role"] != "user":
            continue
        elif turn.arm == arm or _speaker(conversation, turn.arm) == who:
            kept.append({"role": "assistant", "content": turn.content})
    if kept and kept[-1]["role"] == "user":
        kept.pop()
    return kept


def _speaker(conversation: Conversation, arm: int | None) -> Arm | int | None:
    """Who speaks, whatever the generation settings; an arm that the conversation doesn't know is its place."""
    if arm is None or not 0 <= arm < len(conversation.arms):
        return arm
    return conversation.arms[arm].model_copy(update={"generation": GenerationSettings()})


def before(conversation: Conversation, place: int) -> Conversation:
    """The conversation up to a turn, without it; what the answers took that go with it counts as replaced."""
    replaced = together(conversation.replaced, spent(conversation.turns[place:]))
    return conversation.model_copy(update={"turns": conversation.turns[:place], "replaced": replaced})


def branch(conversation: Conversation, place: int) -> Conversation | None:
    """A copy to keep of a conversation whose question at ``place`` is about to be asked in other words.

    None if nothing would be lost with it: no answer stands from there on.
    """
    if not any(turn.role == "assistant" and turn.content for turn in conversation.turns[place:]):
        return None
    name = f"{conversation.name} (before the edit)"
    return conversation.model_copy(update={"conversation_id": new_id("chat"), "name": name, "created_at": now()})


def opened(talk: Conversation, text: str, arms: tuple[Arm, ...], *, instruction: str = "", system: str = "") -> Conversation:
    """The conversation with a new question, asked to ``arms``; the first question names it."""
    name = (_named_after(text) or UNNAMED) if talk.name == UNNAMED and text.strip() else talk.name
    first = first_of(talk, arms)
    turns = (*talk.turns, Turn(role="user", content=text, instruction=instruction))
    return talk.model_copy(update={"name": name, "arms": (*talk.arms[:first], *arms), "turns": turns, "system": system})


def _named_after(text: str) -> str:
    """The first line of a question; a long one ends after a whole word, or character where there are no blanks, and says so."""
    line = text.strip().splitlines()[0]
    if len(line) <= _NAME:
        return line.rstrip(_ENDS)
    start, blank, _ = line[: _NAME + 1].rpartition(" ")
    return (start if blank and len(start) > _NAME // 2 else line[:_NAME]).rstrip(_ENDS) + "…"


def first_of(talk: Conversation, arms: tuple[Arm, ...]) -> int:
    """The place of these arms among the conversation's: those of the question before, or new ones behind them."""
    return len(talk.arms) - len(arms) if talk.arms[-len(arms) :] == arms else len(talk.arms)


def arm_of(run: Run | None, model: ModelRef, template: Template, settings: GenerationSettings) -> Arm:
    """An arm of a chat: a model or an endpoint with a template, or a run on its model with its own template or another."""
    if run is None:
        return Arm(model=model, template=template.ref, generation=settings, name=f"{model.label}, {template.name}")
    own = template.ref == run.template.ref
    name = run.name if own else f"{run.name}, {template.name}"
    return Arm(model=model, run=run.run_id, template=template.ref, generation=settings, name=name)


def name_of(conversation: Conversation, turn: Turn) -> str:
    """What the arm of an answer is called."""
    known = turn.arm is not None and turn.arm < len(conversation.arms)
    return conversation.arms[turn.arm].name if known and turn.arm is not None else "Assistant"


# ---------------------------------------------------------------- to keep or pass on


def to_markdown(conversation: Conversation) -> str:
    """A conversation as Markdown, to keep or pass on."""
    lines = [f"# {conversation.name}", ""]
    if conversation.system:
        lines += [f"> {conversation.system}", ""]
    for turn in conversation.turns:
        who = "You" if turn.role == "user" else name_of(conversation, turn)
        content = turn.content or (f"(no answer: {turn.error})" if turn.error else "")
        lines += [f"**{who}**", "", content, ""]
    return "\n".join(lines)


def to_json_lines(conversation: Conversation) -> str:
    """A line for each arm that answered: its side as a multi-turn row (``messages``) that can be imported."""
    spoke = sorted({turn.arm for turn in conversation.turns if turn.arm is not None and turn.content})
    sides = [(_speaker(conversation, arm), arm) for arm in spoke]
    last = [arm for place, (who, arm) in enumerate(sides) if who not in [later for later, _ in sides[place + 1 :]]]
    return "".join(json.dumps(to_row(conversation, arm), ensure_ascii=False) + "\n" for arm in last)


def to_row(conversation: Conversation, arm: int) -> dict[str, Any]:
    """One arm's side of a conversation, with what answered."""
    opening = [{"role": "system", "content": conversation.system}] if conversation.system else []
    told: dict[str, Any] = {"messages": [*opening, *history_of(conversation, arm)]}
    if arm < len(conversation.arms):
        who = conversation.arms[arm]
        told |= {"arm": who.name, "model": who.model.name, "template": who.template}
    return told
