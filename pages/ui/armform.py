"""The form of a new evaluation: which arm answers which rows. Returns an EvaluationSpec; runs nothing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import streamlit as st

from core.prompts.advice import instructed
from core.prompts.templates import find_template, list_templates, names_elements, uses_passages
from core.records import Arm, Evaluation, EvaluationSpec, GenerationSettings, ModelRef, NamedEndpoint, Passages, Run
from core.store.endpoints import list_endpoints
from pages.ui import comparison, formats
from pages.ui.selection import Selection

PROMPT = "the prompt alone"
STARTED = "arm_started"
"""Set when an arm was started, so that the form goes on to the next."""
HOW = {"fixed": "the same for all rows", "retrieved": "for each row the most alike"}


def form(selection: Selection, runs: list[Run], answered: Sequence[Evaluation] = (), *, key: str) -> EvaluationSpec | None:
    """Draw the form; the spec as it stands, or None where there is no row to answer.

    Offers first who is missing among those that have ``answered``, or are about to: the prompt, then a fine-tune.
    """
    if selection.dataset is None or selection.version is None:
        return None
    sizes = {name: size for name, size in selection.version.split_sizes.items() if size}
    if not sizes:
        return None
    names: dict[str, Run | NamedEndpoint | None] = {PROMPT: None}
    names |= {f"{endpoint.name} · endpoint": endpoint for endpoint in list_endpoints()}
    names |= {f"{run.name} · {run.created_at:%m-%d %H:%M}": run for run in runs if run.complete}
    here = [e for e in answered if (e.spec.dataset, e.version) == (selection.dataset.name, selection.version.number)]
    first = _missing(names, here, selection.dataset.name)
    if st.session_state.pop(STARTED, False) or st.session_state.get(f"{key}_who") not in names:
        st.session_state[f"{key}_who"] = first
    order = sorted(sizes, key=lambda name: ("test", "dev", "train", "").index(name) if name in ("test", "dev", "train") else 9)
    one, two, three, four = st.columns([3, 2, 2, 2], vertical_alignment="bottom")
    who = one.selectbox(
        "Who answers",
        list(names),
        key=f"{key}_who",
        help="The base model with a prompt, a fine-tune, or a model behind an endpoint (add one on Chat).",
    )
    split = two.selectbox(
        "Rows of", order, format_func=lambda name: f"{name or 'no split'} ({sizes[name]:,})", key=f"{key}_split"
    )
    limit = three.number_input(
        "Rows", 1, sizes[split], min(100, sizes[split]), key=f"{key}_limit_{split}", help="The first ones."
    )
    tokens = four.number_input(
        "New tokens at most", 8, 4096, 128, key=f"{key}_tokens", help="An answer longer than this is cut off."
    )
    chosen: dict[str, Any] = {"generation": GenerationSettings(max_new_tokens=int(tokens))}
    answers = names[who]
    if isinstance(answers, Run):
        chosen["run"] = answers.run_id
    else:
        chosen |= _prompted(selection, answers, key)
        if selection.dataset.task == "extraction" and not chosen.get("shots"):
            _say_what_is_missing(selection, str(chosen["template"]), split)
    chosen["constrained"] = bool(selection.dataset.task == "extraction" and selection.dataset.elements) and st.toggle(
        "Keep answers to JSON of the elements",
        key=f"{key}_constrained",
        help="No answer can fail on its format, so that neither arm wins on format alone.",
    )
    return EvaluationSpec(
        dataset=selection.dataset.name,
        version=selection.version.number,
        split=split,
        limit=None if limit >= sizes[split] else int(limit),
        arm=Arm(**chosen),
    )


def is_there(spec: EvaluationSpec, answered: Sequence[Evaluation]) -> bool:
    """Whether this arm has answered these rows, or is about to; says so."""
    wanted = (spec.dataset, spec.version, spec.split, spec.limit, _same(spec.arm))
    if not any((e.spec.dataset, e.version, e.spec.split, e.spec.limit, _same(e.spec.arm)) == wanted for e in answered):
        return False
    st.caption(
        "This arm answers these rows already. Another would be a fine-tune, worked examples in the prompt or another template."
    )
    return True


def _missing(names: dict[str, Run | NamedEndpoint | None], here: list[Evaluation], dataset: str) -> str:
    """Who is to answer next: the prompt, then the fine-tune asked for, then the newest of the dataset; the prompt if all have."""
    if all(e.spec.arm.run for e in here):
        return PROMPT
    done = {e.spec.arm.run for e in here}
    left = {name: one for name, one in names.items() if isinstance(one, Run) and one.run_id not in done}
    wanted = [name for name, run in left.items() if run.run_id == st.session_state.get(comparison.PREFERRED)]
    wanted += [name for name, run in left.items() if any(use.dataset == dataset for use in run.spec.data)]
    return wanted[0] if wanted else PROMPT


def _same(arm: Arm) -> dict[str, Any]:
    """What decides an arm's answers; a fine-tune has its own model and template."""
    told = {"name", "workers", "endpoint"} | ({"model", "template"} if arm.run else set())
    return arm.model_dump(exclude=told)


def _prompted(selection: Selection, endpoint: NamedEndpoint | None, key: str) -> dict[str, Any]:
    """What a prompt may hold beside the question: worked examples and passages; and where its model is."""
    template = selection.template.ref if selection.template else "chat"
    chosen: dict[str, Any] = {"model": selection.model, "template": template}
    if endpoint is not None:
        chosen |= {"model": ModelRef(source="endpoint", name=endpoint.name), "workers": _workers(endpoint, key)}
    one, two = st.columns(2, vertical_alignment="bottom")
    shots = one.slider("Worked examples in the prompt", 0, 8, 0, key=f"{key}_shots", help="Taken from the train split.")
    if shots:
        how = two.selectbox("Which examples", list(HOW), format_func=HOW.__getitem__, key=f"{key}_how")
        chosen |= {"shots": shots, "shots_how": how}
    return chosen | _passages(template, key)


def _say_what_is_missing(selection: Selection, template: str, split: str) -> None:
    """Warn where neither rows nor template tell the model what to extract: such a prompt can only lose."""
    dataset, version = selection.data
    elements = dataset.elements
    if names_elements(find_template(template), elements) or _instructed(dataset.name, version.number, split):
        return
    able = ", ".join(t.ref for t in list_templates() if names_elements(t, elements) and not uses_passages(t))
    st.warning(
        f"This prompt doesn't say what to extract: the rows have no instruction, and {template} names no elements. "
        f"For a fair comparison give worked examples, or choose a template that does: {able}.",
        icon=":material/warning:",
    )


@st.cache_data(max_entries=16, show_spinner=False)
def _instructed(dataset: str, version: int, split: str) -> bool:
    return instructed(dataset, version, split)


def _workers(endpoint: NamedEndpoint, key: str) -> int:
    prices = [p for p in (endpoint.price_in, endpoint.price_out) if p is not None]
    priced = f"; a million tokens cost {prices[0]:g} in, {prices[1]:g} out" if len(prices) == 2 else ""
    st.caption(f"`{endpoint.model}` at {endpoint.url}{priced}. The texts of the rows are sent there.")
    return int(st.number_input("Questions at once", 1, 256, 8, key=f"{key}_workers"))


def _passages(template: str, key: str) -> dict[str, Any]:
    """A folder of documents to search, and a template that has a place for what is found."""
    with st.expander("Passages from documents"):
        folder = st.text_input(
            "Folder of documents",
            key=f"{key}_folder",
            placeholder="/data/handbook",
            help="On the server, with .txt, .md or .jsonl files. For each row the passages most like it go into the prompt.",
        )
        one, two, three = st.columns(3)
        k = one.number_input("Passages", 1, 20, 3, key=f"{key}_k")
        size = two.number_input("Longest passage", 20, 4000, 200, key=f"{key}_size", help="Words, or Chinese characters.")
        overlap = three.number_input("Overlap", 0, 1000, 40, key=f"{key}_overlap", help="What a passage repeats of the last.")
        if not folder.strip():
            return {}
        passages = Passages(folder=folder.strip(), k=int(k), size=int(size), overlap=int(overlap))
        if uses_passages(find_template(template)):
            return {"passages": passages}
        able = [t.ref for t in list_templates() if uses_passages(t)]
        other = st.selectbox(f"Template ({template} has no place for passages)", able, key=f"{key}_template")
        return {"passages": passages, "template": other}


def label(spec: EvaluationSpec, selection: Selection) -> str:
    """What the button does, and to how much: ``Answer 100 rows with the prompt``."""
    rows = spec.limit or (selection.version.split_sizes.get(spec.split, 0) if selection.version else 0)
    who = "the fine-tune" if spec.arm.run else spec.arm.model.name if spec.arm.model.source == "endpoint" else "the prompt"
    return f"Answer {formats.plural(rows, 'row')} with {who}"
