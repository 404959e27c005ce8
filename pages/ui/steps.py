"""The way as five steps with their state, and which one comes next. Knows nothing of how they are drawn."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import pyarrow.compute as pc
import streamlit as st

from core.records import Dataset, Version
from core.store.datasets import list_versions, read_ledger
from core.store.runs import list_conversations, list_evaluations, list_runs
from pages.ui import formats
from pages.ui.registry import CHAT, COMPARE, DATA, TOKENS, TRAIN, Entry

BROUGHT = frozenset({"import", "mix"})
"""Steps that bring rows; all others clean."""


@dataclass(frozen=True)
class Step:
    """A step: what it is called, how it stands in words, the page it is done on, the words of its button."""

    title: str
    page: Entry
    done: bool
    words: str
    action: str


def survey(dataset: Dataset, version: Version, measured: int | None) -> list[Step]:
    """How far a dataset has come; ``measured`` is the newest version whose lengths were taken, if any."""
    runs = [run for run in list_runs() if any(use.dataset == dataset.name for use in run.spec.data)]
    finished = [run for run in runs if run.complete]
    evaluations = [e for e in list_evaluations(dataset.name) if e.complete]
    arms = {(e.spec.arm.run or "", e.spec.arm.template, e.spec.arm.model.label) for e in evaluations}
    chats = list_conversations()
    cleaned = is_cleaned(version)
    data = formats.plural(version.rows, "row")
    data += f" after {_cleaning(version)}" if cleaned else ", not cleaned yet"
    lengths = "Measured" if measured == version.number else f"Measured on v{measured}, not yet on v{version.number}"
    trained = "One is on its way" if runs else "No fine-tune yet"
    if finished:
        trained = f"{formats.plural(len(finished), 'fine-tune')}, last {formats.ago(finished[0].created_at)}"
    compared = formats.plural(len(evaluations), "evaluation") if evaluations else "Nothing evaluated yet"
    asked = formats.plural(len(chats), "conversation") if chats else "Nothing asked yet"
    return [
        Step("Data", DATA, cleaned, data, "Look at the data"),
        Step("Lengths", TOKENS, bool(measured), lengths if measured else "Not measured yet", "Measure the lengths"),
        Step("Train", TRAIN, bool(finished), trained, "Train a fine-tune"),
        Step("Compare", COMPARE, len(arms) > 1, compared, "Compare prompt and fine-tune"),
        Step("Chat", CHAT, bool(chats), asked, "Ask the models"),
    ]


def next_step(steps: list[Step]) -> Step | None:
    """The first step that is not done; none when all are."""
    return next((step for step in steps if not step.done), None)


def cleaning_steps(version: Version) -> list[str]:
    """The identifiers of the steps of a version's recipe that aren't imports."""
    return [step.step_id for step in version.recipe if step.op not in BROUGHT]


def _cleaning(version: Version) -> str:
    """``4 steps``, and how many of them changed rows if not all did."""
    steps = cleaning_steps(version)
    amounts = touched(version.dataset, version.number, version.created_at.isoformat())
    changed = sum(step in amounts for step in steps)
    words = formats.plural(len(steps), "step")
    if changed == len(steps):
        return words
    if len(steps) == 1:
        return f"{words} that changed nothing"
    return f"{words}, {changed or 'none'} of which changed something"


@st.cache_data(show_spinner=False, max_entries=32)
def touched(name: str, number: int, made: str) -> dict[str, int]:
    """How many ledger entries each step has, over all versions up to one (``made``: when, as text), by its identifier."""
    found: Counter[str] = Counter()
    for version in list_versions(name):
        if version.number <= number:
            counted = pc.value_counts(read_ledger(name, version.number, columns=["step_id"])["step_id"]).to_pylist()
            found.update({part["values"]: part["counts"] for part in counted})
    return dict(found)


def is_cleaned(version: Version) -> bool:
    """Whether anything but imports was done to a version."""
    return bool(cleaning_steps(version))
