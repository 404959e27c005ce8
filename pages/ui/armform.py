"""The form of a new evaluation: which arm answers which rows. Returns an EvaluationSpec; runs nothing."""

from __future__ import annotations

import streamlit as st

from core.records import Arm, EvaluationSpec, GenerationSettings, Run
from pages.ui import formats
from pages.ui.selection import Selection

PROMPT = "the prompt alone"


def form(selection: Selection, runs: list[Run], *, key: str) -> EvaluationSpec | None:
    """Draw the form; the spec as it stands, or None where there is no row to answer."""
    if selection.dataset is None or selection.version is None:
        return None
    sizes = {name: size for name, size in selection.version.split_sizes.items() if size}
    if not sizes:
        return None
    names = {PROMPT: None} | {f"{run.name} · {run.created_at:%m-%d %H:%M}": run for run in runs if run.complete}
    order = sorted(sizes, key=lambda name: ("test", "dev", "train", "").index(name) if name in ("test", "dev", "train") else 9)
    one, two, three, four = st.columns([3, 2, 2, 2], vertical_alignment="bottom")
    who = one.selectbox("Who answers", list(names), key=f"{key}_who", help="The base model with a prompt, or a fine-tune.")
    split = two.selectbox(
        "Rows of", order, format_func=lambda name: f"{name or 'no split'} ({sizes[name]:,})", key=f"{key}_split"
    )
    limit = three.number_input(
        "Rows", 1, sizes[split], min(100, sizes[split]), key=f"{key}_limit_{split}", help="The first ones."
    )
    tokens = four.number_input(
        "New tokens at most", 8, 4096, 128, key=f"{key}_tokens", help="An answer longer than this is cut off."
    )
    run = names[who]
    shots = 0
    if run is None:
        shots = st.slider("Worked examples in the prompt", 0, 8, 0, key=f"{key}_shots", help="Taken from the train split.")
    constrained = bool(selection.dataset.task == "extraction" and selection.dataset.elements) and st.toggle(
        "Keep answers to JSON of the elements",
        key=f"{key}_constrained",
        help="No answer can fail on its format, so that neither arm wins on format alone.",
    )
    generation = GenerationSettings(max_new_tokens=int(tokens))
    if run is None:
        template = selection.template.ref if selection.template else "chat"
        arm = Arm(model=selection.model, template=template, shots=shots, generation=generation, constrained=constrained)
    else:
        arm = Arm(run=run.run_id, generation=generation, constrained=constrained)
    return EvaluationSpec(
        dataset=selection.dataset.name,
        version=selection.version.number,
        split=split,
        limit=None if limit >= sizes[split] else int(limit),
        arm=arm,
    )


def label(spec: EvaluationSpec, selection: Selection) -> str:
    """What the button does, and to how much: ``Answer 100 rows with the prompt``."""
    rows = spec.limit or (selection.version.split_sizes.get(spec.split, 0) if selection.version else 0)
    return f"Answer {formats.plural(rows, 'row')} with {'the fine-tune' if spec.arm.run else 'the prompt'}"
