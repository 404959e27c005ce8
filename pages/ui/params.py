"""A form for an operation's parameters, made from its typed fields. Knows no operation by name."""

from __future__ import annotations

from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin

import streamlit as st
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from core.data.elements import separated_names
from core.data.operations.base import Operation


def form(kind: type[Operation], params: dict[str, Any], *, key: str) -> dict[str, Any]:
    """Draw a widget for each parameter; returns those that differ from their defaults."""
    chosen: dict[str, Any] = {}
    for name, field in kind.model_fields.items():
        default = None if field.default is PydanticUndefined else field.default
        value = _widget(name, field, params.get(name, default), f"{key}_{name}")
        if value != default and value not in (None, "", ()):
            chosen[name] = value
    return chosen


def words(name: str) -> str:
    """A parameter's or a value's name as words."""
    return name.replace("_", " ").capitalize()


def _widget(name: str, field: FieldInfo, value: Any, key: str) -> Any:
    label, note = words(name), field.description
    kind, optional = _plain(field.annotation)
    origin = get_origin(kind)
    if origin is Literal:
        options = list(get_args(kind))
        return st.selectbox(
            label, options, index=options.index(value) if value in options else 0, format_func=words, help=note, key=key
        )
    if kind is bool:
        return st.toggle(label, bool(value), help=note, key=key)
    if kind in (int, float):
        low, high = _bounds(field, kind)
        step = 1 if kind is int else 0.05
        shown = value if value is not None or optional else low
        return st.number_input(label, min_value=low, max_value=high, value=shown, step=step, help=note, key=key)
    if origin is tuple:
        inner = get_args(kind)[0]
        if get_origin(inner) is Literal:
            return tuple(st.multiselect(label, list(get_args(inner)), default=list(value or ()), help=note, key=key))
        text = st.text_input(label, ", ".join(value or ()), help=note or "Names, separated by commas.", key=key)
        return separated_names(text) or None
    if origin is dict:
        lines = "\n".join(f"{old} = {new or ''}" for old, new in (value or {}).items())
        text = st.text_area(
            label, lines, help=note or "One a line: old name = new name. Nothing after the sign removes it.", key=key
        )
        pairs = (line.split("=", 1) for line in text.splitlines() if "=" in line)
        return {old.strip(): new.strip() or None for old, new in pairs}
    return st.text_input(label, "" if value is None else str(value), help=note, key=key)


def _plain(annotation: Any) -> tuple[Any, bool]:
    """The type without None, and whether None is allowed."""
    if get_origin(annotation) in (Union, UnionType):
        kinds = [kind for kind in get_args(annotation) if kind is not type(None)]
        return (kinds[0] if len(kinds) == 1 else str), type(None) in get_args(annotation)
    return annotation, False


def _bounds(field: FieldInfo, kind: type) -> tuple[Any, Any]:
    low = high = None
    for rule in field.metadata:
        low = next((getattr(rule, name) for name in ("ge", "gt") if getattr(rule, name, None) is not None), low)
        high = next((getattr(rule, name) for name in ("le", "lt") if getattr(rule, name, None) is not None), high)
    return (None if low is None else kind(low)), (None if high is None else kind(high))
