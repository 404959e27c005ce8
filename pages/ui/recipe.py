"""The recipe as a stack of steps: proposed ones with counts and switches, done ones with undo; preview and apply.

Knows nothing of what operations do; ``core.data.recipes`` previews, applies and undoes them.
"""

from __future__ import annotations

import copy
import json
from typing import Any

import pyarrow as pa
import streamlit as st

from core.data import recipes
from core.data.operations.registry import BOUND, OPERATIONS
from core.data.recipes import Preview, StepPreview
from core.records import Dataset, Step, Version
from core.store.datasets import get_version
from pages.ui import changes, formats, params, shell, states
from pages.ui.registry import TOKENS
from pages.ui.steps import BROUGHT, touched

LIVE_ROWS = 200_000
"""With more rows than this the counts of each step are made on demand, since they take seconds."""


def panel(dataset: Dataset, version: Version, remedies: list[str]) -> None:
    """The stack and its buttons; applies to the latest version. ``remedies`` are the operations for the issues found."""
    st.subheader("Recipe", anchor=False)
    latest = get_version(dataset.name)
    if latest.number != version.number:
        st.caption(f"You look at version {version.number}; steps are applied to the latest, version {latest.number}.")
    _done(dataset, latest)
    draft = _draft(dataset.name, latest)
    chosen = [Step(op=item["op"], params=item["params"]) for item in draft if item["on"]]
    preview = None
    with states.catching("Nothing was changed."):
        if chosen and (latest.rows <= LIVE_ROWS or st.session_state.get("recipe_counted")):
            preview = _preview(dataset.name, latest.number, _key(chosen))
    if draft:
        st.caption("Proposed, each with the rows it touches")
    told = iter(preview.steps) if preview else iter(())
    before = copy.deepcopy(draft)
    with st.container(key="recipe_stack", gap=None):
        for place, item in enumerate(draft):
            _proposed(dataset.name, draft, place, item, next(told, None) if item["on"] else None)
    if draft != before:  # a switch or a parameter was changed in this run, after the counts were made
        st.rerun()
    with st.container(horizontal=True):
        _add(draft)
        _file(dataset, latest, chosen, draft)
    _buttons(dataset, latest, chosen, preview, remedies)


def _buttons(dataset: Dataset, version: Version, chosen: list[Step], preview: Preview | None, remedies: list[str]) -> None:
    if not chosen:
        done = {step.op for step in version.recipe}
        _nothing_chosen(dataset, version, [op for op in remedies if op in OPERATIONS and op not in done])
        return
    label = f"Apply {formats.plural(len(chosen), 'step')} to {formats.plural(version.rows, 'row')}"
    if preview is not None and not preview.affected:
        st.markdown(":gray[These steps would change no row.]")
        _go_on(version)
        return
    if preview is not None:
        touched, left = formats.plural(preview.affected, "row"), formats.count(preview.rows_after)
        st.markdown(f":gray[{touched} touched; {left} of {formats.count(preview.rows_before)} rows stay.]")
    if st.button(label, type="primary", key="recipe_apply", width="stretch"):
        with states.catching("The version before it is as it was."), st.spinner("Applying"):
            recipes.apply(dataset.name, chosen)
            st.session_state[_draft_key(dataset.name)] = []
            shell.select(version="latest")
            st.toast("Applied. Every change is in the ledger, and each step can be undone.")
            st.rerun()
    if preview is not None:
        if st.button("Preview every change", key="recipe_preview", width="stretch"):
            _show_preview(dataset.name, version.number, _key(chosen))
    elif st.button(f"Count what these would do to {formats.plural(version.rows, 'row')}", key="recipe_count", width="stretch"):
        st.session_state["recipe_counted"] = True
        st.rerun()


def _nothing_chosen(dataset: Dataset, version: Version, remedies: list[str]) -> None:
    if _draft(dataset.name, version):
        st.caption("All proposed steps are switched off.")
    elif remedies:
        label = f"Propose {formats.plural(len(remedies), 'step')} for the issues left"
        if st.button(label, type="primary", key="recipe_remedies", width="stretch"):
            for op in remedies:
                propose(dataset.name, op)
            st.rerun()
    else:
        st.caption("Nothing is left that a step would mend.")
        _go_on(version)


def _go_on(version: Version) -> None:
    """To what comes after cleaning: a split, without which nothing could be measured fairly, then lengths."""
    if not version.split_sizes.get("test"):
        st.button(
            "Split into train, dev and test", type="primary", key="recipe_split", width="stretch",
            on_click=st.session_state.update, args=({"data_view": "Split"},),
        )  # fmt: skip
        return
    if st.button("Measure the lengths", type="primary", key="recipe_next", width="stretch"):
        shell.go(TOKENS)


@st.dialog("What would change", width="large")
def _show_preview(name: str, number: int, key: str) -> None:
    changes.show(_preview(name, number, key).changes, key=f"preview_{name}_{number}")


def _proposed(name: str, draft: list[dict[str, Any]], place: int, item: dict[str, Any], told: StepPreview | None) -> None:
    kind = OPERATIONS[item["op"]]
    key = f"recipe_{name}_{item['id']}"
    with st.container(horizontal=True, wrap=False, vertical_alignment="center", gap="xsmall", key=f"draft_{item['id']}"):
        item["on"] = st.toggle(kind.title, item["on"], key=f"{key}_on", width="stretch")
        if told is not None:
            st.markdown(f":gray[{formats.count(told.affected)}]", width="content")
        with st.popover("", icon=":material/tune:", type="tertiary", key=f"{key}_more"):
            st.markdown(f"**{kind.title}**")
            st.caption((kind.__doc__ or "").split("\n\n")[0].replace("``", "`"))
            if told is not None:
                st.markdown(_counts(told))
            if item["op"] not in BOUND:
                item["params"] = params.form(kind, item["params"], key=key)
            if st.button("Take it out", key=f"{key}_out"):
                draft.pop(place)
                st.rerun()


def _counts(told: StepPreview) -> str:
    parts = [(told.dropped, "dropped"), (told.changed, "changed"), (told.added, "added"), (told.quarantined, "of them put aside")]
    return ", ".join(f"{formats.count(amount)} {words}" for amount, words in parts if amount) or "Touches no row."


def _add(draft: list[dict[str, Any]]) -> None:
    free = [op for op in OPERATIONS if op not in BOUND and op != "split"]
    with st.popover("Add a step", icon=":material/add:", type="tertiary", key="recipe_add"):
        op = st.selectbox("Operation", free, format_func=lambda op: OPERATIONS[op].title, key="recipe_add_op")
        st.caption((OPERATIONS[op].__doc__ or "").strip().replace("``", "`"))
        chosen = params.form(OPERATIONS[op], {}, key=f"recipe_new_{op}")
        if st.button("Add it", key="recipe_add_go"):
            step = Step(op=op, params=chosen)
            with states.catching():
                recipes.operation_of(step)
                draft.append({"id": step.step_id, "op": op, "params": chosen, "on": True})
                st.rerun()


def _file(dataset: Dataset, version: Version, chosen: list[Step], draft: list[dict[str, Any]]) -> None:
    """The steps, done and chosen, as a YAML file, and such a file as proposed steps."""
    with st.popover("As a file", icon=":material/description:", type="tertiary", key="recipe_file"):
        steps = [step for step in (*version.recipe, *chosen) if step.op not in BOUND]
        st.download_button(
            f"Save {formats.plural(len(steps), 'step')} as YAML", data=recipes.dump_recipe(steps), key="recipe_save",
            file_name=f"{dataset.name}-recipe.yaml", mime="application/yaml", disabled=not steps, on_click="ignore",
        )  # fmt: skip
        st.caption("Steps done and steps proposed. Hand edits belong to these rows and are left out.")
        upload = st.file_uploader("Propose the steps of a file", type=["yaml", "yml", "json"], key="recipe_load")
        if upload is not None and st.button("Propose these steps", key="recipe_load_go"):
            with states.catching("The recipe is as it was."):
                loaded = recipes.read_recipe(upload.getvalue(), upload.name)
                draft[:] = [
                    {"id": s.step_id, "op": s.op, "params": dict(s.params), "on": True} for s in loaded if s.op not in BOUND
                ]
                st.rerun()


def _done(dataset: Dataset, version: Version) -> None:
    steps = [step for step in version.recipe if step.op not in BROUGHT]
    if not steps:
        return
    st.caption("Done, the last one first, each with the rows it touched")
    amounts = touched(dataset.name, version.number, version.created_at.isoformat())
    with st.container(key="recipe_done", gap=None):
        for step in reversed(steps):
            with st.container(horizontal=True, wrap=False, vertical_alignment="center", gap="small", key=f"done_{step.step_id}"):
                st.markdown(f":green[:material/check:] {OPERATIONS[step.op].title}", width="stretch")
                st.markdown(f":gray[{formats.count(amounts.get(step.step_id, 0))}]", width="content")
                if st.button("Undo", type="tertiary", key=f"undo_{step.step_id}"):
                    st.session_state["recipe_undo"] = step.step_id
    if st.session_state.get("recipe_undo") in [step.step_id for step in steps]:
        _show_undo(dataset.name, st.session_state["recipe_undo"])


def _close_undo() -> None:
    st.session_state.pop("recipe_undo", None)


@st.dialog("Undo a step", width="large", on_dismiss=_close_undo)
def _show_undo(name: str, step_id: str) -> None:
    with states.catching("Nothing was changed."):
        preview = recipes.preview_undo(name, step_id)
        after = f"{formats.count(preview.rows_before)} rows become {formats.count(preview.rows_after)}"
        st.markdown(
            f"{formats.plural(preview.affected, 'row')} would change; {after}. The other steps are done again without it."
        )
        if st.button(f"Undo, {formats.plural(preview.affected, 'row')} change", type="primary", key=f"undo_go_{step_id}"):
            recipes.undo(name, step_id)
            _close_undo()
            shell.select(version="latest")
            st.rerun()
        changes.show(preview.changes, key=f"undo_{step_id}")


def _draft_key(name: str) -> str:
    return f"recipe_draft_{name}"


def _draft(name: str, version: Version) -> list[dict[str, Any]]:
    """The proposed steps of this session: at first the default recipe, if nothing was cleaned yet."""
    key = _draft_key(name)
    if key not in st.session_state:
        cleaned = any(step.op not in BROUGHT for step in version.recipe)
        steps = () if cleaned else recipes.default_recipe(name)
        st.session_state[key] = [{"id": step.step_id, "op": step.op, "params": dict(step.params), "on": True} for step in steps]
    draft: list[dict[str, Any]] = st.session_state[key]
    return draft


def propose(name: str, op: str, chosen: dict[str, Any] | None = None) -> None:
    """Put an operation into the draft, if it isn't there with these parameters."""
    draft = _draft(name, get_version(name))
    if op in OPERATIONS and not any(item["op"] == op and item["params"] == (chosen or {}) for item in draft):
        step = Step(op=op)
        draft.append({"id": step.step_id, "op": op, "params": chosen or {}, "on": True})


def _key(steps: list[Step]) -> str:
    return json.dumps([[step.op, step.params] for step in steps], ensure_ascii=False, sort_keys=True)


@st.cache_data(show_spinner="Counting what the steps would do", max_entries=16, hash_funcs={pa.Table: id})
def _preview(name: str, number: int, key: str) -> Preview:
    return recipes.preview(name, [Step(op=op, params=chosen) for op, chosen in json.loads(key)])
