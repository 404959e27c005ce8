"""How Chat shows a question and the answers to it, side by side: text or elements, grounded or not, how quick.

What a reader can do with them (edit, keep) is drawn here and told to the session; the page does it.
"""

from __future__ import annotations

import streamlit as st

from core.chat.settings import PLAIN
from core.chat.talk import Exchange, exchanges, name_of
from core.data.answers import Break, break_of, parse_answer
from core.errors import UserError
from core.records import Conversation, Turn
from core.store.datasets import read_rows
from pages.ui import formats, keeping, marks, states, took
from pages.ui.selection import Selection

EDITING, DRAFT = "chat_editing", "chat_draft"
_SHOWN = 20


def conversation(talk: Conversation, selection: Selection) -> tuple[Exchange, str] | None:
    """Draw all of a conversation, the last exchanges first if it is long; an earlier question and its new words, if edited."""
    found = exchanges(talk)
    if len(found) > _SHOWN and st.session_state.get("chat_all") != talk.conversation_id:
        label = f"Show the {formats.plural(len(found) - _SHOWN, 'earlier question')}"
        if st.button(label, key="chat_show_all", type="tertiary", icon=":material/expand_less:"):
            st.session_state["chat_all"] = talk.conversation_id
            st.rerun()
        found = found[-_SHOWN:]
    resent = None
    for exchange in found:
        edited = _question(talk, exchange)
        resent = (exchange, edited) if edited else resent
        _answers(talk, exchange, selection)
    return resent


def _question(talk: Conversation, exchange: Exchange) -> str | None:
    """The question; its new words when it was edited and is to be asked again."""
    mark = f"{talk.conversation_id}_{exchange.place}"
    with st.chat_message("user", avatar=":material/person:"):
        if st.session_state.get(EDITING) == mark:
            return _editor(exchange, mark)
        with st.container(horizontal=True, wrap=False, vertical_alignment="top", key=f"asked_{mark}"):
            st.html(marks.marked(exchange.question.content, []))
            help_ = "Ask in other words. What followed is replaced; a copy of it is kept."
            if st.button("", icon=":material/edit:", type="tertiary", key=f"edit_{mark}", help=help_):
                st.session_state[EDITING] = mark
                st.session_state.pop(DRAFT, None)
                st.rerun()
    return None


def _editor(exchange: Exchange, mark: str) -> str | None:
    with st.form(f"form_{mark}", border=False, enter_to_submit=False):
        text = st.text_area(
            "Ask instead",
            st.session_state.get(DRAFT, exchange.question.content),
            key=f"text_{mark}",
            label_visibility="collapsed",
        )
        with st.container(horizontal=True):
            asked = st.form_submit_button("Ask this instead", type="primary")
            left = st.form_submit_button("Leave it", type="tertiary")
    if left:
        st.session_state.pop(EDITING, None)
        st.session_state.pop(DRAFT, None)
        st.rerun()
    return (text or "").strip() or None if asked else None


def _answers(talk: Conversation, exchange: Exchange, selection: Selection) -> None:
    if not exchange.answers:
        st.caption("Not answered.")
        return
    with st.container(key=f"answers_{talk.conversation_id}_{exchange.place}"):
        cells = st.columns(len(exchange.answers), gap="large")
    for cell, (place, turn) in zip(cells, exchange.answers, strict=True):
        with cell:
            st.markdown(f"**{states.plain(name_of(talk, turn))}**")
            _answer(turn, exchange.question.content, extraction=is_extraction(talk, turn, selection))
            if turn.content:
                keeping.offer(talk, place)
    keeping.form(talk, exchange, selection)


def is_extraction(talk: Conversation, turn: Turn, selection: Selection) -> bool:
    """Whether an answer is read as elements: not in free chat, and not where the dataset is of another kind."""
    known = turn.arm is not None and turn.arm < len(talk.arms)
    free = known and turn.arm is not None and talk.arms[turn.arm].template == PLAIN.ref
    return not free and (selection.dataset is None or selection.dataset.task == "extraction")


def _answer(turn: Turn, source: str, *, extraction: bool) -> None:
    if turn.error:
        states.error(UserError(turn.error, turn.hint))
        if not turn.content:
            return
    parsed = parse_answer(turn.content) if extraction else None
    if parsed is not None and parsed.ok:
        found, values = marks.ground(parsed, source, "predicted")
        st.html(marks.marked(source, found))
        st.html(marks.values_table(values))
        with st.expander("Raw answer"):
            st.code(turn.content, language="json", wrap_lines=True)
    elif parsed is not None and turn.content:
        _unreadable(turn, parsed.error)
    else:
        st.html(marks.marked(turn.content or "(empty)", []))
    took.answer_line(turn)


def _unreadable(turn: Turn, reason: str) -> None:
    """An answer that is no JSON object: why, and where it breaks."""
    fault = break_of(turn.content)
    if fault is None:
        st.markdown(f":red[Not elements:] {states.plain(reason)}")
        st.html(marks.marked(turn.content, []))
        return
    where = f"line {fault.line}, character {fault.column}" if "\n" in turn.content else f"character {fault.column}"
    st.markdown(f":red[No JSON from {where} on:] {states.plain(_why(turn, fault))}")
    st.html(marks.broken(turn.content, fault.position))


_WHY = {
    "Unterminated string starting": "the string that begins there doesn't end",
    "Expecting value": "a value was expected",
    "Expecting ',' delimiter": "a comma was expected",
    "Expecting ':' delimiter": "a colon was expected",
    "Expecting property name enclosed in double quotes": "a name in double quotes was expected",
    "Extra data": "more text follows the object",
}


def _why(turn: Turn, fault: Break) -> str:
    """The parser's reason in plainer words."""
    if fault.position >= len(turn.content.rstrip()):
        return "it was cut off there" if turn.cut or turn.stopped else "it ends there"
    if not turn.content[: fault.position].strip():
        return "it begins with other text"
    return _WHY.get(fault.reason, fault.reason)


@st.cache_data(max_entries=32, show_spinner=False)
def _examples(dataset: str, version: int) -> list[str]:
    """A few texts to try: the first and last rows of test, short enough to read."""
    table = read_rows(dataset, version, columns=["input", "messages"], split="test")
    texts = [
        t.as_py() for t, m in zip(table["input"], table["messages"], strict=True) if not m.is_valid and 0 < len(t.as_py()) <= 200
    ]
    return list(dict.fromkeys([*texts[:2], *texts[-1:]]))


def try_one(selection: Selection) -> str | None:
    """Rows of test that can be asked with one click; the text of the one that was clicked."""
    if selection.dataset is None or selection.version is None:
        return None
    texts = _examples(selection.dataset.name, selection.version.number)
    if not texts:
        return None
    st.caption(f"Try a row of {selection.dataset.name} that no training has seen")
    for place, text in enumerate(texts):
        shown = states.plain(" ".join(text.split()))
        if st.button(shown, key=f"try_{place}", type="tertiary", icon=":material/chat_bubble_outline:"):
            return text
    return None
