"""Router of all pages, and the overview: where do I stand, and what comes next?"""

from __future__ import annotations

import streamlit as st

from pages.ui import home, machine, shell, states


def overview() -> None:
    """The first page: the five steps, what is running, the last results, the machine."""
    chosen = shell.begin("Home")
    if chosen.dataset is None or chosen.version is None:
        home.welcome()
        return
    steps = home.surveyed(chosen)
    shell.answer(*home.sentence(chosen, steps))
    home.primary(steps)
    home.way(steps)
    home.running()
    results, beside = st.columns([5, 3], gap="large")
    with results:
        home.last_results(chosen)
    with beside:
        machine.panel()


with states.catching():
    shell.router(overview)
