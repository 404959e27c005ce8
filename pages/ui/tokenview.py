"""The first screen of Tokens: counting, the slider, the answer in words; long and faulty rows. Counts nothing itself."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import streamlit as st

from core.figures import budget
from core.lengths import measure, summary
from core.lengths.measuring import is_measured
from core.lengths.statistics import longest
from core.records import Overflow
from pages.ui import address, formats, shell, states, tables, tokenrows
from pages.ui.registry import TRAIN
from pages.ui.selection import Selection

LONG = 50_000
"""Rows whose count may take long enough to be stopped."""
STOPPED, _ADVISED = "_tokens_stopped", "_tokens_advised_before"
LEAST, MOST = 16, 131_072
"""Lengths in tokens that an address may ask for."""


def measured(chosen: Selection) -> pa.Table:
    """The lengths of the selection, counted once and kept on disk; a long count can be stopped, and goes on from there."""
    dataset, version, template = chosen.whole
    of = (dataset.name, version.number, template, chosen.model)
    if version.rows <= LONG or is_measured(*of):
        return measure(*of, reporter=states.Bar("Counting tokens"))
    this = f"{chosen.label} {template.ref} {chosen.model.label}"
    if st.session_state.get(STOPPED) == this:
        shell.answer("The count was stopped", "What was counted is kept: it goes on from there.")
        st.button("Go on counting", type="primary", key="tokens_go_on", on_click=_stopped, args=("",))
        st.stop()
    place = st.empty()
    place.button("Stop", key="tokens_stop", icon=":material/stop_circle:", on_click=_stopped, args=(this,))
    table = measure(*of, reporter=states.Bar("Counting tokens"))  # a press ends this run at its next sign of progress
    place.empty()
    return table


def _stopped(what: str) -> None:
    st.session_state[STOPPED] = what


def offered(longest: int, advised: int) -> list[int]:
    """Lengths for the slider: round ones, the advised one, and the one that the address asks for."""
    asked = st.query_params.get("max_length", "")
    held = [st.session_state.get("max_length"), address.kept("max_length"), int(asked) if asked.isdigit() else None]
    own = {n for n in held if n is not None and LEAST <= n <= MOST}
    return sorted({*budget.steps(longest), advised, *own})


def slider(options: list[int], default: int) -> int:
    """The maximum length, in the address. One that was only advised gives way when another is advised for what is selected."""
    advised = st.session_state.get(_ADVISED)
    if advised is not None and advised == st.session_state.get("max_length", address.kept("max_length")):
        st.session_state["max_length"] = default
    st.session_state[_ADVISED] = default
    address.hold("max_length", options, default)
    limit = st.select_slider(
        "Maximum length in tokens", options, key="max_length", persist_state="session", format_func=lambda n: f"{n:,}",
        help="Rows that are longer are left out of training, or their input is shortened. Answers are never cut.",
    )  # fmt: skip
    address.tell("max_length", limit)
    return limit


def sentence(
    whole: npt.NDArray[np.int64], limit: int, over: int, overflow: Overflow, dropped: int | None = None
) -> tuple[str, str]:
    """Whether it fits, with the numbers behind it. ``dropped``: of the ``over`` rows those that can't be shortened, if known."""
    rows = len(whole)
    p50, p95 = np.percentile(whole, [50, 95], method="inverted_cdf")
    detail = (
        f"Half of the rows have at most {formats.count(p50)} tokens, 95 % at most {formats.count(p95)}, "
        f"the longest {formats.count(whole.max())}."
    )
    if not over:
        return f"All {formats.plural(rows, 'row')} fit in {formats.count(limit)} tokens.", detail
    fits = f"{formats.percent(1 - over / rows)} of {formats.plural(rows, 'row')} fit in {formats.count(limit)} tokens"
    if overflow == "drop" or dropped == over:
        return f"{fits}; {formats.count(over)} would be left out.", detail
    if not dropped:
        return f"{fits}; {formats.count(over)} would have a shortened input.", detail
    lost = f"{formats.count(over - dropped)} would have a shortened input, {formats.count(dropped)} would be left out"
    return f"{fits}; {lost}.", detail


def percentiles(table: pa.Table, limit: int) -> pd.DataFrame:
    """Percentiles of prompt, answer and whole."""
    found = summary(table, limit)
    names = {"prompt": "Prompt", "answer": "Answer", "whole": "Whole row"}
    return pd.DataFrame([{"part": words} | found[part] for part, words in names.items()])


HANDED = {"tokens_turns": "train_turns", "tokens_batch": "train_batch_size", "tokens_method": "train_method"}
"""Choices of Tokens and what the form of Train calls them."""


def hand_to_training(limit: int, overflow: Overflow) -> None:
    """Take along to Train what was chosen here: length, longer rows, turns, rows a step, method; into a fresh form."""
    state = st.session_state
    state.pop("train_base", None)
    state["train_length"], state["train_overflow"] = limit, overflow
    for ours, theirs in HANDED.items():
        if (chosen := address.kept(ours)) is not None:
            state[theirs] = chosen
    shell.go(TRAIN)


def longest_rows(chosen: Selection, table: pa.Table) -> None:
    """The longest rows, with their texts."""
    top = longest(table.filter(pc.is_valid(table["whole"])), 20)
    tokenrows.listed(chosen, top, key="longest", alt="The longest rows")


def faults(table: pa.Table) -> None:
    """Rows that could not be written with this template, and why."""
    wrong = table.filter(pc.is_valid(table["fault"])).select(["row_id", "split", "fault"]).slice(0, 500).to_pandas()
    tables.show(
        wrong,
        {"row_id": tables.text("Row"), "split": tables.text("Split"), "fault": tables.text("Fault", width="large")},
        alt="Faults",
    )
