"""The models that can be loaded or asked here: what they are, fetching one, an endpoint, and a model's own code.

Drawn in a dialog. What is looked up is asked of the hub only when somebody presses a button. Knows nothing of engines.
"""

from __future__ import annotations

import pandas as pd
import streamlit as st

from core.errors import UserError
from core.jobs.devices import NETWORK
from core.jobs.queue import dispatch, enqueue
from core.models.catalogue import list_models, parse_model
from core.models.code import ModelCode, code_of, distrust, trust, trusted
from core.models.hub import RemoteModel, describe, local_revision
from core.records import ENDED_STATES, ModelRef
from core.store.endpoints import delete_endpoint, list_endpoints
from core.store.jobs import get_job
from pages.ui import endpointform, formats, states

_OPEN, _FOUND, _JOB, _CODE, _FAULT = "models_open", "models_found", "models_job", "models_code", "models_fault"
_SOURCES = {"default": "bundled", "hub": "Hugging Face", "modelscope": "ModelScope", "path": "folder"}


def ask() -> None:
    """Open the dialog, from the next run on."""
    _close()
    st.session_state[_OPEN] = True


def dialog_if_asked() -> None:
    """Draw the dialog where it was asked for; it stays open over reruns until it is closed."""
    if st.session_state.get(_OPEN):
        _dialog()


def _close() -> None:
    for key in (_OPEN, _FOUND, _CODE, _FAULT):
        st.session_state.pop(key, None)


@st.dialog("Models", width="large", icon=":material/deployed_code:", on_dismiss=_close)
def _dialog() -> None:
    _table()
    fetch, endpoint, code = st.tabs(["Fetch a model", "Endpoints", "A model's own code"])
    with fetch:
        _fetch()
    with endpoint:
        _endpoints()
    with code:
        _code()


def _table() -> None:
    entries = list_models()
    rows = [
        {
            "Model": entry.text,
            "Weights": formats.size(entry.bytes) if entry.ready else "made on first use",
            "Licence": entry.license or "not named",
            "From": _SOURCES[entry.ref.source],
            "Revision": local_revision(entry.ref)[:12] if entry.ref.source in ("hub", "modelscope") else "",
        }
        for entry in entries
    ]
    rows += [
        {"Model": f"endpoint:{e.name}", "Weights": "elsewhere", "Licence": "its provider's", "From": e.url, "Revision": ""}
        for e in list_endpoints()
    ]
    table = pd.DataFrame(rows)
    shown = table if table["Revision"].any() else table.drop(columns="Revision")
    st.dataframe(shown, hide_index=True, width="stretch")
    st.caption("The strip at the top of each page takes a model by the first column, or the path of a folder or GGUF file.")


def _fetch() -> None:
    left, right = st.columns([3, 2], vertical_alignment="bottom")
    name = left.text_input("Name", key="models_name", placeholder="hub:organisation/name or modelscope:organisation/name")
    revision = right.text_input("Revision", key="models_revision", placeholder="the newest", help="A commit, branch or tag.")
    st.button(
        "Look it up",
        key="models_look",
        icon=":material/search:",
        disabled=not name.strip(),
        on_click=_look,
        args=(name, revision),
    )
    _fault("fetch")
    found: tuple[ModelRef, RemoteModel] | None = st.session_state.get(_FOUND)
    if found is None:
        return
    ref, model = found
    size, files = formats.size(sum(file.size for file in model.wanted)), formats.plural(len(model.wanted), "file")
    st.markdown(
        f"**{states.plain(model.name)}**, revision `{model.revision[:12]}`: {size} in {files}, "
        f"licence {states.plain(model.license) if model.license else 'not named'}."
    )
    if any(file.path.endswith(".py") for file in model.files):
        st.caption("It brings code of its own, which is not fetched. Should it be needed, look at it in the last tab.")
    if st.button(f"Download {size}", key="models_fetch", type="primary", icon=":material/download:"):
        _download(ref)
        _close()
        st.rerun()  # closes the dialog: the page shows how far it is


def fetched() -> None:
    """On the page: what became of a download that was started in the dialog; nothing while it runs, as all jobs are shown."""
    job_id = st.session_state.get(_JOB)
    job = get_job(job_id) if job_id else None
    if job is None or job.state not in ENDED_STATES:
        return
    if job.state == "finished":
        st.markdown(f":green[:material/check_circle:] {states.plain(job.subject)} is on this machine.")
    states.ended(job)


def _look(name: str, revision: str) -> None:
    st.session_state.pop(_FOUND, None)
    try:
        ref = parse_model(name, revision=revision.strip() or None)
        if ref.source not in ("hub", "modelscope"):
            raise UserError(f"{name.strip()!r} is no name of a hub", "Begin it with hub: or modelscope:.")
        st.session_state[_FOUND] = (ref, describe(ref))
    except UserError as fault:
        st.session_state[_FAULT] = ("fetch", fault)


def _download(ref: ModelRef) -> None:
    payload = {"model": f"{ref.source}:{ref.name}", "revision": ref.revision}
    job = enqueue("fetch", payload, title=f"Fetch {ref.name}", subject=ref.name, device=NETWORK)
    dispatch()
    st.session_state[_JOB] = job.job_id
    st.session_state.pop(_FOUND, None)


def _endpoints() -> None:
    for known in list_endpoints():
        prices = [
            f"{formats.number(p)} {what}" for p, what in ((known.price_in, "in"), (known.price_out, "out")) if p is not None
        ]
        with st.container(horizontal=True, vertical_alignment="center"):
            st.markdown(
                f"**{states.plain(known.name)}** asks {states.plain(known.model)} at `{known.url}`, key in `{known.key_variable}`"
                + (f", a million tokens {' and '.join(prices)}." if prices else ".")
            )
            st.button("Forget", key=f"models_forget_{known.name}", type="tertiary", on_click=delete_endpoint, args=(known.name,))
    with st.form("models_endpoint", border=False, clear_on_submit=False):
        values = endpointform.fields("models_endpoint", wide=True)
        if st.form_submit_button("Keep this endpoint", icon=":material/add_link:"):
            try:
                endpointform.keep(values)
                st.rerun()
            except UserError as fault:
                states.error(fault, kept="What you typed is still there.")


def _code() -> None:
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
    _fault("code")
    found: ModelCode | None = st.session_state.get(_CODE)
    if found is None:
        return
    said = trusted(found.ref)
    running = said is not None and said.digest == found.digest
    if said is not None and not running:
        st.warning("These are not the files that were trusted before.", icon=":material/warning:")
    at = f" at revision `{found.revision[:12]}`" if found.revision else ""
    size = formats.size(sum(len(file.content) for file in found.files))
    st.markdown(f"{formats.plural(len(found.files), 'file')}, {size}{at}. Checksum of all: `{found.digest}`")
    for file in found.files:
        with st.expander(f"{file.path} · {formats.size(len(file.content))}" + (" · begins here" if file.entry else "")):
            st.caption(f"SHA-256 {file.sha256}")
            st.code(file.text, language="python", line_numbers=True, wrap_lines=True)
    if running:
        st.markdown(":green[:material/check_circle:] It runs when the model is loaded.")
        st.button("Don't run it any more", key="models_distrust", on_click=distrust, args=(found.ref,))
    else:
        st.button("I have read it: let it run", key="models_trust", type="primary", on_click=_trust, args=(found,))


def _show(name: str, revision: str) -> None:
    st.session_state.pop(_CODE, None)
    try:
        st.session_state[_CODE] = code_of(parse_model(name, revision=revision.strip() or None))
    except UserError as fault:
        st.session_state[_FAULT] = ("code", fault)


def _trust(found: ModelCode) -> None:
    try:
        trust(found.ref, found.digest)
    except UserError as fault:
        st.session_state[_FAULT] = ("code", fault)


def _fault(place: str) -> None:
    where, fault = st.session_state.get(_FAULT, ("", None))
    if where == place:
        st.session_state.pop(_FAULT)
        states.error(fault)
