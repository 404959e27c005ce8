"""Who answers on Chat: the base, its fine-tunes, endpoints, each with its own template or another one.

Picks arms; knows nothing of engines and answers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import streamlit as st

from core.chat.settings import PLAIN
from core.errors import NotFoundError
from core.jobs.submissions import run_model
from core.prompts.templates import find_template, list_templates
from core.records import Arm, Conversation, ModelRef, NamedEndpoint, Run, Template
from core.store.endpoints import delete_endpoint, list_endpoints
from pages.ui import endpointform, states
from pages.ui.selection import Selection

BASE = "base"
MOST_ARMS = 4
_ENDPOINT = "endpoint:"
_PICKED, _ADDED, _PENDING = "chat_arms", "chat_added", "chat_pick"


@dataclass(frozen=True)
class Speaker:
    """An arm to choose. ``template`` None: the training's, or the one that the settings say."""

    key: str
    run: Run | None = None
    endpoint: NamedEndpoint | None = None
    template: Template | None = None

    @property
    def name(self) -> str:
        """How it is called in the picker and in sentences."""
        who = self.run.name if self.run else self.endpoint.name if self.endpoint else "Base"
        return f"{who} · {self.template.name}" if self.template else who

    @property
    def adapter(self) -> Run | None:
        """The run whose adapter answers; a full fine-tune has none, it is a model of its own."""
        return self.run if self.run is not None and self.run.spec.method != "full" else None


def pick(selection: Selection, runs: Sequence[Run]) -> tuple[tuple[Speaker, ...], ModelRef]:
    """Draw the picker; who was picked, and the one local model under those that aren't endpoints.

    Fine-tunes of one base can be asked at once; picking one leaves out those of other bases, and says so.
    """
    known = _known(selection, runs)
    _apply_pending(known, selection)
    st.session_state.setdefault(_PICKED, [BASE, *[key for key, one in known.items() if one.adapter][:1]])
    picked = st.pills(
        "Who answers",
        list(known),
        format_func=lambda key: known[key].name,
        selection_mode="multi",
        key=_PICKED,
        label_visibility="collapsed",
    )
    _add(known)
    wanted = [known[key] for key in picked or [BASE]]
    return _together(wanted, selection.model)


def said_of(wanted: Sequence[Speaker]) -> str:
    """Names for a sentence."""
    names = [one.name if one.name != "Base" else "the base model" for one in wanted]
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def pick_arms_of(talk: Conversation) -> None:
    """From the next run on, pick the arms that answered a conversation last, as far as they are there."""
    answered = [turn.arm for turn in talk.turns if turn.arm is not None and turn.arm < len(talk.arms)]
    last = max((place for place, turn in enumerate(talk.turns) if turn.role == "user"), default=0)
    arms = [turn.arm for turn in talk.turns[last:] if turn.arm is not None and turn.arm in answered]
    st.session_state[_PENDING] = [_key_of(talk.arms[arm]) for arm in arms]


def pick_run(run: Run) -> None:
    """From the next run on, pick the base and this fine-tune of it; a full one alone, as a model of its own."""
    st.session_state[_PENDING] = [f"{run.run_id}|"] if run.spec.method == "full" else [f"{BASE}|", f"{run.run_id}|"]


def _key_of(arm: Arm) -> str:
    who = arm.run or (f"{_ENDPOINT}{arm.model.name}" if arm.model.source == "endpoint" else BASE)
    return f"{who}|{arm.template}"


def _known(selection: Selection, runs: Sequence[Run]) -> dict[str, Speaker]:
    """Everybody who can be picked: base, finished fine-tunes, endpoints, and what was added with another template."""
    base = Speaker(BASE)
    endpoints = {endpoint.name: endpoint for endpoint in list_endpoints()}
    if selection.model.source == "endpoint" and selection.model.name in endpoints:
        base = Speaker(BASE, endpoint=endpoints[selection.model.name])
    known = {BASE: base}
    known |= {run.run_id: Speaker(run.run_id, run=run) for run in runs if run.complete}
    known |= {f"{_ENDPOINT}{name}": Speaker(f"{_ENDPOINT}{name}", endpoint=one) for name, one in endpoints.items()}
    for key in st.session_state.get(_ADDED, []):
        who, _, ref = key.partition("|")
        if who in known and (template := _template(ref)) is not None:
            known[key] = Speaker(key, known[who].run, known[who].endpoint, template)
    return known


def _template(ref: str) -> Template | None:
    if ref == PLAIN.ref:
        return PLAIN
    try:
        return find_template(ref)
    except NotFoundError:
        return None


def _apply_pending(known: dict[str, Speaker], selection: Selection) -> None:
    """Pick what was added or what a reopened conversation was asked with, before the picker is drawn."""
    wanted: list[str] = []
    for key in st.session_state.pop(_PENDING, []):
        who, _, ref = key.partition("|")
        speaker = known.get(who)
        if speaker is None or (ref and _template(ref) is None):
            continue
        own = (speaker.run.template if speaker.run else selection.template or PLAIN).ref
        if not ref or ref == own:
            wanted.append(who)
        else:
            added = st.session_state.setdefault(_ADDED, [])
            if key not in added:
                added.append(key)
            known[key] = Speaker(key, speaker.run, speaker.endpoint, _template(ref))
            wanted.append(key)
    if wanted:
        st.session_state[_PICKED] = list(dict.fromkeys(wanted))
    elif _PICKED in st.session_state:  # one that isn't there any more can't stay picked
        st.session_state[_PICKED] = [key for key in st.session_state[_PICKED] if key in known]


def _together(wanted: Sequence[Speaker], selected: ModelRef) -> tuple[tuple[Speaker, ...], ModelRef]:
    tuned = [one.run for one in wanted if one.run is not None]
    model = run_model(tuned[0]) if tuned else selected
    fitting = [one for one in wanted if one.run is None or run_model(one.run) == model]
    if len(fitting) < len(wanted):
        others = ", ".join(one.name for one in wanted if one not in fitting)
        st.caption(f"{states.plain(others)}: another base than {states.plain(tuned[0].name)}. Ask it by itself.")
    if len(fitting) > MOST_ARMS:
        st.caption(f"{MOST_ARMS} answer at once: {states.plain(', '.join(one.name for one in fitting[MOST_ARMS:]))} is left out.")
    return tuple(fitting[:MOST_ARMS]), model


# ---------------------------------------------------------------- to add one


def _add(known: dict[str, Speaker]) -> None:
    with st.popover("Add", icon=":material/add:", key="chat_add", help="The same model with another template, or an endpoint"):
        kind = st.segmented_control("What to add", ["Another template", "An endpoint"], default="Another template",
                                    key="chat_add_kind", label_visibility="collapsed", required=True)  # fmt: skip
        if kind == "An endpoint":
            _add_endpoint()
        else:
            _add_template({key: one for key, one in known.items() if one.template is None})


def _add_template(known: dict[str, Speaker]) -> None:
    who = st.selectbox("Who", list(known), format_func=lambda key: known[key].name, key="chat_add_who")
    refs = {PLAIN.ref: "free chat, nothing around it"} | {t.ref: t.ref for t in reversed(list_templates())}
    ref = st.selectbox("Answers with the template", list(refs), format_func=refs.__getitem__, key="chat_add_template")
    if st.button("Add", key="chat_add_one"):
        _pick_also(f"{who}|{ref}")


def _add_endpoint() -> None:
    st.caption("A server that speaks OpenAI's chat protocol: vLLM, Ollama, a provider, or `python -m core serve`.")
    values = endpointform.fields("chat_endpoint", wide=False)
    if st.button("Add", key="chat_add_endpoint"):
        with states.catching():
            _pick_also(f"{_ENDPOINT}{endpointform.keep(values).name}")
    for endpoint in list_endpoints():
        with st.container(horizontal=True, vertical_alignment="center"):
            st.markdown(f"**{states.plain(endpoint.name)}** {states.plain(endpoint.model)}")
            key = f"chat_forget_{endpoint.name}"
            st.button("Forget", key=key, type="tertiary", on_click=delete_endpoint, args=(endpoint.name,))


def _pick_also(key: str) -> None:
    st.session_state[_PENDING] = [*(st.session_state.get(_PICKED) or []), key]
    st.rerun()
