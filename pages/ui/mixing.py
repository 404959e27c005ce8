"""Mix: several datasets by weights into a new one, with the rows that each gives shown before.

Knows nothing of how rows are drawn; ``core.data.mix`` plans and draws.
"""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
import streamlit as st

from core.data.mix import Part, mix, plan_mix
from core.records import Dataset, Version
from core.store.datasets import list_datasets
from pages.ui import formats, shell, states, tables


def show(dataset: Dataset, version: Version) -> None:
    """Choose datasets and weights, see the counts, make the mix."""
    names = [known.name for known in list_datasets()]
    if len(names) < 2:
        st.caption("A mix trains on several datasets at once. Import a second one, and its weight is set here.")
        return
    chosen = st.multiselect("Datasets", names, default=[dataset.name], key="mix_parts", width=620)
    if len(chosen) < 2:
        st.caption("Choose at least two. Weights are shares of the training rows; dev and test rows are taken whole.")
        return
    weights: dict[str, float] = {}
    cells = st.columns(min(4, len(chosen)))
    for place, name in enumerate(chosen):
        with cells[place % len(cells)]:
            label = f"Weight of {name}"
            weights[name] = st.number_input(label, min_value=0.01, value=1.0, step=0.5, key=f"mix_weight_{name}")
    with st.container(horizontal=True, vertical_alignment="bottom"):
        limited = st.number_input(
            "Training rows", min_value=1, value=None, step=100, key="mix_rows", width=220, placeholder="as many as go",
            help="Empty: as many as go without a row standing in the mix twice.",
        )  # fmt: skip
        seed = st.number_input("Seed", 0, 1_000_000, 7, key="mix_seed", width=140)
        name = st.text_input("Name of the mix", "-".join(["mix", *chosen])[:60], key="mix_name", width=320).strip()
    with states.catching("Nothing was made."):
        parts = plan_mix(weights, int(limited) if limited else None)
        _planned(parts)
        size = sum(part.taken + part.held_out for part in parts)
        if st.button(f"Make a mix of {formats.plural(size, 'row')}", key="mix_go"):
            with st.spinner("Mixing"):
                mix(weights, name, rows=int(limited) if limited else None, seed=int(seed))
            st.toast(f"{name} was made.")
            shell.select(dataset=name, version="latest")
            st.rerun()


def _planned(parts: Sequence[Part]) -> None:
    total = sum(part.taken for part in parts)
    lines = [
        {
            "dataset": f"{part.dataset} · v{part.version}",
            "available": part.available,
            "taken": part.taken,
            "share": part.taken / max(1, total),
            "repeated": part.repeated,
            "held_out": part.held_out,
        }
        for part in parts
    ]
    columns = {
        "dataset": tables.text("Dataset"), "available": tables.whole("Training rows there"),
        "taken": tables.whole("In the mix"), "share": tables.share("Share"),
        "repeated": tables.whole("Stand in it again", "Rows beyond those that the dataset has"),
        "held_out": tables.whole("Dev and test", "Taken whole"),
    }  # fmt: skip
    tables.show(pd.DataFrame(lines), columns, alt="What each dataset gives")
