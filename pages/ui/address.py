"""Choices of a page in its address, as short codes, so that a link says the same whatever the options are called.

Streamlit's own binding writes an option as it is shown, and leaves out one that is the default, though another day's default
may be another. ``hold`` is called before a widget and puts what it holds under its key: what it held, else what the address
says, else what it held when the page was last shown, else the default; after the browser's back or forward the address comes
first. ``tell`` is called after it. The widget itself needs ``persist_state="session"``: without it Streamlit brings back what
``hold`` put under its key at first. Knows nothing of what is chosen.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import streamlit as st
from streamlit.runtime.scriptrunner import get_script_run_ctx

ALWAYS = object()
"""A default that nothing is: what is chosen always stands in the address."""


def hold(key: str, options: Sequence[Any], default: Any, *, free: bool = False) -> None:
    """Let the widget of ``key`` hold one of ``options``; an address that names none of them is passed over.

    ``free``: it may hold any other text, too.
    """
    state = st.session_state
    asked = _asked(key, options, free)
    if _went_back() and asked is not None:
        state[key] = asked
    elif key not in state or not (state[key] in options or (free and state[key])):
        kept = state.get(_kept(key))
        state[key] = asked if asked is not None else kept if kept in options or (free and kept) else default


def hold_number(key: str, low: int, high: int, default: int) -> None:
    """``hold`` for whole numbers from ``low`` to ``high``."""
    state = st.session_state
    asked = st.query_params.get(key, "")
    held = state.get(key)
    if not isinstance(held, int) or (_went_back() and asked.isdigit()):
        held = int(asked) if asked.isdigit() else state.get(_kept(key), default)
    state[key] = max(low, min(high, int(held)))


def hold_several(key: str, options: Sequence[str] | None, default: Sequence[str], *, most: int | None = None) -> None:
    """``hold`` for several of ``options`` (none: anything), ``most`` at most; the default where none of them is left."""
    state = st.session_state
    asked = st.query_params.get_all(key)
    found = state[key] if key in state and not (_went_back() and asked) else asked or state.get(_kept(key)) or default
    left = [one for one in found if options is None or one in options][:most]
    state[key] = left if left or not found else list(default)


def tell(key: str, value: Any, default: Any = ALWAYS) -> Any:
    """Remember what a widget holds, and say it in the address unless it is the ``default``; returns it.

    Give a default only where it will be the same tomorrow and on another's machine.
    """
    st.session_state[_kept(key)] = value
    said = [str(one) for one in value] if isinstance(value, list | tuple) else [_code(value)]
    if value == default:
        st.query_params.pop(key, None)
    elif st.query_params.get_all(key) != said:
        st.query_params[key] = said
    return value


def tell_all(chosen: Mapping[str, str]) -> None:
    """Remember what several widgets hold and say it in the address, as one step of the browser's history."""
    for key, value in chosen.items():
        st.session_state[_kept(key)] = value
    if new := {key: value for key, value in chosen.items() if st.query_params.get_all(key) != [value]}:
        st.query_params.update(new)


def kept(key: str, default: Any = None) -> Any:
    """What a widget held when it was last shown."""
    return st.session_state.get(_kept(key), default)


def _asked(key: str, options: Sequence[Any], free: bool) -> Any:
    """What the address names: an option, else in other letters, else any text where that may be."""
    said = st.query_params.get(key, "")
    codes = {_code(option).lower(): option for option in options} | {_code(option): option for option in options}
    return codes.get(said, codes.get(said.lower(), said if free and said else None))


def _went_back() -> bool:
    """Whether this run comes from the browser's back or forward."""
    context = get_script_run_ctx()
    return context is not None and context.is_history_navigation


def _kept(key: str) -> str:
    return f"_held_{key}"


def _code(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
