"""The models that can be loaded or asked here: what they are, fetching one, an endpoint, and a model's own code.

Drawn in a dialog. What is looked up is asked of the hub only when somebody presses a button. Knows nothing of engines.
"""

from __future__ import annotations

import pandas as pd
import streamlit as st

from core.errors import UserError
from core.jobs.devices import NETWORK
from core.jobs.queue import dispatch, enqueue
from core.models.catalogue import list_models, list_unfinished, parse_model
from core.models.hub import local_revision, remove_model
from core.models.remote import RemoteModel, describe
from core.records import ENDED_STATES, ModelRef
from core.store.endpoints import delete_endpoint, list_endpoints
from core.store.jobs import get_job
from core.store.runs import list_runs
from pages.ui import endpointform, formats, owncode, states

_OPEN, _FOUND, _JOB, _FAULT = "models_open", "models_found", "models_job", "models_fault"
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
    for key in (_OPEN, _FOUND, _FAULT):
        st.session_state.pop(key, None)
    owncode.close()


@st.dialog("Models", width="large", icon=":material/deployed_code:", on_dismiss=_close)
def _dialog() -> None:
    _table()
    fetch, endpoint, code = st.tabs(["Fetch a model", "Endpoints", "A model's own code"])
    with fetch:
        _fetch()
    with endpoint:
        _endpoints()
    with code:
        owncode.tab()


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
        {
            "Model": entry.text,
            "Weights": f"{formats.size(entry.bytes)}, not whole yet",
            "Licence": "",
            "From": _SOURCES[entry.ref.source],
            "Revision": "",
        }
        for entry in list_unfinished()
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
    _fault()
    _remove()
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


def _remove() -> None:
    """What was downloaded can go again, whole or half."""
    there = {entry.text: entry for entry in (*list_models(), *list_unfinished()) if entry.ref.source in ("hub", "modelscope")}
    if not there:
        return
    with st.popover("Remove a model", icon=":material/delete:", key="models_remove"):
        name = st.selectbox("Model", list(there), key="models_remove_name")
        entry = there[name]
        users = sum(run.spec.model.source == entry.ref.source and run.spec.model.name == entry.ref.name for run in list_runs())
        st.caption(
            (f"{formats.plural(users, 'fine-tune')} of it can't answer without it. " if users else "")
            + "It can be downloaded again."
        )
        st.button(f"Remove {formats.size(entry.bytes)}", key="models_remove_now", on_click=_removed, args=(entry.ref,))


def _removed(ref: ModelRef) -> None:
    try:
        remove_model(ref)
    except UserError as fault:
        st.session_state[_FAULT] = fault


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
        st.session_state[_FAULT] = fault


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


def _fault() -> None:
    fault: UserError | None = st.session_state.pop(_FAULT, None)
    if fault is not None:
        states.error(fault)
