"""How the arms of Chat are asked: template, instruction, system text, generation, what is remembered.

Knows nothing of engines and conversations.
"""

from __future__ import annotations

from dataclasses import dataclass

import streamlit as st

from core.chat.settings import PLAIN, PRESETS, context_length, local_folder, own_settings
from core.records import GenerationSettings, ModelRef, Run, Template
from core.store.datasets import read_rows
from pages.ui.selection import Selection
from pages.ui.speakers import Speaker

OWN = "own"


@dataclass(frozen=True)
class Choice:
    """What answers a question: speakers, the local model under them, template, settings, words around."""

    speakers: tuple[Speaker, ...]
    model: ModelRef
    template: Template
    settings: GenerationSettings
    instruction: str
    elements: tuple[str, ...]
    system: str
    remember: bool
    streamed: bool

    def template_of(self, speaker: Speaker) -> Template:
        """The template a speaker is asked with: its own, or a fine-tune's unless free chat was chosen."""
        if speaker.template is not None:
            return speaker.template
        run = speaker.run
        return run.template if run is not None and self.template.name != PLAIN.name else self.template


def settings(selection: Selection, speakers: tuple[Speaker, ...], model: ModelRef) -> Choice:
    """The settings in a popover, with the training's template and the model's own generation as the start."""
    tuned = next((one.run for one in speakers if one.run is not None), None)
    trained = tuned.template if tuned else selection.template or PLAIN
    with st.popover("Settings", icon=":material/tune:", key="chat_settings"):
        templates = {
            trained.ref: f"{trained.ref}, as in training" if tuned else trained.ref,
            PLAIN.ref: "free chat, nothing around it",
        }
        name = st.radio("Template", list(templates), format_func=templates.__getitem__, key=f"chat_template_{trained.ref}")
        template = trained if name == trained.ref else PLAIN
        _warn_of_templates(speakers, template)
        instruction = ""
        if template is not PLAIN:
            instruction = st.text_area(
                "Instruction", _instruction(selection), key=f"chat_instruction_{selection.label}",
                help="As the rows of the dataset have it.",
            )  # fmt: skip
        system = st.text_area("System text", "", key="chat_system", placeholder="the template's own")
        made = _generation(model)
        if any(one.endpoint is None for one in speakers):
            model = _numbers(model, tuned)
        remember = st.toggle(
            "Remember earlier turns", template is PLAIN, key=f"chat_remember_{template.name}", help="Off: as in training."
        )
        if remember:
            st.caption(_rule(model, made))
        streamed = st.toggle("Show the answer as it comes", True, key="chat_streamed")
    elements = selection.dataset.elements if selection.dataset else ()
    return Choice(speakers, model, template, made, instruction, elements, system, remember, streamed)


def _warn_of_templates(speakers: tuple[Speaker, ...], template: Template) -> None:
    """Say which fine-tunes are asked with another template than they learnt."""
    for one in speakers:
        if one.run is None:
            continue
        asked = one.template or (PLAIN if template is PLAIN else one.run.template)
        if asked.ref != one.run.template.ref:
            text = f"{one.run.name} was trained with {one.run.template.ref}; asked with {asked.ref} it answers worse."
            st.warning(text, icon=":material/warning:")


def _generation(model: ModelRef) -> GenerationSettings:
    """Presets, the model's own first, and the numbers of the chosen one to change."""
    folder = local_folder(model)
    presets = {OWN: own_settings(folder), **PRESETS}
    chosen = st.segmented_control(
        "Generation", list(presets), default=OWN, key="chat_preset", required=True,
        format_func=lambda name: "Model's own" if name == OWN else name,
        help="The model's own: as its generation_config.json says, greedy where it says nothing.",
    ) or OWN  # fmt: skip
    start = presets[chosen]
    mark = f"{OWN}_{model.label}" if chosen == OWN else chosen
    return GenerationSettings(
        max_new_tokens=st.number_input("New tokens at most", 1, 8192, start.max_new_tokens, key=f"chat_tokens_{mark}"),
        temperature=st.slider(
            "Temperature", 0.0, 2.0, start.temperature, key=f"chat_temperature_{mark}", help="0 is greedy."
        ),
        top_p=st.slider("Top p", 0.05, 1.0, start.top_p, key=f"chat_top_p_{mark}", help="Smallest set of tokens with this mass."),
        top_k=st.number_input("Top k", 0, 1000, start.top_k, key=f"chat_top_k_{mark}", help="0: no limit."),
        repetition_penalty=st.slider("Repetition penalty", 0.8, 2.0, start.repetition_penalty, key=f"chat_penalty_{mark}"),
        seed=st.number_input("Seed", 0, 2**31 - 1, 0, key="chat_seed"),
    )  # fmt: skip


_NUMBERS = {
    OWN: "automatic: what suits this machine",
    "float32": "float32: the same answer whoever else asks",
    "int8": "int8: about half the memory",
    "nf4": "nf4: about a third of the memory",
}


def _numbers(model: ModelRef, tuned: Run | None) -> ModelRef:
    """The local model in the number format that is chosen."""
    own = model.quantisation if model.quantisation != "none" else model.dtype
    names = {key: text for key, text in _NUMBERS.items() if key != own}
    names[OWN] = _NUMBERS[OWN] if own == "auto" else f"{own}, as in training"
    chosen = st.selectbox(
        "Number format", list(names), format_func=names.__getitem__, key=f"chat_numbers_{own}",
        help="The next question loads the model anew. In 16 and 4 bits rounding depends on what else is being answered, and "
        "where two words are nearly as likely an answer can take another course.",
    )  # fmt: skip
    if chosen == OWN:
        return model
    if tuned is not None and chosen in ("int8", "nf4"):
        st.caption(f"{tuned.name} was trained on weights of another format: on these it answers a little otherwise.")
    if chosen == "float32":
        return model.model_copy(update={"dtype": "float32", "quantisation": "none"})
    return model.model_copy(update={"dtype": "auto", "quantisation": chosen})


def _rule(model: ModelRef, made: GenerationSettings) -> str:
    """How history is cut to the context window, in words."""
    folder = local_folder(model)
    window = f"the window of {context_length(folder):,} tokens" if folder is not None else "the model's window"
    return (
        f"What doesn't fit into {window} beside {made.max_new_tokens:,} new ones is left out: whole questions with their "
        "answers, the oldest first. Endpoints get all of it."
    )


@st.cache_data(max_entries=32, show_spinner=False)
def _first_instruction(dataset: str, version: int) -> str:
    table = read_rows(dataset, version, columns=["instruction"], limit=1)
    return str(table["instruction"][0]) if table.num_rows else ""


def _instruction(selection: Selection) -> str:
    if selection.dataset is None or selection.version is None:
        return ""
    return _first_instruction(selection.dataset.name, selection.version.number)
