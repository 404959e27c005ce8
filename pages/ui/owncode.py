"""A model's own code, in the dialog of models: shown whole before it may run, trusted by its checksum, taken back.

Nothing of it is run here. Knows of engines only that they are let go with the trust in their code.
"""

from __future__ import annotations

import streamlit as st

from core.errors import UserError
from core.jobs.engines import chat_engines
from core.models.catalogue import parse_model
from core.models.code import ModelCode, code_of, distrust, trust, trusted
from core.records import ModelRef
from pages.ui import formats, states

_FOUND, _FAULT = "models_code", "models_code_fault"


def close() -> None:
    """Forget what was shown."""
    for key in (_FOUND, _FAULT):
        st.session_state.pop(key, None)


def tab() -> None:
    """Which model, its files, and the consent."""
    st.markdown("Some models bring Python files that would run here. They stay off until you have looked at them and said yes.")
    left, right = st.columns([3, 2], vertical_alignment="bottom")
    name = left.text_input("Model", key="models_code_name", placeholder="hub:organisation/name, or a folder's path")
    revision = right.text_input("Revision", key="models_code_revision", placeholder="the one that is here, else the newest")
    st.button(
        "Show its code",
        key="models_show",
        icon=":material/code:",
        disabled=not name.strip(),
        on_click=_show,
        args=(name, revision),
    )
    fault: UserError | None = st.session_state.pop(_FAULT, None)
    if fault is not None:
        states.error(fault)
    found: ModelCode | None = st.session_state.get(_FOUND)
    if found is not None:
        _files(found)
        _consent(found)


def _files(found: ModelCode) -> None:
    at = f" at revision `{found.revision[:12]}`" if found.revision else ""
    size = formats.size(sum(len(file.content) for file in found.files))
    st.markdown(f"{formats.plural(len(found.files), 'file')}, {size}{at}. Checksum of all: `{found.digest}`")
    for file in found.files:
        with st.expander(f"{file.path} · {formats.size(len(file.content))}" + (" · begins here" if file.entry else "")):
            st.caption(f"SHA-256 {file.sha256}")
            st.code(file.text, language="python", line_numbers=True, wrap_lines=True)


def _consent(found: ModelCode) -> None:
    said = trusted(found.ref)
    running = said is not None and said.digest == found.digest
    if said is not None and not running:
        st.warning("These are not the files that were trusted before.", icon=":material/warning:")
    if running:
        st.markdown(":green[:material/check_circle:] It runs when the model is loaded.")
        st.button("Don't run it any more", key="models_distrust", on_click=_distrust, args=(found.ref,))
    else:
        st.button("I have read it: let it run", key="models_trust", type="primary", on_click=_trust, args=(found,))
    st.caption(
        "Your consent holds for exactly these files of this revision; a changed file or another revision asks again. "
        "Code that was loaded for Chat stays in this server's memory until the server is restarted, even when you take the "
        "consent back: it is then used for no model. Trainings and evaluations run in processes of their own."
    )


def _show(name: str, revision: str) -> None:
    close()
    try:
        st.session_state[_FOUND] = code_of(parse_model(name, revision=revision.strip() or None))
    except UserError as fault:
        st.session_state[_FAULT] = fault


def _trust(found: ModelCode) -> None:
    try:
        trust(found.ref, found.digest)
    except UserError as fault:
        st.session_state[_FAULT] = fault


def _distrust(ref: ModelRef) -> None:
    """Take it back, and let go of the engines that run it, unless they are answering just now."""
    distrust(ref)
    for held in chat_engines().held:
        if (held.ref.source, held.ref.name, held.ref.revision) == (ref.source, ref.name, ref.revision):
            chat_engines().release(held.ref, reason="its code is not trusted any more")
