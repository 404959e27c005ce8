"""The template studio of Tokens: edit a template, see its faults and a real row under it, keep it as the next version.

What is typed is a draft, kept for the session until it is saved; the stored versions never change.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import streamlit as st

from core.errors import SpecError
from core.models.tokenizer import load_tokenizer
from core.prompts import studio
from core.prompts.render import render
from core.prompts.retrieval import choose_shots
from core.prompts.templates import dump_template, list_templates, parse_template, save_as_next_version, text_hash, uses_shots
from core.records import Template
from core.store.datasets import read_rows, read_rows_at
from pages.ui import address, shell, states, tokenrow
from pages.ui.selection import Selection

POOL = 2_000
"""Rows that worked examples are chosen from in the preview."""
KINDS = {"chat": "in the model's own chat format", "raw": "as it stands"}
THINKING: dict[str, bool | None] = {"as the model does": None, "on": True, "off": False}
PARTS = {"system": 100, "user": 180, "answer": 70}
"""The texts of a template, and the height of each box in pixels."""


def show(chosen: Selection) -> None:
    """Draw the studio for the template of the strip."""
    assert chosen.template is not None
    edit, see = st.columns([5, 6], gap="large")
    with edit:
        draft = _editor(chosen.template)
        _files(draft)
    with see:
        _preview(chosen, draft)


def _editor(template: Template) -> Template:
    """The boxes; what they say now as a template."""
    keys = {name: f"studio_{name}_{template.ref}" for name in ("name", "kind", *PARTS, "stop", "thinking")}
    kept = st.session_state.get(f"_studio_{template.ref}", template)
    for name, key in keys.items():
        if key not in st.session_state:
            st.session_state[key] = _held(kept, name)
    st.text_input("Name", key=keys["name"], help="Under another name it becomes a template of its own.")
    st.segmented_control("The texts are written", list(KINDS), key=keys["kind"], format_func=KINDS.__getitem__, required=True)
    for name, height in PARTS.items():
        help = "Variables: {{ instruction }}, {{ input }}, {{ elements }}, {{ shots }}, {{ extra.COLUMN }}"
        help += "; in the answer {{ output }}." if name == "answer" else "."
        st.text_area(name.capitalize(), key=keys[name], height=height, help=help)
    left, right = st.columns(2)
    with left:
        st.multiselect(
            "Stop at", list(kept.stop), key=keys["stop"], accept_new_options=True, placeholder="Type a text, then Enter",
            help="An answer ends where the model writes one of these.",
        )  # fmt: skip
    with right:
        st.selectbox(
            "Thinking", list(THINKING), key=keys["thinking"],
            help="For models that can think before they answer: the setting enable_thinking of their chat format.",
        )  # fmt: skip
    state = st.session_state
    draft = template.model_copy(
        update={name: state[keys[name]] for name in ("name", "kind", *PARTS)}
        | {"stop": tuple(state[keys["stop"]]), "enable_thinking": THINKING[state[keys["thinking"]]]}
    )
    st.session_state[f"_studio_{template.ref}"] = draft
    return draft


def _held(template: Template, name: str) -> Any:
    """What a box holds of a template."""
    if name == "stop":
        return list(template.stop)
    if name == "thinking":
        return next(words for words, value in THINKING.items() if value == template.enable_thinking)
    return getattr(template, name)


def _files(draft: Template) -> None:
    """Save, and YAML in both directions."""
    versions = [t for t in list_templates() if t.name == draft.name]
    same = next((t for t in versions if text_hash(t) == text_hash(draft)), None)
    number = 1 + max((t.version for t in versions), default=0)
    with st.container(horizontal=True, vertical_alignment="center"):
        words = f"Save as {draft.name}@{number}" if same is None else f"This is {same.ref}"
        if st.button(words, key="studio_save", icon=":material/save:", disabled=same is not None):
            with states.catching("Your draft is kept."):
                _select(save_as_next_version(draft))
        st.download_button(
            "YAML", dump_template(draft), f"{draft.name}.yaml", "application/yaml", key="studio_yaml", on_click="ignore",
            icon=":material/download:",
        )  # fmt: skip
        with st.popover("Open a YAML file", icon=":material/upload:", key="studio_open"):
            _upload()


def _upload() -> None:
    turn = st.session_state.get("_studio_upload", 0)
    given = st.file_uploader("A template as YAML", type=["yaml", "yml"], key=f"studio_upload_{turn}")
    if given is None:
        return
    with states.catching("Nothing was stored."):
        try:
            text = given.getvalue().decode("utf-8-sig")
        except UnicodeDecodeError as error:
            raise SpecError(f"{given.name} is not UTF-8", "Save the file as UTF-8.") from error
        stored = save_as_next_version(parse_template(text, given.name))
        st.session_state["_studio_upload"] = turn + 1
        _select(stored)


def _select(template: Template) -> None:
    shell.select(template=template.ref)
    st.rerun()


def _preview(chosen: Selection, draft: Template) -> None:
    """The draft's faults, or a row under it: as text, and as the tokens that the trainer gets."""
    dataset, version = chosen.data
    elements = dataset.elements
    tokenizer = load_tokenizer(chosen.model)
    with st.container(horizontal=True):
        address.hold_number("studio_row", 1, max(1, version.rows), 1)
        number = st.number_input("Row", 1, max(1, version.rows), key="studio_row", persist_state="session", width=150)
        address.tell("studio_row", number, 1)
        shots = st.number_input(
            "Worked examples", 0, 16, 2 if _shows_shots(draft) else 0, key=f"studio_shots_{draft.ref}", width=150,
            help="Taken from the train split for this look; an evaluation says how many it uses.",
        )  # fmt: skip
    wrong = studio.faults(draft, tokenizer, elements)
    for fault in wrong:
        states.error(fault)
    if wrong:
        return
    row = read_rows_at(dataset.name, version.number, [int(number) - 1]).to_pylist()[0]
    with states.catching():
        examples = _examples(chosen, row, int(shots))
        view = studio.mask_view(draft, row, tokenizer=tokenizer, elements=elements, shots=examples)
        tokenrow.said(view)
        coloured, plain = st.tabs(["Tokens", "Text"], key="studio_tabs", bind="query-params")
        with coloured:
            tokenrow.coloured(view)
        with plain:
            if view.pieces:
                made = render(draft, row, tokenizer=tokenizer, elements=elements, shots=examples)
                st.caption("What the model is given")
                st.code(made.prompt, language=None, wrap_lines=True)
                st.caption("What it has to answer" + (f"; it stops at {', '.join(map(repr, made.stop))}" if made.stop else ""))
                st.code(made.answer, language=None, wrap_lines=True)


def _shows_shots(template: Template) -> bool:
    """``uses_shots``, and no for a template whose texts can't be read."""
    try:
        return uses_shots(template)
    except SpecError:
        return False


def _examples(chosen: Selection, row: Mapping[str, Any], amount: int) -> Sequence[Mapping[str, Any]]:
    if not amount:
        return ()
    dataset, version = chosen.data
    return choose_shots(_pool(dataset.name, version.number), row, amount)


@st.cache_data(show_spinner=False, max_entries=4)
def _pool(name: str, version: int) -> list[dict[str, Any]]:
    rows = read_rows(name, version, split="train", limit=POOL)
    found: list[dict[str, Any]] = (rows if rows.num_rows else read_rows(name, version, limit=POOL)).to_pylist()
    return found
