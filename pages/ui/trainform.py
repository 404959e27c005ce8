"""The form of a new training: what, how, where; its faults and its cost before anything starts.

Returns a TrainSpec; knows nothing of training.
"""

from __future__ import annotations

from typing import Any

import streamlit as st

from core.jobs.queue import default_device
from core.records import DatasetUse, TrainSpec
from core.store.runs import list_runs
from core.training.estimate import Estimate, estimate_spec
from core.training.spec import LEARNING_RATES
from pages.ui import formats, states
from pages.ui.selection import Selection

METHODS = {
    "qlora": "QLoRA: an adapter on a 4-bit base; least memory",
    "lora": "LoRA: an adapter on the base as it is; quicker on a CPU",
    "full": "Full: all weights; most memory, seldom needed",
}
OVERFLOW = {
    "drop": "leave the row out (and count it)",
    "shorten_input": "shorten its input at the end, never its answer",
    "shorten_left": "shorten its input at the start",
    "shorten_around": "shorten its input around the gold values",
}
TURNS = {"all": "every answer of a conversation", "last": "its last answer only"}


def form(selection: Selection) -> TrainSpec | None:
    """Draw the form; the spec as it stands now, or None without a dataset."""
    if selection.dataset is None or selection.version is None:
        return None
    what, how, where = st.columns(3, gap="large")
    values: dict[str, Any] = {}
    with what:
        st.subheader("What", anchor=False)
        data = _what(selection)
    with how:
        st.subheader("How", anchor=False)
        values |= _how()
    with where:
        st.subheader("Where and when", anchor=False)
        values |= _where(selection)
    method = values["method"]
    model = selection.model.model_copy(update={"quantisation": "nf4" if method == "qlora" else "none"})
    return TrainSpec(model=model, template=selection.template.ref if selection.template else "chat", **data, **values)


def _what(selection: Selection) -> dict[str, Any]:
    assert selection.dataset is not None
    assert selection.version is not None
    sizes = selection.version.split_sizes
    split = "train" if sizes.get("train") else next((name for name in sizes if sizes[name]), "train")
    rows = sizes.get(split, 0)
    st.markdown(f"**{selection.label}**, split *{split}*: {rows:,} rows")
    st.markdown(f"Template **{selection.template.ref if selection.template else 'chat'}**, model **{selection.model.label}**")
    limit = st.number_input(
        "Rows to train on", 1, max(1, rows), max(1, rows), key="train_limit", help="The first rows of the split, in their order."
    )
    name = st.text_input("Name of the run", key="train_name", placeholder="made from dataset and method")
    use = DatasetUse(
        dataset=selection.dataset.name, version=selection.version.number, split=split, limit=int(limit) if limit < rows else None
    )
    dev = None
    if sizes.get("dev") and st.checkbox(
        "Look at dev while training", True, key="train_dev", help="Dev loss, and micro-F1 of real answers."
    ):
        dev = DatasetUse(dataset=selection.dataset.name, version=selection.version.number, split="dev")
    return {"data": (use,), "dev": dev, "name": name.strip()}


def _how() -> dict[str, Any]:
    method = st.radio(
        "Method", list(METHODS), format_func=lambda m: METHODS[m].split(":")[0], horizontal=True, key="train_method"
    )
    st.caption(METHODS[method].split(": ", 1)[1].capitalize() + ".")
    epochs = st.number_input("Epochs", 0.1, 50.0, 1.0, 0.5, key="train_epochs", help="How often each row is seen.")
    rate = st.number_input(
        "Learning rate",
        1e-7,
        1e-1,
        LEARNING_RATES[method],
        format="%.1e",
        key=f"train_rate_{method}",
        help="How far each step goes. Small models and few rows bear 5e-4 to 1e-3 with LoRA.",
    )
    values: dict[str, Any] = {"method": method, "epochs": epochs, "learning_rate": rate}
    with st.expander("More"):
        values["batch_size"] = st.number_input("Rows a step", 1, 1024, 8, key="train_batch", help="Rows of one optimiser step.")
        if method != "full":
            values["lora_r"] = st.number_input(
                "LoRA rank r", 1, 512, 16, key="train_r", help="Width of the adapter; 8 to 32 is usual."
            )
            values["lora_alpha"] = st.number_input(
                "LoRA alpha", 1, 1024, 32, key="train_alpha", help="Scale of the adapter; twice r is usual."
            )
            values["lora_dropout"] = st.slider("LoRA dropout", 0.0, 0.5, 0.05, key="train_dropout")
        values["warmup_ratio"] = st.slider(
            "Warm-up", 0.0, 0.3, 0.03, key="train_warmup", help="Share of steps in which the rate rises."
        )
        values["scheduler"] = st.selectbox(
            "Schedule", ["cosine", "linear", "constant", "constant_with_warmup"], key="train_schedule"
        )
        values["seed"] = st.number_input("Seed", 0, 2**31 - 1, 7, key="train_seed")
    return values


def _where(selection: Selection) -> dict[str, Any]:
    length = st.number_input(
        "Maximum length in tokens", 16, 131072, 1024, 64, key="train_length", help="Of prompt and answer together."
    )
    overflow = st.radio("A longer row", list(OVERFLOW), format_func=OVERFLOW.__getitem__, key="train_overflow")
    save = st.number_input("Checkpoint every … steps", 1, 100000, 25, key="train_save")
    values: dict[str, Any] = {"max_length": length, "overflow": overflow, "save_every": save}
    if selection.dataset and selection.dataset.task == "chat":
        values["turns"] = st.radio("Learn", list(TURNS), format_func=TURNS.__getitem__, key="train_turns")
    if selection.version and selection.version.split_sizes.get("dev"):
        values["eval_rows"] = st.number_input("Dev rows looked at", 1, 4096, 32, key="train_eval_rows")
    return values


@st.cache_data(max_entries=32, show_spinner="Counting what the training takes")
def _estimated(spec: str, device: str, _finished: int) -> Estimate:
    return estimate_spec(TrainSpec.model_validate_json(spec), device)[0]


def estimate(spec: TrainSpec) -> Estimate | None:
    """What the training will cost; None, with the reason drawn, where it can't be told. Finished runs correct it."""
    with states.catching():
        return _estimated(spec.model_dump_json(exclude={"name"}), default_device(), sum(run.complete for run in list_runs()))
    return None


def cost(found: Estimate) -> None:
    """The estimate as cards, how sure it is, and what to change where it doesn't fit."""
    cells = st.columns(4)
    cells[0].metric("Steps", formats.count(found.steps))
    cells[1].metric("Tokens", formats.count(found.tokens), help="Real tokens over all epochs, padding left out.")
    cells[2].metric("Time, about", formats.duration(found.seconds))
    free = f"{formats.size(found.memory.free)} are free on {found.device}"
    cells[3].metric("Peak memory, about", formats.size(found.memory.total), help=free)
    basis = (
        f"Time as measured in {formats.plural(found.measured_runs, 'run')} like this one on {found.device}."
        if found.measured_runs
        else f"No run like this was measured on {found.device} yet: the time may be off by half."
    )
    dropped = f" {formats.plural(found.dropped, 'row')} will be left out." if found.dropped else ""
    st.caption(f"{basis} {free}.{dropped}")
    if not found.memory.fits:
        advice = "\n".join(f"- {line}" for line in found.advice)
        st.warning(
            f"**It needs {formats.size(found.memory.total)}, and {free}.** What helps:\n\n{advice}", icon=":material/memory:"
        )


def label(spec: TrainSpec, found: Estimate | None) -> str:
    """What the button does, and how much of it: ``Train 3 epochs, about 12 min``."""
    epochs = f"Train {spec.epochs:g} epoch" + ("" if spec.epochs == 1 else "s")
    return f"{epochs}, about {formats.duration(found.seconds)}" if found else epochs
