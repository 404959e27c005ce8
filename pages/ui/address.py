"""Choices of a page in its address, as short codes, so that a link says the same whatever the options are called.

Streamlit's own binding writes an option as it is shown. ``hold`` is called before a widget and puts what it holds under its
key: what it held, else what the address says, else what it held when the page was last shown, else the default. ``tell``
is called after it. Knows nothing of what is chosen.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import streamlit as st


def hold(key: str, options: Sequence[Any], default: Any) -> None:
    """Let the widget of ``key`` hold one of ``options``; an address that names none of them is passed over."""
    state = st.session_state
    if key in state and state[key] in options:
        return
    codes = {_code(option): option for option in options}
    asked = codes.get(_code(st.query_params.get(key, "")))
    kept = state.get(_kept(key))
    state[key] = asked if asked is not None else kept if kept in options else default


def hold_number(key: str, low: int, high: int, default: int) -> None:
    """``hold`` for whole numbers from ``low`` to ``high``."""
    state = st.session_state
    held = state.get(key)
    if not isinstance(held, int):
        asked = st.query_params.get(key, "")
        held = int(asked) if asked.isdigit() else state.get(_kept(key), default)
    state[key] = max(low, min(high, int(held)))


def hold_several(key: str, options: Sequence[str] | None, default: Sequence[str]) -> None:
    """``hold`` for several of ``options`` (none: anything)."""
    state = st.session_state
    found = state[key] if key in state else st.query_params.get_all(key) or state.get(_kept(key)) or default
    state[key] = [one for one in found if options is None or one in options]


def tell(key: str, value: Any, default: Any) -> Any:
    """Remember what a widget holds, and say it in the address unless it is the default; returns it."""
    st.session_state[_kept(key)] = value
    said = [str(one) for one in value] if isinstance(value, list | tuple) else [_code(value)]
    if value == default:
        st.query_params.pop(key, None)
    elif st.query_params.get_all(key) != said:
        st.query_params[key] = said
    return value


def kept(key: str, default: Any = None) -> Any:
    """What a widget held when it was last shown."""
    return st.session_state.get(_kept(key), default)


def _kept(key: str) -> str:
    return f"_held_{key}"


def _code(value: Any) -> str:
    return str(value).lower()
