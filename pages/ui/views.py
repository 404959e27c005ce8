"""Views of a page as tabs, of which only the open one is drawn; the address names it. Knows nothing of what they show."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import streamlit as st


def tabs(views: Mapping[str, Callable[[], None]], *, key: str) -> None:
    """Draw tabs under ``key`` and run the function of the one that is open."""
    for tab, draw in zip(st.tabs(list(views), key=key, bind="query-params"), views.values(), strict=True):
        if tab.open:
            with tab:
                draw()
