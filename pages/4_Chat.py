"""How does it answer? One question to the base and its fine-tunes, side by side, with the elements they found."""

from __future__ import annotations

import streamlit as st

from core.errors import UserError
from core.records import Conversation, Turn
from core.store.runs import list_runs, save_conversation
from pages.ui import chatview, engine, formats, servepanel, shell, states
from pages.ui.asking import ask

selection = shell.begin("Chat")
runs = list_runs()
head = st.container()
with st.container(horizontal=True, vertical_alignment="center", key="chat_bar"):
    chosen, model = chatview.arms(selection, runs)
    st.space("stretch")
    choice = chatview.settings(selection, chosen, model)
    talk = chatview.conversation()
    servepanel.panel(chosen)

names = " and ".join(choice.names())
asked = sum(turn.role == "user" for turn in talk.turns)
with head:
    now = engine.loaded()
    ready = f"{now.label} is in memory." if now else f"{model.label} is loaded with the first question, in a few seconds."
    if asked:
        shell.answer(
            f"{talk.name}: {formats.plural(asked, 'question')}", f"{names} answer{'s' if len(chosen) == 1 else ''}. {ready}"
        )
    else:
        shell.answer(
            f"Ask {names} the same thing and see the elements each finds"
            if len(chosen) > 1
            else f"Ask {names}, and see how it answers",
            f"Template {choice.template.ref}. {ready}",
        )


def exchanges(conversation: Conversation) -> list[tuple[Turn, list[Turn]]]:
    """Each question with its answers."""
    found: list[tuple[Turn, list[Turn]]] = []
    for turn in conversation.turns:
        if turn.role == "user":
            found.append((turn, []))
        elif found:
            found[-1][1].append(turn)
    return found


for question, answers in exchanges(talk):
    chatview.exchange(talk, question, answers, extraction=choice.extraction)
again = st.session_state.pop("chat_again", None)
if talk.turns and st.button("Ask the last question again", icon=":material/refresh:", type="tertiary", key="chat_regenerate"):
    again = exchanges(talk)[-1][0].content
    place = max(i for i, turn in enumerate(talk.turns) if turn.role == "user")
    talk = save_conversation(talk.model_copy(update={"turns": talk.turns[:place]}))
offered = st.empty()
tried = None
if not talk.turns:
    with offered.container():
        tried = chatview.try_one(selection)
typed = st.chat_input("Type or paste a text", key="chat_text", submit_mode="stop")
text = again or tried or typed
if text:
    offered.empty()
    try:
        ask(talk, text, choice)
    except UserError as fault:
        states.error(fault, kept="Your question is kept in the conversation.")
    else:
        st.rerun()
