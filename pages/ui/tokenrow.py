"""One row of Tokens exactly as the trainer gets it: its tokens coloured by whether they are learnt, and their ids."""

from __future__ import annotations

import json
from typing import Any

import pandas as pd
import streamlit as st

from core.models.tokenizer import load_tokenizer
from core.prompts.studio import MaskView, mask_view
from core.records import Overflow
from core.store.datasets import read_rows_at
from pages.ui import address, formats, marks, states, tables
from pages.ui.selection import Selection

TURNS = {"all": "every answer", "last": "the last answer"}
_KEY = (
    '<div class="tw-text tw-key"><span><mark class="learnt">learnt</mark> the loss is taken on these (weight 1)</span>'
    '<span><mark class="given">given</mark> the prompt, masked out of the loss (weight 0)</span>'
    '<span><mark class="given special">special</mark> one of the model\'s control tokens</span></div>'
)


def show(chosen: Selection, limit: int, policy: Overflow) -> None:
    """The tokens of one row, whole or at the maximum length."""
    dataset, version, template = chosen.whole
    with st.container(horizontal=True, vertical_alignment="bottom", gap="medium"):
        address.hold_number("tokens_row", 1, max(1, version.rows), 1)
        number = st.number_input("Row", 1, max(1, version.rows), key="tokens_row", persist_state="session", width=150)
        address.tell("tokens_row", number, 1)
        row = row_at(chosen, int(number))
        turns: Any = "all"
        if is_talk(row):
            address.hold("tokens_turns", list(TURNS), "all")
            turns = st.segmented_control(
                "Learn", list(TURNS), required=True, key="tokens_turns", persist_state="session", format_func=TURNS.__getitem__,
                help="The loss of a conversation: on each of its answers, or on the last one only (`turns` in a spec).",
            )  # fmt: skip
            address.tell("tokens_turns", turns, "all")
        address.hold("tokens_cut", [False, True], False)
        cut = st.toggle(f"As it is at {formats.count(limit)} tokens", key="tokens_cut", persist_state="session", width="content")
        address.tell("tokens_cut", cut, False)
    with states.catching():
        view = mask_view(
            template, row, tokenizer=load_tokenizer(chosen.model), elements=dataset.elements, turns=turns,
            max_length=limit if cut else None, overflow=policy,
        )  # fmt: skip
        said(view, limit)
        coloured(view)


def is_talk(row: dict[str, Any]) -> bool:
    """Whether a row is a conversation of more than one answer."""
    messages = row.get("messages")
    told = json.loads(messages) if isinstance(messages, str) else messages or []
    return sum(turn.get("role") == "assistant" for turn in told) > 1


def said(view: MaskView, limit: int | None = None) -> None:
    """How many tokens a row has and how many are learnt; that it can't be learnt from, if so."""
    if view.dropped:
        st.warning(f"**A training leaves this row out:** {states.plain(view.dropped)}.", icon=":material/block:")
        return
    fits, verb = "", "is" if view.trained == 1 else "are"
    if limit is not None:
        over = view.tokens - limit
        fits = f"; at {formats.count(limit)} the row " + ("fits" if over <= 0 else f"is {formats.plural(over, 'token')} too long")
    st.markdown(f"{formats.plural(view.tokens, 'token')}, of which {formats.count(view.trained)} {verb} learnt{fits}.")
    if not view.trained:
        st.warning("**No token of this row is learnt**, so a training leaves it out.", icon=":material/block:")
    elif view.empty:
        st.warning(
            "**The answer is empty:** only the token that ends an answer is learnt, so this row teaches to say nothing. "
            "If nothing is to be found in it, an answer such as `{}` says so.",
            icon=":material/warning:",
        )
    elif view.note:
        st.caption(f"{view.note[0].upper()}{view.note[1:]}.")


def coloured(view: MaskView) -> None:
    """The tokens as text, the key to the colours, and the ids with their loss weights."""
    if not view.pieces:
        return
    st.html(marks.tokens([marks.piece(found) for found in view.pieces]))
    st.html(_KEY)
    with st.popover("Ids and weights", type="tertiary", icon=":material/table_chart:"):
        ids = [", ".join(map(str, piece.ids)) for piece in view.pieces]
        frame = pd.DataFrame(
            {
                "text": [piece.text.replace("\n", "↵") for piece in view.pieces], "ids": ids,
                "kind": [piece.kind for piece in view.pieces], "weight": [int(piece.weight) for piece in view.pieces],
                "label": [told if piece.trained else "-100" for told, piece in zip(ids, view.pieces, strict=True)],
            }
        )  # fmt: skip
        columns = {
            "text": tables.text("Text"), "ids": tables.text("Ids"), "label": tables.text("Labels", help="-100: masked"),
            "weight": tables.whole("Loss weight"), "kind": tables.text("Kind"),
        }  # fmt: skip
        with st.container(width=620):
            tables.show(frame, columns, alt="Tokens of the row", height=420)


def row_at(chosen: Selection, number: int) -> dict[str, Any]:
    """A row of the selected version by its number, from 1."""
    dataset, version = chosen.data
    found: list[dict[str, Any]] = read_rows_at(dataset.name, version.number, [number - 1]).to_pylist()
    return found[0]
