"""The form of a new training: what, how, where; begun from nothing or from the settings of another run.

Returns a TrainSpec; knows nothing of training, nor of what it will cost (``traincost``).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import streamlit as st

from core.jobs.queue import gpu_count
from core.records import DatasetUse, Run, TrainSpec
from core.store.datasets import get_version, list_datasets, list_versions
from core.training.scores import metrics_of
from core.training.spec import learning_rate
from pages.ui import formats, trainsettings
from pages.ui.selection import Selection

BASE = "train_base"
"""Where the session keeps the run whose settings the form begins with."""
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
LOSS_ON = {"answer": "the answer only", "all": "the prompt too"}
LOOKS = {1: "once, at the end", 2: "2 times", 4: "4 times", 8: "8 times", 16: "16 times", 32: "32 times"}


def form(selection: Selection, base: Run | None) -> TrainSpec | None:
    """Draw the form; the spec as it stands now, or None without a dataset. ``base``: begin with its settings."""
    if selection.dataset is None or selection.version is None:
        return None
    key = f"_{base.run_id}" if base else ""
    start = base.spec if base else TrainSpec(data=(DatasetUse(dataset=selection.dataset.name),), eval_rows=32)
    what, how, where = st.columns(3, gap="large")
    with what:
        st.subheader("What", anchor=False)
        values = _begun(base, key) if base else _what(selection)
    with how:
        st.subheader("How", anchor=False)
        values |= _how(start, values, selection, base, key)
    with where:
        st.subheader("Rows and looks", anchor=False)
        values |= _rows(start, values, key)
    with st.expander("All settings", icon=":material/tune:"):
        values |= _more(start, values, key)
    looks = values.pop("looks")
    steps, before = planned_steps(start, values), planned_steps(start, {"data": start.data}) if base else 0
    if steps == before and looks == _held(start, before):  # nothing that it hangs on was changed: as it was, to the step
        values["eval_every"] = start.eval_every
    elif looks > 1:
        values["eval_every"] = max(1, math.ceil(steps / looks))
    return TrainSpec.model_validate({**start.model_dump(), **values})


def _what(selection: Selection) -> dict[str, Any]:
    assert selection.dataset is not None
    assert selection.version is not None
    dataset, sizes = selection.dataset.name, selection.version.split_sizes
    split = "train" if sizes.get("train") else next((name for name in sizes if sizes[name]), "train")
    rows = sizes.get(split, 0)
    st.markdown(f"**{selection.label}**, split *{split}*: {rows:,} rows")
    st.markdown(f"Template **{selection.template.ref if selection.template else 'chat'}**, model **{selection.model.label}**")
    limit = st.number_input(
        "Rows to train on", 1, max(1, rows), max(1, rows), key="train_limit", help="The first rows of the split, in their order."
    )
    name = st.text_input("Name of the run", key="train_name", placeholder="made from dataset and method")
    uses = [
        DatasetUse(dataset=dataset, version=selection.version.number, split=split, limit=int(limit) if limit < rows else None)
    ]
    uses = _mixed(uses)
    dev = None
    if sizes.get("dev") and st.checkbox(
        "Look at dev while training", True, key="train_dev", help="Dev loss, and micro-F1 of real answers."
    ):
        dev = DatasetUse(dataset=dataset, version=selection.version.number, split="dev")
    template = selection.template.ref if selection.template else "chat"
    return {"data": uses, "dev": dev, "name": name.strip(), "template": template}


def _mixed(uses: list[DatasetUse]) -> list[DatasetUse]:
    """The chosen dataset with others beside it, and how often each one's rows are seen."""
    others = [d.name for d in list_datasets() if d.name != uses[0].dataset]
    if not others:
        return uses
    chosen = st.multiselect(
        "Mixed with",
        others,
        key="train_mix",
        placeholder="nothing else",
        help="Other datasets that are trained on at the same time.",
    )
    uses = [*uses, *(DatasetUse(dataset=name, version=get_version(name).number) for name in chosen)]
    if not chosen:
        return uses
    weights = [
        st.number_input(
            f"Times an epoch: {use.dataset}", 0.01, 100.0, 1.0, 0.5, key=f"train_weight_{use.dataset}",
            help="How often each of its rows is seen in an epoch: 2 is twice, 0.5 is half of them.",
        )
        for use in uses
    ]  # fmt: skip
    return [use.model_copy(update={"weight": weight}) for use, weight in zip(uses, weights, strict=True)]


def on_newest(data: Sequence[DatasetUse], newest: Mapping[str, int]) -> list[DatasetUse]:
    """All uses on their datasets' newest versions. Those that have the same rows then become one, seen as often as both were."""
    weights: dict[DatasetUse, float] = {}
    for use in data:
        rows = use.model_copy(update={"version": newest[use.dataset], "weight": 1.0})
        weights[rows] = weights.get(rows, 0.0) + use.weight
    return [rows.model_copy(update={"weight": weight}) for rows, weight in weights.items()]


def _begun(base: Run, key: str) -> dict[str, Any]:
    """Data, template and model of the run that the form begins with; its first dataset's newest version if wanted."""
    spec = base.spec
    for use in spec.data:
        weight = f", {use.weight:g} times an epoch" if len(spec.data) > 1 else ""
        limit = f", the first {use.limit:,} rows" if use.limit else ""
        st.markdown(f"**{use.dataset} · v{use.version}**, split *{use.split}*{limit}{weight}")
    st.markdown(f"Template **{spec.template}**, model **{spec.model.label}**")
    st.caption(f"All as in {base.name}. Change what you want; the rest stays.")
    data, dev = list(spec.data), spec.dev
    newest = {use.dataset: list_versions(use.dataset)[-1].number for use in data}
    newer = {name: number for name, number in newest.items() if any(u.dataset == name and u.version != number for u in data)}
    said = ", ".join(f"{name} v{number}" for name, number in newer.items())
    if newer and st.toggle(f"Train on the newest version ({said})", key=f"train_newest{key}"):
        data = on_newest(data, newest)
        if dev is not None and dev.dataset in newest:
            dev = dev.model_copy(update={"version": newest[dev.dataset]})
    name = st.text_input("Name of the run", key=f"train_name{key}", placeholder="made from dataset and method")
    if st.button("Begin with a fresh form", key=f"train_fresh{key}", type="tertiary", icon=":material/restart_alt:"):
        st.session_state.pop(BASE, None)
        st.rerun()
    return {"data": data, "dev": dev, "name": name.strip()}


def _how(start: TrainSpec, chosen: dict[str, Any], selection: Selection, base: Run | None, key: str) -> dict[str, Any]:
    options = list(METHODS)
    method = st.radio(
        "Method", options, options.index(start.method), format_func=lambda m: METHODS[m].split(":")[0], horizontal=True,
        key=f"train_method{key}",
        help="An adapter is a small part that is learnt beside the model, which itself stays as it is. Begin with QLoRA or LoRA.",
    )  # fmt: skip
    said = METHODS[method].split(": ", 1)[1]
    st.caption(f"{said[0].upper()}{said[1:]}.")
    epochs = st.number_input(
        "Epochs",
        *trainsettings.reaching(0.1, 50.0, float(start.epochs)),
        float(start.epochs),
        0.5,
        key=f"train_epochs{key}",
        help="How often each row is seen.",
    )
    model = start.model if base else selection.model
    same = base is not None and method == base.spec.method
    if not same:
        model = model.model_copy(update={"quantisation": "nf4" if method == "qlora" else "none"})
    rate = learning_rate(start if same else start.model_copy(update={"method": method, "model": model, "learning_rate": None}))
    rate = st.number_input(
        "Learning rate",
        *trainsettings.reaching(1e-7, 1e-1, rate),
        rate,
        rate / 2,
        format="%.1e",
        key=f"train_rate_{method}_{model.label}{key}",
        help="How far each step goes. Too high: the loss jumps or is not a number. Too low: it hardly falls.",
    )
    return {"method": method, "epochs": epochs, "learning_rate": rate, "model": model}


def _rows(start: TrainSpec, chosen: dict[str, Any], key: str) -> dict[str, Any]:
    length = st.number_input(
        "Maximum length in tokens",
        *trainsettings.reaching(16, 131072, start.max_length),
        start.max_length,
        64,
        key=f"train_length{key}",
        help="Of prompt and answer together.",
    )
    ways = list(OVERFLOW)
    overflow = st.selectbox(
        "A longer row", ways, ways.index(start.overflow), format_func=OVERFLOW.__getitem__, key=f"train_overflow{key}",
        help="What becomes of a row with more tokens than that. Rows that are left out are counted and listed below.",
    )  # fmt: skip
    values: dict[str, Any] = {"max_length": length, "overflow": overflow, "eval_every": None, "looks": 1}
    if any(dataset.task == "chat" for dataset in list_datasets() if dataset.name in {use.dataset for use in chosen["data"]}):
        kinds = list(TURNS)
        values["turns"] = st.radio(
            "Learn", kinds, kinds.index(start.turns), format_func=TURNS.__getitem__, key=f"train_turns{key}",
            help="What was said before an answer is read each time, as it will be when the model is asked.",
        )  # fmt: skip
    if chosen["dev"] is None:
        return values | {"patience": None}
    steps = planned_steps(start, chosen)
    looks = st.selectbox(
        "Looks at dev",
        list(LOOKS),
        list(LOOKS).index(_held(start, steps)),
        format_func=LOOKS.__getitem__,
        key=f"train_looks{key}",
        help="Each look answers some dev rows and scores them; it takes time, and shows early whether the training helps.",
    )
    return values | {"looks": looks}


def _held(start: TrainSpec, steps: int) -> int:
    """How many looks are offered to begin with: those of the settings that the form begins with, or about as many."""
    held = 4 if start.eval_every is None and start.dev is None else steps / (start.eval_every or steps)
    return min(LOOKS, key=lambda n: abs(n - held))


def planned_steps(start: TrainSpec, chosen: dict[str, Any]) -> int:
    """About how many steps the training will take, before its rows are counted."""
    most, rows = chosen.get("max_steps", start.max_steps), 0.0
    if most:
        return int(most)
    for use in chosen["data"]:
        there = get_version(use.dataset, use.version).split_sizes.get(use.split, 0)
        rows += min(there, use.limit or there) * use.weight
    epochs = chosen.get("epochs", start.epochs)
    return max(1, math.ceil(epochs * math.ceil(rows / chosen.get("batch_size", start.batch_size))))


def _more(start: TrainSpec, chosen: dict[str, Any], key: str) -> dict[str, Any]:
    """The settings that seldom need a change, each with what it is good for."""
    values = start.model_dump()
    names = ["Steps", "Adapter", "Dev", "Checkpoints", "Machine"]
    steps, adapter, dev, keep, machine = st.tabs(names, key=f"train_all{key}")
    with steps:
        found = trainsettings.ask_all(trainsettings.STEPS, values, key)
        kinds = list(LOSS_ON)
        found["loss_on"] = st.radio(
            "Learn from", kinds, kinds.index(start.loss_on), format_func=LOSS_ON.__getitem__, horizontal=True,
            key=f"train_loss_on{key}", help="Learning the prompt too only helps when prompts are text worth learning.",
        )  # fmt: skip
    with adapter:
        if chosen["method"] == "full":
            st.caption("Full fine-tuning has no adapter: every weight is learnt.")
        else:
            found |= trainsettings.ask_all(trainsettings.ADAPTER, values, key)
    with dev:
        found |= _dev(values, chosen, key)
    with keep:
        found |= trainsettings.ask_all(trainsettings.KEEP, values, key)
    with machine:
        found |= trainsettings.ask_all(trainsettings.MACHINE, values, key)
        gpus = gpu_count()
        if gpus > 1:
            found["gpus"] = trainsettings.ask(trainsettings.GPUS, start.gpus, key)
            st.caption(f"This machine has {formats.plural(gpus, 'GPU')}.")
    return found


def _dev(values: dict[str, Any], chosen: dict[str, Any], key: str) -> dict[str, Any]:
    if chosen["dev"] is None:
        st.caption("Nothing is looked at while training: the dataset has no dev rows, or they are switched off.")
        return {}
    task = next((d.task for d in list_datasets() if d.name == chosen["dev"].dataset), "extraction")
    measured = {name: trainsettings.METRICS[name] for name in metrics_of(task)}
    ordered = dict(sorted(measured.items(), key=lambda item: list(trainsettings.METRICS).index(item[0])))
    found = {}
    cells = st.columns(3)
    for place, setting in enumerate(trainsettings.DEV):
        with cells[place % 3]:
            offered = ordered if setting.name == "best_metric" else None
            found[setting.name] = trainsettings.ask(setting, values[setting.name], key, offered)
    if chosen["looks"] == 1 and found["patience"] is not None:
        st.caption("To stop early, let it look at dev more than once.")
    return found
