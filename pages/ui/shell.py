"""The frame around every page: address, navigation, style, and the strip of what is selected.

``begin`` is called first by every page and may be called twice. The selection lives in the URL,
so it holds from page to page and in a link that is passed on. Knows nothing of what pages show.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import streamlit as st
from streamlit.errors import StreamlitAPIException
from streamlit.runtime.scriptrunner import get_script_run_ctx

from pages.ui import registry
from pages.ui.registry import Entry
from pages.ui.selection import KEYS, Selection, strip

_STYLE = Path(__file__).with_name("style.css")
_HISTORY = f"<script>{Path(__file__).with_name('history.js').read_text(encoding='utf-8')}</script>"
_LOGO = Path(__file__).with_name("logo.svg")
_ICON = Path(__file__).with_name("icon.svg")
_TO_TOP = "<script>document.querySelectorAll('[data-testid=stMain]').forEach((page) => page.scrollTo(0, 0));</script>"
_ROUTED, _SCROLL = "_shell_routed", "_shell_scroll_up"


def router(home: Callable[[], None]) -> None:
    """Register all pages, draw the navigation and run the page that the address names (``Home.py`` only)."""
    st.session_state[_ROUTED] = True
    st.navigation(_pages(home), position="top").run()


def begin(title: str, *, picks: bool = True) -> Selection:
    """Open a page: its configuration, style and top strip; returns what is selected.

    ``title`` is the page's title in the registry. ``picks`` False leaves the strip out (an empty workspace).
    """
    page = registry.entry(title)
    st.set_page_config(page_title=f"{title} · Tunewise", page_icon=str(_ICON), layout="wide")
    if _deep_link_without_router():
        _register_and_rerun()
    st.html(_STYLE)
    with st.container(key="history"):
        st.html(_HISTORY, unsafe_allow_javascript=True)
        if st.session_state.pop(_SCROLL, False):
            st.html(_TO_TOP, unsafe_allow_javascript=True)
    st.logo(_LOGO, size="large")
    chosen = strip() if picks else Selection()
    st.caption(f"{page.title} — {page.question}")
    return chosen


def answer(sentence: str, detail: str = "") -> None:
    """The page's answer: one sentence, and a quieter second line when there is more to say."""
    with st.container(key="answer", gap="xsmall"):
        st.header(sentence, anchor=False)
        if detail:
            st.markdown(f":gray[{detail}]")


def go(page: Entry, **selection: str) -> NoReturn:
    """Change to a page, with another selection if given (keys of the strip: dataset, version, template, model)."""
    held = {key: st.session_state[key] for key in KEYS if st.session_state.get(key)}
    if "dataset" in selection:
        held.pop("version", None)
    chosen = {**held, **st.session_state.get("_pending_selection", {}), **selection}
    select(**chosen)
    try:  # without query_params Streamlit refuses while a widget is bound to the address
        st.switch_page(page.path, query_params={key: value for key, value in chosen.items() if key in KEYS})
    except StreamlitAPIException:
        st.rerun()


def scroll_up() -> None:
    """Show the top of the page from the next run on, where what was begun below is followed; call ``st.rerun()`` after it."""
    st.session_state[_SCROLL] = True


def select(**selection: str) -> None:
    """Select in the strip from the next run on; call ``st.rerun()`` or ``go`` after it."""
    st.session_state.setdefault("_pending_selection", {}).update(selection)


def link(page: Entry, label: str = "", *, icon: str | None = "", key: str | None = None) -> None:
    """A quiet button that leads to another page."""
    if st.button(label or page.title, key=key or f"link_{page.title}_{label}", type="tertiary", icon=icon or None):
        go(page)


def _deep_link_without_router() -> bool:
    context = get_script_run_ctx()
    if context is None or Path(context.main_script_path).name != "Home.py":
        return False
    return _ROUTED not in st.session_state


def _register_and_rerun() -> NoReturn:
    """The first visit after a server start may run a page without ``Home.py``: name the pages, then start again."""
    st.session_state[_ROUTED] = True
    st.navigation(_pages(_nothing), position="hidden")
    st.rerun()


def _nothing() -> None:
    """Stands for the overview until ``Home.py`` runs."""


def _pages(home: Callable[[], None]) -> list[Any]:
    others = [page for page in registry.PAGES if page is not registry.HOME and (registry.ROOT / page.path).exists()]
    return [
        st.Page(home, title=registry.HOME.title, default=True),
        *(st.Page(registry.ROOT / page.path, title=page.title) for page in others),
    ]
