"""One question to every arm, one after the other, each answer drawn as it comes and kept as soon as it ends.

A stop, a closed tab or a fault keeps what was said until then.
"""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

import streamlit as st

from core.chat import Answering, Question, arm_of, context_length, history_of, prepare
from core.models.catalogue import resolve
from core.models.tokenizer import load_tokenizer
from core.records import Arm, Conversation, Turn
from core.store.runs import save_conversation
from pages.ui import engine
from pages.ui.chatview import Choice

UNNAMED = "New conversation"


def ask(talk: Conversation, text: str, choice: Choice) -> None:
    """Let all arms of ``choice`` answer ``text`` after what was said in ``talk``. UserError: too long, or no device."""
    arms = tuple(arm_of(run, choice.model, choice.template_of(run), choice.settings) for run in choice.runs)
    first = _first_of(talk, arms)
    before = talk
    talk = save_conversation(_opened(talk, text, arms, first))
    st.session_state["conversation"] = talk.conversation_id
    with st.chat_message("user", avatar=":material/person:"):
        st.text(text)
    tokenizer = load_tokenizer(choice.model)
    questions = [_question(before, text, choice, place, first, tokenizer) for place in range(len(arms))]
    attached = [run for run in choice.runs if run is not None]
    waiting = "Answering" if engine.loaded() == choice.model else "Loading the model"
    with ExitStack() as held:
        with st.spinner(waiting):
            model = held.enter_context(engine.answering(choice.model, attached))
        cells = st.columns(len(arms), gap="large")
        for place, (cell, run, question) in enumerate(zip(cells, choice.runs, questions, strict=True)):
            adapter = run.run_id if run else None
            said = Answering(model, question, choice.settings, arm=first + place, adapter=adapter, tokenizer=tokenizer)
            try:
                with cell:
                    _draw(said, question, arms[place].name, choice.streamed)
            finally:
                talk = save_conversation(talk.model_copy(update={"turns": (*talk.turns, said.turn)}))


def _first_of(talk: Conversation, arms: tuple[Arm, ...]) -> int:
    """The place of these arms in the conversation: those of the question before, or new ones behind them."""
    return len(talk.arms) - len(arms) if talk.arms[-len(arms) :] == arms else len(talk.arms)


def _opened(talk: Conversation, text: str, arms: tuple[Arm, ...], first: int) -> Conversation:
    name = text.strip().splitlines()[0][:40] if talk.name == UNNAMED and text.strip() else talk.name
    turns = (*talk.turns, Turn(role="user", content=text))
    return talk.model_copy(update={"name": name, "arms": (*talk.arms[:first], *arms), "turns": turns})


def _question(before: Conversation, text: str, choice: Choice, place: int, first: int, tokenizer: Any) -> Question:
    return prepare(
        choice.template_of(choice.runs[place]),
        text,
        tokenizer=tokenizer,
        settings=choice.settings,
        context=context_length(resolve(choice.model)),
        instruction=choice.instruction,
        elements=choice.elements,
        system=choice.system,
        history=history_of(before, first + place) if choice.remember else (),
    )


def _draw(said: Answering, question: Question, name: str, streamed: bool) -> None:
    st.markdown(f"**{name}**")
    if question.left_out:
        st.caption(f"The {question.left_out} oldest messages don't fit the window and are left out.")
    shown = st.empty()
    for _ in said:
        if streamed:
            shown.code(said.text, language=None, wrap_lines=True)
