"""The fields of an endpoint and keeping it, for the models' dialog and for Chat. The key itself is never asked for."""

from __future__ import annotations

import re
from typing import Any

import streamlit as st

from core.errors import SpecError
from core.records import NamedEndpoint
from core.store.endpoints import save_endpoint

KEY_VARIABLE = "TUNEWISE_ENDPOINT_KEY"
_KEYS = re.compile(rf"{KEY_VARIABLE}\w*|\w+_API_KEY")


def fields(prefix: str, *, wide: bool) -> dict[str, Any]:
    """Draw them, their widgets' keys beginning with ``prefix``, three in a row if ``wide``; what stands in them."""
    one, two, three = st.columns(3) if wide else (st, st, st)
    name = one.text_input("Name", key=f"{prefix}_name", placeholder="qwen-72b", help="How it is called here: endpoint:NAME.")
    url = two.text_input("Address", key=f"{prefix}_url", placeholder="https://api.example.com/v1")
    model = three.text_input("Its model", key=f"{prefix}_model", placeholder="as the server names it")
    one, two, three = st.columns(3) if wide else (st, st, st)
    variable = one.text_input(
        "Variable of the key", KEY_VARIABLE, key=f"{prefix}_key",
        help="The environment variable or Streamlit secret that holds the key, which is read when it is asked and kept nowhere.",
    )  # fmt: skip
    help_ = "In your currency. With both prices, Chat and Compare say what answers cost."
    price_in = two.number_input("A million prompt tokens cost", 0.0, value=None, key=f"{prefix}_in", help=help_)
    price_out = three.number_input("A million answer tokens cost", 0.0, value=None, key=f"{prefix}_out", help=help_)
    texts = {"name": name, "url": url, "model": model, "key_variable": variable}
    return {key: text.strip() for key, text in texts.items()} | {"price_in": price_in, "price_out": price_out}


def keep(values: dict[str, Any]) -> NamedEndpoint:
    """Keep what stands in the fields. SpecError: what is missing or wrong, or a variable that holds something else than a key.

    Who uses the page may not be who set the environment: other variables must not be sent to an address that is typed here.
    """
    if not _KEYS.fullmatch(values["key_variable"]):
        raise SpecError(f"{values['key_variable']!r} is no variable of a key", f"Name it {KEY_VARIABLE}… or …_API_KEY.")
    return save_endpoint(NamedEndpoint(**values))
