"""An answer of Chat becomes a row of a dataset: corrected in a small form, added as a step that can be undone.

Knows nothing of how rows are stored (``core.data.adding``).
"""

from __future__ import annotations

import json
from typing import Any

import streamlit as st

from core.chat.talk import Exchange, before, history_of, name_of
from core.data.adding import add_row, doubts, standing
from core.data.answers import break_of, parse_answer
from core.data.recipes import undo
from core.records import SPLITS, Conversation, Task, Turn
from core.store.datasets import find_dataset, get_version, list_datasets
from pages.ui import marks, shell, states
from pages.ui.registry import DATA
from pages.ui.selection import Selection

KEEPING, _KEPT = "chat_keeping", "chat_kept_row"


def offer(talk: Conversation, place: int) -> None:
    """The button under an answer."""
    mark = f"{talk.conversation_id}_{place}"
    if st.button("Keep as a row", icon=":material/playlist_add:", type="tertiary", key=f"keep_{mark}",
                 help="Correct it if need be and add it to a dataset."):  # fmt: skip
        st.session_state[KEEPING] = mark
        st.session_state.pop(_KEPT, None)
        st.rerun()


def form(talk: Conversation, exchange: Exchange, selection: Selection) -> None:
    """The form under an exchange one of whose answers is to be kept, or what became of it."""
    for place, turn in exchange.answers:
        mark = f"{talk.conversation_id}_{place}"
        if st.session_state.get(KEEPING) == mark:
            with st.container(border=True, key="keep_form"):
                _form(talk, exchange, turn, selection, mark)
        elif st.session_state.get(_KEPT, {}).get("mark") == mark:
            _kept(st.session_state[_KEPT])


def _form(talk: Conversation, exchange: Exchange, turn: Turn, selection: Selection, mark: str) -> None:
    st.markdown(f"**Keep the answer of {states.plain(name_of(talk, turn))} as a row**")
    left, right = st.columns([3, 2], gap="large")
    with left:
        source = st.empty()
        answer = st.text_area("Right answer", turn.content.strip(), key=f"keep_answer_{mark}", height=130) or ""
    with right:
        name = _dataset(selection)
        known = find_dataset(name) if name else None
        task: Task = known.task if known else "extraction" if answer.lstrip().startswith(("{", "[")) else "chat"
        split = st.segmented_control("Split", ["none", *SPLITS], default="train", key="keep_split", required=True) or "none"
        instruction = ""
        if task != "chat":
            start = exchange.question.instruction
            instruction = st.text_area("Instruction", start, key=f"keep_instruction_{mark}", height=68) or ""
    found, _ = marks.ground(parse_answer(answer), exchange.question.content, "gold")
    source.html(marks.marked(exchange.question.content, found))
    row = row_of(talk, exchange, turn, answer, instruction, conversation=task == "chat")
    if name:
        _say(name, row, task)
    with st.container(horizontal=True):
        adding = st.button(f"Add to {name or '…'}", type="primary", key="keep_add", disabled=not name)
        if st.button("Leave it", type="tertiary", key="keep_leave"):
            st.session_state.pop(KEEPING, None)
            st.rerun()
    if adding:
        _add(name, row, "" if split == "none" else split, task, mark)


def _dataset(selection: Selection) -> str:
    names = [dataset.name for dataset in list_datasets()]
    here = names.index(selection.dataset.name) if selection.dataset and selection.dataset.name in names else None
    return st.selectbox("Dataset", names, index=here, key="keep_dataset", accept_new_options=True,
                        placeholder="Choose one, or type a new name") or ""  # fmt: skip


def row_of(
    talk: Conversation, exchange: Exchange, turn: Turn, answer: str, instruction: str, *, conversation: bool
) -> dict[str, Any]:
    """The row of an answer: the question alone, or the conversation up to it with this answer at its end."""
    row: dict[str, Any] = {"instruction": instruction, "input": exchange.question.content, "output": answer.strip()}
    row["extra"] = {"conversation_id": talk.conversation_id}
    row["messages"] = None
    if conversation:
        opening = [{"role": "system", "content": talk.system}] if talk.system else []
        said = history_of(before(talk, exchange.place), turn.arm if turn.arm is not None else -1)
        asked = [{"role": "user", "content": row["input"]}, {"role": "assistant", "content": row["output"]}]
        row["messages"] = json.dumps([*opening, *said, *asked], ensure_ascii=False, separators=(",", ":"))
        row["instruction"] = talk.system
    return row


def _say(name: str, row: dict[str, Any], task: Task) -> None:
    """What is wrong or unusual about the row, before it is added."""
    if task == "extraction" and not parse_answer(row["output"]).ok:
        fault = break_of(row["output"])
        where = f"from line {fault.line}, character {fault.column} on: {fault.reason}" if fault else "an object of elements"
        st.caption(f":red[:material/error: This is no JSON {states.plain(where)}.]")
        return
    there = standing(name, row)
    if there.equal:
        row_id, split, _ = there.equal[0]
        st.caption(f":red[:material/error: {states.plain(name)} has this row already: {row_id}, {split or 'no split'}.]")
    for row_id, split, other in there.conflicting[:2]:
        told = f"Row {row_id} ({split or 'no split'}) answers the same question with {other[:200]}"
        st.caption(f":orange[:material/warning:] {states.plain(told)}")
    for doubt in doubts(name, row):
        st.caption(f":orange[:material/warning:] {states.plain(doubt)}")
    if find_dataset(name) is None:
        st.caption(f"A new dataset, {states.plain(name)}, for {task}.")


def _add(name: str, row: dict[str, Any], split: str, task: Task, mark: str) -> None:
    with states.catching("Your correction is still in the form."):
        version = add_row(name, row, split=split, task=task)
        step = version.recipe[-1]
        told = {"mark": mark, "dataset": name, "version": version.number, "split": split, "rows": version.rows}
        st.session_state[_KEPT] = told | {"step": step.step_id if step.op == "add_rows" else ""}
        st.session_state.pop(KEEPING, None)
        st.rerun()


def _kept(told: dict[str, Any]) -> None:
    where = f"**{states.plain(told['dataset'])} v{told['version']}**" + (f", {told['split']}" if told["split"] else "")
    with st.container(horizontal=True, vertical_alignment="center", key="keep_said"):
        st.markdown(f":green[:material/check:] Kept as a row of {where}.")
        latest = find_dataset(told["dataset"]) is not None and get_version(told["dataset"]).number == told["version"]
        if told["step"] and latest and st.button("Undo", type="tertiary", key="keep_undo"):
            undo(told["dataset"], told["step"])
            st.session_state.pop(_KEPT, None)
            st.rerun()
        if st.button("Look at it on Data", type="tertiary", key="keep_look"):
            shell.go(DATA, dataset=told["dataset"])
