"""One question to every arm at once, each answer drawn as it comes, all of them kept when they end.

A stop, a closed tab or a fault keeps what was said until then; one arm's fault leaves the others alone.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from typing import Any

import streamlit as st
from streamlit import runtime
from streamlit.runtime.scriptrunner import get_script_run_ctx

from core.chat.asking import Answering, Speaking, Stopping, messages_for, prepare, together
from core.chat.settings import context_length
from core.chat.talk import arm_of, first_of, history_of, opened
from core.errors import UserError
from core.models.catalogue import resolve
from core.models.endpoints import EndpointEngine
from core.models.tokenizer import load_tokenizer
from core.records import Arm, Conversation, ModelRef, NamedEndpoint
from core.store.runs import save_conversation
from pages.ui import engine, formats, marks, states, talks
from pages.ui.chatsettings import Choice
from pages.ui.speakers import Speaker

_GOING = "chat_going"
_SETTLES_SECONDS = 5.0
GONE_SECONDS = 5.0
"""A tab that has been away for so long is taken for closed."""


@dataclass(frozen=True)
class Asked:
    """A question on its way: the conversation before it, its words, and how its arms stand in the conversation."""

    talk: Conversation
    text: str
    choice: Choice
    arms: tuple[Arm, ...]
    first: int


def ask(talk: Conversation, text: str, choice: Choice, *, instead: Sequence[Conversation] | None = None) -> None:
    """Let all arms of ``choice`` answer ``text`` after what was said in ``talk``.

    ``instead``: the question takes the place of others, which stay as they are until an answer begins; then these
    conversations are stored first (the course that is left, if any). UserError: too long, or no device.
    """
    arms = tuple(_arm(choice, one) for one in choice.speakers)
    asked = Asked(talk, text, choice, arms, first_of(talk, arms))
    talk = opened(talk, text, arms, instruction=choice.instruction, system=choice.system)
    if instead is None:
        save_conversation(talk)
        talks.turn_to(talk.conversation_id)
    with st.chat_message("user", avatar=":material/person:"):
        st.html(marks.marked(text, []))
    with ExitStack() as held:
        ended = st.session_state[_GOING] = threading.Event()
        held.callback(ended.set)
        said = _speaking(asked, held)
        if instead is not None:
            for other in instead:
                save_conversation(other)
            talks.turn_to(talk.conversation_id)
        try:
            _draw(said, arms, choice.streamed)
        finally:  # nothing of Streamlit can be used in here: a stop comes as an exception from it
            save_conversation(talk.model_copy(update={"turns": (*talk.turns, *(one.turn for one in said))}))


def settled() -> None:
    """Wait until an answer that this session has just stopped is kept: Streamlit begins the next run beside it."""
    going: threading.Event | None = st.session_state.get(_GOING)
    if going is not None:
        going.wait(_SETTLES_SECONDS)
        st.session_state.pop(_GOING, None)


def _arm(choice: Choice, one: Speaker) -> Arm:
    model = ModelRef(source="endpoint", name=one.endpoint.name) if one.endpoint else choice.model
    return arm_of(one.run, model, choice.template_of(one), choice.settings)


def _speaking(asked: Asked, held: ExitStack) -> list[Answering]:
    """An answer on its way for each arm. One arm's fault is its answer's; UserError if no arm can answer at all."""
    faults: list[UserError] = []
    model: Any = None
    local = [one for one in asked.choice.speakers if one.endpoint is None]
    if local:
        waiting = "Answering" if engine.in_memory(asked.choice.model) else "Loading the model"
        attached = [one.adapter for one in local if one.adapter is not None]
        try:
            with st.spinner(waiting):
                model = held.enter_context(engine.answering(asked.choice.model, attached))
        except UserError as fault:
            if len(local) == len(asked.arms):
                raise
            model = fault
    said: list[Answering] = []
    for place, one in enumerate(asked.choice.speakers):
        try:
            if one.endpoint is not None:
                said.append(_from_endpoint(asked, place, one.endpoint))
            elif isinstance(model, UserError):
                raise model
            else:
                said.append(_from_engine(asked, place, one, model))
        except UserError as fault:
            faults.append(fault)
            said.append(Answering(_failing(fault), arm=asked.first + place))
    if len(faults) == len(said):
        raise faults[0]
    return said


def _failing(fault: UserError) -> Callable[[Stopping], Speaking]:
    def fail(_: Stopping) -> Speaking:
        raise fault

    return fail


def _history(asked: Asked, place: int) -> list[dict[str, str]]:
    known = asked.talk.model_copy(update={"arms": (*asked.talk.arms[: asked.first], *asked.arms)})
    return history_of(known, asked.first + place) if asked.choice.remember else []


def _from_engine(asked: Asked, place: int, one: Speaker, model: Any) -> Answering:
    choice = asked.choice
    question = prepare(
        choice.template_of(one),
        asked.text,
        tokenizer=load_tokenizer(choice.model),
        settings=choice.settings,
        context=context_length(resolve(choice.model)),
        instruction=choice.instruction,
        elements=choice.elements,
        system=choice.system,
        history=_history(asked, place),
    )
    adapter = one.adapter.run_id if one.adapter else None
    return Answering(
        lambda stopping: model.ask(question.ids, choice.settings, adapter, question.stop, stopping),
        arm=asked.first + place,
        tokens_in=len(question.ids),
        left_out=question.left_out,
    )


def _from_endpoint(asked: Asked, place: int, endpoint: NamedEndpoint) -> Answering:
    choice, template = asked.choice, asked.choice.template_of(asked.choice.speakers[place])
    messages = messages_for(
        template,
        asked.text,
        instruction=choice.instruction,
        elements=choice.elements,
        system=choice.system,
        history=_history(asked, place),
    )
    client = EndpointEngine(endpoint, _key(endpoint.key_variable))
    return Answering(
        lambda stopping: client.ask(messages, choice.settings, template.stop, stopping),
        arm=asked.first + place,
        price=client.cost,
    )


def _key(variable: str) -> str:
    """An endpoint's key out of the environment or Streamlit's secrets; kept nowhere."""
    if variable in os.environ or not st.secrets.load_if_toml_exists():
        return os.environ.get(variable, "")
    return str(st.secrets.get(variable, ""))


def _draw(said: list[Answering], arms: Sequence[Arm], streamed: bool) -> None:
    """Show the answers as they come until all have ended, the tab is gone, or somebody stops them."""
    holes = []
    for cell, arm in zip(st.columns(len(arms), gap="large"), arms, strict=True):
        with cell:
            st.markdown(f"**{states.plain(arm.name)}**")
            holes.append(st.empty())
    with st.bottom:  # where it stays while the answers grow; a press ends this run of the page
        st.button("Stop", icon=":material/stop_circle:", key="chat_stop")
    shown = [""] * len(said)
    seen = time.monotonic()
    with closing(together(said)) as going:
        for _ in going:
            st.session_state.get("chat_stop")  # a look into the session lets a stop through
            seen = time.monotonic() if _is_here() else seen
            if time.monotonic() - seen > GONE_SECONDS:
                return
            for place, one in enumerate(said):
                text = one.text if streamed and one.text else _waiting(one)
                if text != shown[place]:
                    shown[place] = text
                    holes[place].html(marks.marked(text, [])) if text == one.text else holes[place].caption(states.plain(text))


def _waiting(one: Answering) -> str:
    """In place of an answer that isn't shown yet."""
    if one.fault is not None:
        return one.fault.message
    if one.waiting:
        return f"{formats.plural(one.waiting, 'question')} before this one"
    return "Answering" if one.text else "Reading the question"


def _is_here() -> bool:
    """Whether the browser's tab is still connected."""
    context = get_script_run_ctx()
    if context is None or not runtime.exists():
        return True
    return runtime.get_instance().is_active_session(context.session_id)
