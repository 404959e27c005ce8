"""The pieces of the Chat page: arms, settings, kept conversations, and how an answer is shown.

Knows nothing of the engine; answers come as text.
"""

from __future__ import annotations

import html
import json
from dataclasses import dataclass

import streamlit as st

from core.chat import PLAIN, PRESETS, to_markdown, to_rows
from core.data.answers import parse_answer
from core.jobs.submissions import run_model
from core.records import Conversation, GenerationSettings, ModelRef, Run, Template, Turn, new_id
from core.store.datasets import read_rows
from core.store.runs import delete_conversation, list_conversations, save_conversation
from pages.ui import formats, marks
from pages.ui.selection import Selection

BASE = "base"
MOST_ARMS = 4


@dataclass(frozen=True)
class Choice:
    """What answers a question: arms (None is the base), the model under them, template, settings, words around."""

    runs: tuple[Run | None, ...]
    model: ModelRef
    template: Template
    settings: GenerationSettings
    instruction: str
    elements: tuple[str, ...]
    system: str
    remember: bool
    streamed: bool

    @property
    def extraction(self) -> bool:
        """Whether answers are read as elements."""
        return self.template.name != PLAIN.name and bool(self.elements)

    def template_of(self, run: Run | None) -> Template:
        """The template an arm is asked with: a fine-tune's own, unless free chat was chosen."""
        return run.template if run is not None and self.template.name != PLAIN.name else self.template

    def names(self) -> list[str]:
        """A short name for each arm."""
        return ["base" if run is None else run.name for run in self.runs]


def arms(selection: Selection, runs: list[Run]) -> tuple[tuple[Run | None, ...], ModelRef]:
    """Pick who answers. Fine-tunes of one base can be asked at once; choosing one hides those of other bases."""
    ready = {run.run_id: run for run in runs if run.complete and run.spec.method != "full"}
    names = {BASE: "Base"} | {key: run.name for key, run in ready.items()}
    default = [BASE, *list(ready)[:1]]
    picked = st.pills(
        "Who answers",
        list(names),
        default=default,
        format_func=names.__getitem__,
        selection_mode="multi",
        key="chat_arms",
        label_visibility="collapsed",
    )
    chosen = list(picked or [BASE])[:MOST_ARMS]
    tuned = [ready[key] for key in chosen if key in ready]
    if not tuned:
        return (None,), selection.model
    model = run_model(tuned[0])
    others = [run for run in tuned if run_model(run) != model]
    if others:
        st.caption(f"{', '.join(run.name for run in others)} has another base than {tuned[0].name}: ask it by itself.")
    kept = [None if key == BASE else ready[key] for key in chosen if key == BASE or run_model(ready[key]) == model]
    return tuple(kept), model


def settings(selection: Selection, runs: tuple[Run | None, ...], model: ModelRef) -> Choice:
    """The settings in a popover, with the training's template as the start."""
    tuned = next((run for run in runs if run is not None), None)
    trained = tuned.template if tuned else selection.template or PLAIN
    with st.popover("Settings", icon=":material/tune:", key="chat_settings"):
        templates = {
            trained.ref: f"{trained.ref}, as in training" if tuned else trained.ref,
            PLAIN.ref: "free chat, nothing around it",
        }
        name = st.radio("Template", list(templates), format_func=templates.__getitem__, key=f"chat_template_{trained.ref}")
        template = trained if name == trained.ref else PLAIN
        if tuned and template is PLAIN:
            st.warning(
                f"{tuned.name} was trained with {trained.ref}; with another template it answers worse.", icon=":material/warning:"
            )
        instruction = ""
        if template is not PLAIN:
            instruction = st.text_area(
                "Instruction",
                _instruction(selection),
                key=f"chat_instruction_{selection.label}",
                help="As the rows of the dataset have it.",
            )
        system = st.text_area("System text", "", key="chat_system", placeholder="the template's own")
        preset = st.segmented_control("Generation", list(PRESETS), default="Greedy", key="chat_preset", required=True)
        start = PRESETS[preset or "Greedy"]
        made = GenerationSettings(
            max_new_tokens=st.number_input("New tokens at most", 1, 8192, start.max_new_tokens, key=f"chat_tokens_{preset}"),
            temperature=st.slider(
                "Temperature", 0.0, 2.0, start.temperature, key=f"chat_temperature_{preset}", help="0 is greedy."
            ),
            top_p=st.slider(
                "Top p", 0.05, 1.0, start.top_p, key=f"chat_top_p_{preset}", help="Smallest set of tokens with this mass."
            ),
            top_k=st.number_input("Top k", 0, 1000, start.top_k, key=f"chat_top_k_{preset}", help="0: no limit."),
            repetition_penalty=st.slider("Repetition penalty", 0.8, 2.0, start.repetition_penalty, key=f"chat_penalty_{preset}"),
            seed=st.number_input("Seed", 0, 2**31 - 1, 0, key="chat_seed"),
        )
        remember = st.toggle(
            "Remember earlier turns", template is PLAIN, key=f"chat_remember_{template.name}", help="Off: as in training."
        )
        streamed = st.toggle("Show the answer as it comes", True, key="chat_streamed")
    elements = selection.dataset.elements if selection.dataset else ()
    return Choice(runs, model, template, made, instruction, elements, system, remember, streamed)


@st.cache_data(max_entries=32, show_spinner=False)
def _first_instruction(dataset: str, version: int) -> str:
    table = read_rows(dataset, version, columns=["instruction"], limit=1)
    return str(table["instruction"][0]) if table.num_rows else ""


def _instruction(selection: Selection) -> str:
    if selection.dataset is None or selection.version is None:
        return ""
    return _first_instruction(selection.dataset.name, selection.version.number)


def conversation() -> Conversation:
    """The conversation in view, kept in the store from its first question on; pick, rename, export or delete one."""
    kept = {c.conversation_id: c for c in list_conversations()}
    current = kept.get(st.session_state.get("conversation", ""))
    with st.popover("Conversations", icon=":material/history:", key="chat_kept"):
        if st.button("New conversation", icon=":material/add:", key="chat_new"):
            st.session_state.pop("conversation", None)
            st.rerun()
        for key, talk in list(kept.items())[:30]:
            here = current is not None and key == current.conversation_id
            if st.button(talk.name, key=f"open_{key}", type="secondary" if here else "tertiary", width="stretch"):
                st.session_state["conversation"] = key
                st.rerun()
        if current is not None:
            _manage(current)
    return current or Conversation(conversation_id=new_id("chat"), name="New conversation")


def _manage(current: Conversation) -> None:
    st.divider()
    name = st.text_input("Name", current.name, key=f"name_{current.conversation_id}")
    if name.strip() and name != current.name:
        save_conversation(current.model_copy(update={"name": name.strip()}))
        st.rerun()
    rows = "\n".join(json.dumps(to_rows(current, i), ensure_ascii=False) for i in range(max(1, len(current.arms))))
    with st.container(horizontal=True):
        st.download_button("Markdown", to_markdown(current), f"{current.conversation_id}.md", key="chat_md", on_click="ignore")
        st.download_button("JSON Lines", rows, f"{current.conversation_id}.jsonl", key="chat_jsonl", on_click="ignore")
        if st.button("Delete", icon=":material/delete:", key="chat_delete"):
            delete_conversation(current.conversation_id)
            st.session_state.pop("conversation", None)
            st.rerun()


def exchange(talk: Conversation, question: Turn, answers: list[Turn], *, extraction: bool) -> None:
    """A question and the answers to it, side by side."""
    with st.chat_message("user", avatar=":material/person:"):
        st.html(marks.marked(question.content, []))
    if not answers:
        return
    for cell, turn in zip(st.columns(len(answers), gap="large"), answers, strict=True):
        with cell:
            name = talk.arms[turn.arm].name if turn.arm is not None and turn.arm < len(talk.arms) else "answer"
            st.markdown(f"**{_plain(name)}**")
            answer(turn, question.content, extraction=extraction)


def answer(turn: Turn, source: str, *, extraction: bool) -> None:
    """One answer: its text or its elements against the source, and how quick it was."""
    parsed = parse_answer(turn.content) if extraction else None
    if parsed is not None and parsed.ok:
        found, values = marks.ground(parsed, source, "predicted")
        st.html(marks.marked(source, found))
        st.html(_elements(values))
        with st.expander("Raw answer"):
            st.code(turn.content, language="json", wrap_lines=True)
    elif parsed is not None:
        st.markdown(f":red[Not readable as JSON:] {_plain(parsed.error)}")
        st.code(turn.content or "(empty)", language=None, wrap_lines=True)
    else:
        st.html(marks.marked(turn.content or "(empty)", []))
    st.caption(speed(turn))


def speed(turn: Turn) -> str:
    """Tokens, rate and time to the first token of an answer."""
    rate = turn.tokens_out / turn.seconds if turn.seconds else 0.0
    parts = [
        f"{formats.count(turn.tokens_in)} tokens in, {formats.count(turn.tokens_out)} out",
        f"{formats.number(rate)} tokens/s",
        f"first token after {formats.duration(turn.first_token_seconds)}",
    ]
    return " · ".join([*parts, "stopped"] if turn.stopped else parts)


def _elements(values: dict[str, list[marks.Value]]) -> str:
    if not values:
        return '<div class="tw-key">No element found: the answer is {}.</div>'
    rows = []
    for name, found in values.items():
        chips = "".join(
            f'<span class="tw-chip {"absent" if v.kind == "absent" else "predicted"}">{html.escape(v.text) or "(empty)"}</span>'
            + ('<span class="tw-label">not in the text</span>' if v.kind == "absent" else "")
            for v in found
        )
        rows.append(f'<tr><td class="name">{html.escape(name)}</td><td>{chips}</td></tr>')
    return f'<table class="tw-table"><tbody>{"".join(rows)}</tbody></table>'


def _plain(text: str) -> str:
    return "".join(f"\\{c}" if c in "\\`*_{}[]()#+!|<>$~:" else c for c in text)


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
        if st.button(_plain(" ".join(text.split())), key=f"try_{place}", type="tertiary", icon=":material/chat_bubble_outline:"):
            return text
    return None
