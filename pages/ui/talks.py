"""Conversations on Chat: the one in view, those that are kept, rename, export, delete, and the link to one.

The one in view stands in the session and in the address (``?conversation=``). Knows nothing of answers.
"""

from __future__ import annotations

import streamlit as st

from core.chat.talk import UNNAMED, to_json_lines, to_markdown
from core.errors import NotFoundError
from core.records import Conversation, new_id
from core.store.runs import delete_conversation, get_conversation, list_conversations, save_conversation
from pages.ui import formats, speakers, states

KEY = "conversation"
_SHOWN = 30


def turn_to(conversation_id: str | None) -> None:
    """Make a conversation the one in view, or none."""
    for key in ("chat_editing", "chat_draft", "chat_keeping"):
        st.session_state.pop(key, None)
    if conversation_id is None:
        st.session_state.pop(KEY, None)
        st.query_params.pop(KEY, None)
    else:
        st.session_state[KEY] = conversation_id
        st.query_params[KEY] = conversation_id


def current() -> Conversation:
    """The conversation in view; a new one, stored with its first question, where there is none."""
    linked, held = st.query_params.get(KEY), st.session_state.get(KEY)
    wanted = linked or held
    if wanted:
        try:
            found = get_conversation(wanted)
        except NotFoundError as fault:
            turn_to(None)
            states.error(fault, kept="A new conversation begins here.")
        else:
            if linked and linked != held:
                speakers.pick_arms_of(found)
            if not (linked and held == linked):
                turn_to(wanted)
            return found
    return Conversation(conversation_id=new_id("chat"), name=UNNAMED)


def panel(talk: Conversation) -> None:
    """Those that are kept, and what can be done with the one in view."""
    with st.popover("Conversations", icon=":material/history:", key="chat_kept"):
        if st.button("New conversation", icon=":material/add:", key="chat_new"):
            turn_to(None)
            st.rerun()
        kept = list_conversations(_SHOWN)
        for other in kept:
            here = other.conversation_id == talk.conversation_id
            asked = sum(turn.role == "user" for turn in other.turns)
            label = f"{states.plain(other.name)} :gray[{formats.plural(asked, 'question')}, {other.created_at:%m-%d %H:%M}]"
            if st.button(label, key=f"open_{other.conversation_id}", type="secondary" if here else "tertiary", width="stretch"):
                turn_to(other.conversation_id)
                speakers.pick_arms_of(other)
                st.rerun()
        if talk.turns:
            _manage(talk)


def _manage(talk: Conversation) -> None:
    st.divider()
    key = talk.conversation_id
    name = st.text_input("Name", talk.name, key=f"name_{key}", max_chars=80).strip()
    if name and name != talk.name:
        save_conversation(talk.model_copy(update={"name": name}))
        st.rerun()
    with st.container(horizontal=True):
        st.download_button("Markdown", to_markdown(talk), f"{key}.md", "text/markdown", key="chat_md", on_click="ignore")
        st.download_button(
            "JSON Lines", to_json_lines(talk), f"{key}.jsonl", "application/jsonl", key="chat_jsonl", on_click="ignore",
            help="A row for each arm, as Data imports it.",
        )  # fmt: skip
        sure = st.session_state.get("chat_deleting") == key
        if st.button("Delete for good" if sure else "Delete", icon=":material/delete:", key="chat_delete"):
            if sure:
                st.session_state.pop("chat_deleting")
                delete_conversation(key)
                turn_to(None)
            else:
                st.session_state["chat_deleting"] = key
            st.rerun()
