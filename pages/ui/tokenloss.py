"""What a maximum length loses on Tokens: rows, gold values by element, and what trainers that cut would break.

Asks ``core.lengths.truncation``; counts nothing itself.
"""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc
import streamlit as st

from core.lengths.measuring import cache_path
from core.lengths.places import Places, places
from core.lengths.truncation import Outcome, Truncation
from core.models.tokenizer import load_tokenizer
from core.records import Overflow
from pages.ui import address, formats, marks, states, tokenrows
from pages.ui.selection import Selection

AT_ONCE = 100_000
"""Up to so many rows the values are looked for unasked; in more, at the press of a button."""
NAMED, INDENT = 3, "\u2003"
POLICIES: dict[Overflow, str] = {
    "drop": "is left out",
    "shorten_input": "loses the end of its input",
    "shorten_left": "loses the start of its input",
    "shorten_around": "keeps its input around the gold values",
}


def found(chosen: Selection) -> Places | None:
    """Where the gold values lie, looked up once and kept on disk; None while a large version waits to be asked for."""
    dataset, version, template = chosen.whole
    of = (dataset.name, version.number)
    path = cache_path(version, template, load_tokenizer(chosen.model), dataset.elements, (), "values")
    if version.rows > AT_ONCE and not path.is_file() and not st.session_state.get("tokens_find"):
        return None
    return places(*of, template, chosen.model, reporter=states.Bar("Looking for the gold values"))


def find() -> None:
    """Look for the gold values of a large version in the next run."""
    st.session_state["tokens_find"] = True


def simulator(chosen: Selection, lengths: pa.Table, where: Places) -> Truncation:
    """The arrays of the selection, held between two looks."""
    _, version, template = chosen.whole
    of = f"{chosen.label} {version.content_hash}"
    return _simulator((of, template.model_dump_json(), chosen.model.model_dump_json()), lengths, where)


@st.cache_resource(show_spinner=False, max_entries=4)
def _simulator(of: tuple[str, ...], _lengths: pa.Table, _where: Places) -> Truncation:
    return Truncation(_lengths, _where)


def policy() -> Overflow:
    """What happens to a row that is too long, in the address."""
    address.hold("overflow", list(POLICIES), "drop")
    picked: Overflow = st.selectbox(
        "A row that is too long", list(POLICIES), format_func=POLICIES.__getitem__, key="overflow", persist_state="session",
        help="Answers are never cut. A conversation, or a row whose question and answer alone are too long, is left out.",
    )  # fmt: skip
    address.tell("overflow", picked, "drop")
    return picked


def recommended(at: Truncation, limit: int, *, primary: bool = False) -> None:
    """The length that is advised, as a button; the ``primary`` one where nothing else leads on."""
    length, reason = at.recommend()
    if length != limit:
        words = f"Use {formats.count(length)}, the advised length"
        st.button(
            words, key="tokens_advised", type="primary" if primary else "secondary", on_click=_use, args=(length,), help=reason
        )


def reason(at: Truncation, limit: int) -> None:
    """Why that length is advised."""
    length, words = at.recommend()
    st.caption(f"{'This' if length == limit else formats.count(length)} is the advised length: {words[0].lower()}{words[1:]}")


def _use(length: int) -> None:
    st.session_state["max_length"] = length


def show(chosen: Selection, at: Truncation, limit: int, overflow: Overflow) -> None:
    """Rows and values lost at this length, by element; what cutting would do; the losing rows, one click away."""
    dataset, _ = chosen.data
    told = at.simulate(limit, overflow)
    unanswered = int((~at.answered).sum())
    st.html(marks.facts(_entries(told, unanswered, at.empty)))
    if at.empty:
        st.caption("Of a row with an empty answer only the token that ends an answer is learnt: it teaches to say nothing.")
    if told.losing:
        words = f"Show the {formats.plural(told.losing, 'row')} that lose values"
        if st.button(words, key="tokens_losing", type="tertiary", icon=":material/table_rows:"):
            _losing(chosen, at, limit, overflow)
    if told.over:
        st.caption(_of_others(at.simulate(limit, "cut"), dataset.task == "extraction"))


def empties(lengths: pa.Table) -> None:
    """That rows have an empty answer, where the whole list isn't there yet."""
    if amount := pc.sum(lengths["empty"]).as_py():
        verb = "has" if amount == 1 else "have"
        st.caption(f"{formats.plural(amount, 'row')} {verb} an empty answer: only the token that ends an answer is learnt.")


def _entries(told: Outcome, unanswered: int, empty: int) -> list[tuple[str, str]]:
    entries = [("Rows over it", f"{formats.count(told.over)} of {formats.count(told.rows)}" if told.over else "none")]
    parts = {"left out": told.dropped, "input shortened": told.shortened}
    entries += [(f"{INDENT}{words}", formats.count(amount)) for words, amount in parts.items() if amount]
    entries.append(("Rows that lose gold values", formats.count(told.losing) if told.losing else "none"))
    most = list(told.by_element.items())
    shown = NAMED if len(most) > NAMED + 1 else NAMED + 1
    entries += [(f"{INDENT}{name}", formats.plural(amount, "value")) for name, amount in most[:shown]]
    if len(most) > shown:
        amount = sum(amount for _, amount in most[shown:])
        entries.append((f"{INDENT}{len(most) - shown} other elements", formats.plural(amount, "value")))
    if unanswered:
        entries.append(("Rows without a token to learn", formats.count(unanswered)))
    if empty:
        entries.append(("Rows with an empty answer", formats.count(empty)))
    return entries


def _of_others(cut: Outcome, extraction: bool) -> str:
    """What the first ``max_length`` tokens of each row would be worth."""
    if not cut.end_lost:
        return "Even cut at this length, every answer would be whole."
    broken = ""
    if extraction:
        amount = "all of them" if cut.json_broken == cut.end_lost else f"{formats.count(cut.json_broken)} of them"
        broken = f", {amount} with broken JSON"
    return f"A trainer that cuts would teach {formats.plural(cut.end_lost, 'answer')} without an end{broken}."


@st.dialog("Rows that lose gold values", width="large")
def _losing(chosen: Selection, at: Truncation, limit: int, overflow: Overflow) -> None:
    elements = at.simulate(limit, overflow).by_element
    picked = st.pills("Element", list(elements), key="losing_element", format_func=lambda e: f"{e} {elements[e]:,}")
    ids = at.losing_rows(limit, overflow, picked)
    sizes = dict(zip(at.row_ids.to_pylist(), at.whole.tolist(), strict=True))
    counts = pa.table({"row_id": pa.array(ids, pa.large_string()), "whole": [sizes[row] for row in ids]})
    tokenrows.listed(chosen, counts, key="losing", alt="Rows that lose values")
