"""What a training will cost before it starts: cards, how sure they are, rows that are left out, what to change if it doesn't fit.

Knows nothing of the form; ``core.training.estimate`` counts.
"""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd
import streamlit as st

from core.jobs.queue import default_device
from core.models.tokenizer import load_tokenizer
from core.prompts.studio import mask_view
from core.prompts.templates import find_template
from core.records import TrainSpec
from core.store.datasets import get_dataset, read_rows
from core.store.runs import list_runs
from core.training.data import within_context
from core.training.estimate import Estimate, estimate_spec
from pages.ui import formats, states, tables, tokenrow

CARD = 164
"""Width of a card, in pixels."""
SHOWN = 200
"""Left-out rows that are listed."""


@dataclass(frozen=True)
class Cost:
    """An estimate with the first rows that it leaves out: ``row_id``, ``tokens``, ``reason``."""

    found: Estimate
    dropped: tuple[tuple[str, int, str], ...]


@st.cache_data(max_entries=32, show_spinner="Counting what the training takes")
def _estimated(spec: str, device: str, finished: int) -> Cost:
    """``finished`` runs are part of the key, since they correct the time (a name with ``_`` would be no part of it)."""
    found, data = estimate_spec(TrainSpec.model_validate_json(spec), device)
    return Cost(found, tuple((row.row_id, row.tokens, row.reason) for row in data.dropped[:SHOWN]))


def estimate(spec: TrainSpec) -> Cost | None:
    """What the training will cost; None, with the reason drawn, where it can't be told. Finished runs correct it."""
    with states.catching():
        return _estimated(spec.model_dump_json(exclude={"name"}), default_device(), sum(run.complete for run in list_runs()))
    return None


def sentence(spec: TrainSpec, cost: Cost | None, faults: int) -> str:
    """What a training would take, or what keeps it from starting; begins in lower case. ``cost`` None: it can't be told."""
    if faults:
        return f"{formats.plural(faults, 'setting')} below must be changed before it can start"
    names = " and ".join(dict.fromkeys(use.dataset for use in spec.data))
    if cost is None:
        return f"{names} is chosen; what it would take can't be told"
    found = cost.found
    rows, memory = formats.plural(found.examples, "row"), formats.size(found.memory.total)
    short = "" if found.memory.fits else ", more than is free"
    return f"{rows} of {names} would take about {formats.duration(found.whole_seconds)} and {memory} of memory{short}"


def show(spec: TrainSpec, cost: Cost) -> None:
    """The estimate as cards, how sure it is, and what to change where it doesn't fit."""
    found = cost.found
    free = formats.free(found.memory.free, found.device)
    with st.container(horizontal=True):
        st.metric("Steps", formats.count(found.steps), width=CARD)
        st.metric("Tokens", formats.count(found.tokens), help="Real tokens over all epochs, padding left out.", width=CARD)
        st.metric("Time, about", formats.duration(found.whole_seconds), width=CARD)
        st.metric("Peak memory, about", formats.size(found.memory.total), help=free, width=CARD)
    st.caption(f"{found.how_sure} {found.beside} {free}. {found.memory.words}")
    if not found.memory.fits:
        advice = "\n".join(f"- {line}" for line in found.advice)
        st.warning(
            f"**It needs {formats.size(found.memory.total)}, and {free}.** What helps:\n\n{advice}", icon=":material/memory:"
        )
    _dropped(cost)
    _learnt(spec)


def label(spec: TrainSpec, cost: Cost | None) -> str:
    """What the button does, and how much of it: ``Train 3 epochs, about 12 min``."""
    amount = formats.plural(spec.max_steps, "step") if spec.max_steps else f"{spec.epochs:g} epoch" + "s" * (spec.epochs != 1)
    return f"Train {amount}, about {formats.duration(cost.found.whole_seconds)}" if cost else f"Train {amount}"


def _dropped(cost: Cost) -> None:
    count = cost.found.dropped
    if not count:
        return
    verb = "is" if count == 1 else "are"
    with st.expander(f"{formats.plural(count, 'row')} of {formats.count(count + cost.found.examples)} {verb} left out"):
        frame = pd.DataFrame(list(cost.dropped), columns=["row_id", "tokens", "reason"])
        columns = {"row_id": tables.text("Row"), "tokens": tables.whole("Tokens"), "reason": tables.text("Why", width="large")}
        tables.show(frame, columns, alt="Rows that the training leaves out", height=300)
        if count > len(cost.dropped):
            st.caption(f"The first {len(cost.dropped)} of them.")


def _learnt(spec: TrainSpec) -> None:
    """What is learnt of the first row: the tokens as the trainer gets them."""
    with st.expander("What is learnt of a row"), states.catching():
        use = spec.data[0]
        [row] = read_rows(use.dataset, use.version, split=use.split, limit=1).to_pylist() or [None]
        if row is None:
            st.caption("The split has no rows.")
            return
        view = mask_view(
            find_template(spec.template), row, tokenizer=load_tokenizer(spec.model), elements=get_dataset(use.dataset).elements,
            turns=spec.turns, max_length=within_context(spec).max_length, overflow=spec.overflow, loss_on=spec.loss_on,
        )  # fmt: skip
        tokenrow.said(view)
        tokenrow.coloured(view)
        st.caption("The first row. Tokens shows any other.")
