"""What is selected: dataset and version, template, model; pickers in one row, all of it always in the address.

Knows nothing of what pages do with it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import streamlit as st

from core.models.catalogue import list_models, model_text, parse_model
from core.prompts.advice import advised_template
from core.prompts.templates import find_template, list_templates
from core.records import Dataset, ModelRef, Task, Template, Version
from core.store.datasets import list_datasets, list_versions
from core.store.runs import list_evaluations, list_runs
from pages.ui import address

LATEST = "latest"
KEYS = ("dataset", "version", "template", "model")


@dataclass(frozen=True)
class Selection:
    """What the strip says; ``dataset`` and ``version`` are null in an empty workspace."""

    dataset: Dataset | None = None
    version: Version | None = None
    template: Template | None = None
    model: ModelRef = field(default_factory=ModelRef)

    @property
    def data(self) -> tuple[Dataset, Version]:
        """Dataset and version, for what is drawn only where there are both."""
        assert self.dataset is not None
        assert self.version is not None
        return self.dataset, self.version

    @property
    def whole(self) -> tuple[Dataset, Version, Template]:
        """Dataset, version and template, for what is drawn only where there are all three."""
        assert self.template is not None
        return *self.data, self.template

    @property
    def label(self) -> str:
        """``name · v3``."""
        return f"{self.dataset.name} · v{self.version.number}" if self.dataset and self.version else ""


def strip() -> Selection:
    """Draw the pickers and read them; draws nothing while there is no dataset.

    A selection that is no longer there falls back to the newest.
    """
    datasets = sorted(list_datasets(), key=lambda d: d.created_at, reverse=True)
    _apply_pending()
    if not datasets:
        return Selection(template=next(iter(list_templates()), None))
    with st.container(key="strip"):
        cells = st.columns([3, 2, 3, 3], gap="small")
        with cells[0]:
            name = _pick("dataset", "Dataset", [d.name for d in datasets], on_change=_forget_version)
        versions = list(reversed(list_versions(name))) if name else []
        with cells[1]:
            number = _pick("version", "Version", [LATEST, *(f"v{v.number}" for v in versions)] if versions else [])
        templates = {t.ref: t for t in list_templates()}
        dataset = next((d for d in datasets if d.name == name), None)
        version = next((v for v in versions if number in (LATEST, f"v{v.number}")), None)
        with cells[2]:
            advised = _follow_advice(dataset, version, list(templates))
            template = _pick("template", "Template", list(templates), default=advised)
        models = known_models()
        with cells[3]:
            model = _model(list(models))
    shown = dict(zip(KEYS, (name, number, template, model), strict=True))
    address.tell_all({key: value for key, value in shown.items() if value})
    return Selection(
        dataset=dataset,
        version=version,
        template=templates.get(template or ""),
        model=models.get(model) or parse_model(model),
    )


def _follow_advice(dataset: Dataset | None, version: Version | None, templates: list[str]) -> str | None:
    """The template to begin with. One that was advised for another dataset gives way to it; one that was chosen stays."""
    if dataset is None or version is None:
        return None
    advised = _advised(dataset.name, version.number, dataset.task, dataset.elements)
    if advised not in templates:
        return None
    before = st.session_state.get("_advised", (dataset.name, advised))
    if before[0] != dataset.name and st.session_state.get("template") == before[1]:
        st.session_state["template"] = advised
    st.session_state["_advised"] = (dataset.name, advised)
    return advised


@st.cache_data(max_entries=64, show_spinner=False)
def _advised(dataset: str, version: int, task: Task, elements: tuple[str, ...]) -> str:
    return find_template(advised_template(Dataset(name=dataset, task=task, elements=elements), version)).ref


def _pick(key: str, label: str, options: list[str], on_change: Any = "rerun", default: str | None = None) -> str | None:
    if not options:
        st.selectbox(label, ["none yet"], key=f"{key}_none", disabled=True)
        return None
    address.hold(key, options, default or options[0])
    return st.selectbox(label, options, key=key, on_change=on_change, persist_state="session")


def _forget_version() -> None:
    st.session_state["version"] = LATEST


def _apply_pending() -> None:
    pending = st.session_state.pop("_pending_selection", {})
    if "dataset" in pending and "version" not in pending:
        pending["version"] = LATEST
    for key, value in pending.items():
        if key in KEYS:
            st.session_state[key] = value


def _model(known: list[str]) -> str:
    """The model, one that is known here or any other that is typed in."""
    address.hold("model", known, "default", free=True)
    held = st.session_state["model"]
    picked = st.selectbox(
        "Model", known if held in known else [*known, held], key="model", accept_new_options=True, persist_state="session",
        help="Type a model folder's path, hub:organisation/name or modelscope:organisation/name to use another one.",
    )  # fmt: skip
    return picked or "default"


def known_models() -> dict[str, ModelRef]:
    """The models that are here or were used here, by their reference as the command line writes it."""
    here = [entry.ref for entry in list_models() if entry.ref.source != "default"]
    used = [run.spec.model for run in list_runs()] + [e.spec.arm.model for e in list_evaluations()]
    known = {"default": ModelRef()}
    for ref in (*here, *used):
        if ref.source in ("path", "hub", "modelscope"):
            known[model_text(ref)] = ref.model_copy(update={"quantisation": "none"})
    return known
