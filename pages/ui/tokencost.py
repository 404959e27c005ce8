"""What an epoch costs on Tokens: padding against packing, and time and peak memory on a device, with their basis."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow.compute as pc
import streamlit as st

from core.figures import lengths as figures
from core.lengths.batching import Simulated, simulate_batches
from core.models.catalogue import resolve
from core.models.memory import devices
from core.records import DatasetUse, Overflow, TrainSpec
from core.training.estimate import Estimate, estimate_lengths, free_bytes, read_shape
from pages.ui import address, charts, formats, states, tables
from pages.ui.selection import Selection

METHODS = {"qlora": "QLoRA", "lora": "LoRA", "full": "full"}
Lengths = npt.NDArray[np.int64]


def show(chosen: Selection, table: Any, kept: Lengths, limit: int, overflow: Overflow) -> None:
    """Draw both. ``kept``: each row's tokens as it is trained on, 0 where it is left out; only train rows are counted."""
    dataset, version = chosen.data
    train = pc.equal(table["split"], "train").to_numpy(zero_copy_only=False) if version.split_sizes.get("train") else None
    rows = kept if train is None else kept[train]
    lengths = rows[rows > 0].astype(np.int64)
    if not len(lengths):
        st.caption("No row fits this length.")
        return
    padding, price = st.columns(2, gap="large")
    with padding:
        address.hold_number("tokens_batch", 1, 1024, 8)
        size = int(st.number_input("Rows a step", 1, 1024, key="tokens_batch", persist_state="session", width=150))
        address.tell("tokens_batch", size, 8)
        _batches(simulate_batches(lengths, size, limit), limit, size)
    with price:
        with st.container(horizontal=True):
            address.hold("tokens_method", list(METHODS), "qlora")
            method: Any = st.selectbox(
                "Method", list(METHODS), key="tokens_method", persist_state="session", format_func=METHODS.__getitem__
            )
            address.tell("tokens_method", method, "qlora")
            named = {device.name: f"{device.name}, {device.description}" for device in devices()}
            first = next(iter(named))
            address.hold("tokens_device", list(named), first)
            device = st.selectbox(
                "Device", list(named), key="tokens_device", persist_state="session", format_func=named.__getitem__
            )
            address.tell("tokens_device", device)
        use = DatasetUse(dataset=dataset.name, version=version.number, split="" if train is None else "train")
        spec = TrainSpec(
            model=chosen.model, data=(use,), template=chosen.template.ref if chosen.template else "chat", method=method,
            batch_size=size, max_length=limit, overflow=overflow,
        )  # fmt: skip
        with states.catching("The figures beside it hold."):
            shape, free = read_shape(resolve(spec.model)), free_bytes(device)
            share = learnt_share(table)
            _price(estimate_lengths(spec, lengths.tolist(), len(rows) - len(lengths), shape, device, free, share))


def learnt_share(table: Any) -> float:
    """Which part of the tokens is learnt, over all rows."""
    return float((pc.sum(table["answer"]).as_py() or 0) / max(1, pc.sum(table["whole"]).as_py() or 0))


def _batches(made: Simulated, limit: int, size: int) -> None:
    ways = {
        f"Batches of {size}, shuffled": made.random,
        f"Batches of {size}, by length": made.grouped,
        f"Packed into {limit:,}": made.packed,
    }
    frame = pd.DataFrame(
        [
            {"way": name, "tokens": w.tokens, "padding": w.processed - w.tokens, "share": w.waste, "steps": w.steps}
            for name, w in ways.items()
        ]
    )
    title = (
        f"Padding is {formats.percent(made.random.waste)} of shuffled batches, {formats.percent(made.packed.waste)} when packed"
    )
    st.markdown(f"**{title}**")
    charts.show(
        figures.budget_bars({name: (w.tokens, w.processed - w.tokens) for name, w in ways.items()}),
        key="budget", alt="Tokens of an epoch, useful and padding, by way of batching", table=frame,
        columns={
            "way": tables.text("Way"), "tokens": tables.whole("Tokens of rows"), "padding": tables.whole("Padding"),
            "share": tables.share("Padding share"), "steps": tables.whole("Steps an epoch"),
        },
    )  # fmt: skip
    sequences = formats.plural(made.packed_sequences, "sequence")
    st.caption(f"{formats.plural(made.random.steps, 'step')} an epoch in batches; packed, the rows fill {sequences}.")


def _price(found: Estimate) -> None:
    at = found.memory
    cells = st.columns(2)
    cells[0].metric("Time an epoch, about", formats.duration(found.seconds), help=_steps(found))
    cells[1].metric("Peak memory, about", formats.size(at.total), help=f"{formats.free(at.free, found.device)}.")
    parts = {"weights": at.weights, "what is learnt": at.learnt, "activations": at.activations, "work space": at.work}
    listed = ", ".join(f"{name} {formats.size(amount)}" for name, amount in parts.items())
    st.caption(f"{found.how_sure} {listed[0].upper()}{listed[1:]}. `bench/fit_estimates.py` measures and fits.")
    if not at.fits:
        st.warning(
            f"**It doesn't fit: {formats.free(at.free, found.device)}.** What helps:\n\n"
            + "\n".join(f"- {line}" for line in found.advice),
            icon=":material/memory:",
        )


def _steps(found: Estimate) -> str:
    return f"{formats.plural(found.steps, 'step')} over {formats.plural(found.tokens, 'token')}."
