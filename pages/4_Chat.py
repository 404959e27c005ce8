"""How does it answer? One question to the base, its fine-tunes and endpoints, side by side, with the elements they found."""

from __future__ import annotations

import streamlit as st

from core.chat.talk import before, branch, exchanges
from core.errors import UserError
from core.store.runs import list_runs
from pages.ui import answers, chatsettings, engine, formats, servepanel, shell, speakers, states, talks, took
from pages.ui.asking import ask, settled

AGAIN, FAULT = "chat_again", "chat_fault"

selection = shell.begin("Chat")
runs = list_runs()
settled()
talk = talks.current()
head = st.container()
with st.container(horizontal=True, vertical_alignment="center", key="chat_bar"):
    chosen, model = speakers.pick(selection, runs)
    st.space("stretch")
    choice = chatsettings.settings(selection, chosen, model)
    talks.panel(talk)
    servepanel.panel([one.run for one in chosen])

names = states.plain(speakers.said_of(chosen))
asked = sum(turn.role == "user" for turn in talk.turns)
with head:
    local = any(one.endpoint is None for one in chosen)
    ready = (
        f"{choice.model.label} is in memory."
        if engine.in_memory(choice.model)
        else f"{choice.model.label} is loaded with the next question."
    )
    ready = ready if local else "Nothing is loaded for it here."
    if asked:
        shell.answer(
            f"{states.plain(talk.name)}: {formats.plural(asked, 'question')}",
            f"{names.replace('the', 'The', 1) if names.startswith('the base model') else names} "
            f"answer{'s' if len(chosen) == 1 else ''} the next one. {ready}",
        )
    else:
        shell.answer(
            f"Ask {names}, and see the elements each finds" if len(chosen) > 1 else f"Ask {names}, and see how it answers",
            f"Template {choice.template.ref}. {ready}",
        )


def ask_again(place: int, text: str, edited: bool) -> None:
    """From the next run on, ask a question of the conversation anew."""
    st.session_state[AGAIN] = {"place": place, "text": text, "edited": edited}


again = st.session_state.pop(AGAIN, None)
shown = before(talk, again["place"]) if again else talk
resent = answers.conversation(shown, selection)
if resent:
    st.session_state[answers.DRAFT] = resent[1]
    ask_again(resent[0].place, resent[1], True)
    st.rerun()
if fault_before := st.session_state.pop(FAULT, None):
    states.error(fault_before, kept="Nothing was replaced; your question is kept.")
below = st.empty()
if shown.turns and not again:
    last = exchanges(talk)[-1]
    with below.container(horizontal=True, vertical_alignment="center"):
        st.button(
            "Ask the last question again", icon=":material/refresh:", type="tertiary", key="chat_regenerate",
            on_click=ask_again, args=(last.place, last.question.content, False),
            help="The new answers take the place of the last.",
        )  # fmt: skip
        took.total_line(talk)
offered = st.empty()
tried = None
if not talk.turns:
    with offered.container():
        tried = answers.try_one(selection)
typed = st.chat_input("Type or paste a text", key="chat_text", submit_mode="disable")
text = again["text"] if again else tried or typed
if text:
    offered.empty()
    below.empty()
    try:
        if again:
            left = branch(talk, again["place"]) if again["edited"] else None
            ask(shown, text, choice, instead=[left] if left else [])
        else:
            ask(talk, text, choice)
    except UserError as fault:
        st.session_state[FAULT] = fault
    st.rerun()
