"""A small panel: serve fine-tunes as an OpenAI-compatible API, with clients to copy, and stop it.

The server is a process of its own and outlives the page. Its key is shown in the session that started it and kept
nowhere else. Knows nothing of engines.
"""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from core.errors import UserError
from core.records import Run
from core.serving import clients, registry
from core.serving.registry import Launched, Server
from pages.ui import states

_LAUNCHED, _KEYS = "serve_launched", "serve_keys"
_HEALTH = {
    "ok": ":green[:material/check_circle:] It answers.",
    "model not in memory": ":gray[:material/hourglass:] It runs, and loads its model when it is asked and the device is free.",
    "no answer": ":red[:material/error:] It runs but does not answer. Its log says why.",
}


def panel(runs: Sequence[Run | None]) -> None:
    """The panel in a popover, for the runs that are being asked (None, the base, comes with any of them)."""
    tuned = [run for run in runs if run is not None]
    with st.popover("Serve", icon=":material/dns:", key="serve_popover", help="Let programs ask this fine-tune"):
        _panel(tuned)


@st.fragment
def _panel(tuned: list[Run]) -> None:
    launched: Launched | None = st.session_state.get(_LAUNCHED)
    if launched is not None:
        _starting(launched)
        return
    servers = registry.list_servers()
    for server in servers:
        _server(server)
    served = {run for server in servers for run in server.runs}
    if tuned and not served.issuperset(run.run_id for run in tuned):
        names = ", ".join(run.name for run in tuned)
        st.markdown(f"Programs can ask {states.plain(names)} and its base like OpenAI's API, with the template of the training.")
        st.caption("The server listens on this machine only and wants a key. Chat and server give way to each other when idle.")
        ids = [run.run_id for run in tuned]
        st.button("Start a server", icon=":material/play_arrow:", key="serve_start", on_click=_start, args=(ids,))
    elif not servers:
        st.markdown("Choose a fine-tune to serve it to programs like OpenAI's API.")


@st.fragment(run_every=1)
def _starting(launched: Launched) -> None:
    """While the model is loaded; keeps the key from the first moment on, so that a reload of the page can't lose it."""
    try:
        server = launched.server
    except UserError as fault:
        st.session_state.pop(_LAUNCHED, None)
        states.error(fault)
        return
    if server is None:
        st.markdown(":material/hourglass: Loading the model")
        if st.button("Stop", icon=":material/stop:", key="serve_give_up"):
            launched.give_up()
            st.session_state.pop(_LAUNCHED, None)
            st.rerun()
        return
    st.session_state.setdefault(_KEYS, {})[server.pid] = launched.key
    st.session_state.pop(_LAUNCHED, None)
    st.rerun()


def _server(server: Server) -> None:
    with st.container(horizontal=True, vertical_alignment="center"):
        st.markdown(f"**{states.plain(', '.join(server.models))}**")
        name = f"serve_stop_{server.pid}"
        st.button("Stop the server", icon=":material/stop:", key=name, on_click=_stop, args=(server,))
    st.code(server.url, language=None)
    st.markdown(_HEALTH.get(registry.health(server, 0.5), _HEALTH["no answer"]))
    key = st.session_state.get(_KEYS, {}).get(server.pid)
    if key:
        st.code(f"export {registry.VARIABLE}={key}", language="bash", wrap_lines=True)
        st.caption("The key is shown in this session only: copy it now.")
    else:
        st.caption("Its key was shown where it was started. Stop it and start another for a new one.")
    python, curl, log = st.tabs(["Python", "curl", "Log"])
    asked = server.url, server.models[0], server.instruction, clients.example(server.language, server.instruction)
    python.code(clients.python(*asked), language="python", wrap_lines=True)
    curl.code(clients.curl(*asked), language="bash", wrap_lines=True)
    log.code(registry.log_tail(server.pid, 20) or "The server was started in a shell: its log is there.", language=None)


def _start(runs: list[str]) -> None:
    st.session_state[_LAUNCHED] = registry.launch(runs[0], runs[1:])


def _stop(server: Server) -> None:
    registry.stop_server(server)
    st.session_state.get(_KEYS, {}).pop(server.pid, None)
