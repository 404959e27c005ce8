"""The machine on Home: what it is, what works on it, what a library would add, what is in memory, and a try of a model."""

from __future__ import annotations

import streamlit as st

from core.doctor.examination import examine
from core.doctor.report import Finding, Generation, Report
from core.doctor.trial import try_generation
from core.jobs.devices import default_device
from core.jobs.engines import chat_engines
from pages.ui import catalogue, engine, formats, marks, states

_TRIED = "machine_tried"


def panel() -> None:
    """What this machine can do, what is missing for it to work, and what an optional library would add."""
    st.subheader("This machine", anchor=False)
    report = _report()
    st.html(marks.facts(_facts(report)))
    for fault in report.faults:
        st.warning(f"**{fault.name}**: {fault.value}. {fault.remedy}", icon=":material/warning:")
    for sentence in report.can:
        st.caption(sentence)
    with st.container(horizontal=True):
        st.button("Models", icon=":material/deployed_code:", key="machine_models", on_click=catalogue.ask)
        st.button("Try the default model", icon=":material/play_arrow:", key="machine_try", on_click=_want_try)
    if st.session_state.pop("machine_want_try", False):
        with states.catching(), st.spinner("The default model answers a few words"):
            device = default_device()
            st.session_state[_TRIED] = try_generation(lambda ref: chat_engines().using(ref, device))
    tried: Generation | None = st.session_state.get(_TRIED)
    if tried is not None:
        st.markdown(f":green[:material/check_circle:] {_said(tried)}")
    catalogue.fetched()
    engine.memory_panel()
    libraries = [f for f in report.libraries if f.adds] + list(report.optional)
    missing = sum(finding.state != "ok" for finding in libraries)
    words = f"{formats.plural(missing, 'library', 'libraries')} would add more" if missing else "All libraries are here"
    with st.expander(words):
        for finding in libraries:
            st.markdown(_library(finding))
    catalogue.dialog_if_asked()


def _facts(report: Report) -> list[tuple[str, str]]:
    facts = [(finding.name, finding.value) for finding in report.machine if finding.name != "python"]
    for gpu in report.gpus:
        facts.append((f"GPU {gpu.index}", f"{gpu.name}, {gpu.free_gb:.0f} of {gpu.memory_gb:.0f} GB free, driver {gpu.driver}"))
    if not report.gpus:
        facts.append(("GPU", "none found"))
    facts.append(("default model", f"{report.model.name}, {'ready' if report.model.state == 'ok' else 'made on its first use'}"))
    facts += [(finding.name, finding.value) for finding in report.storage if finding.name == "workspace"]
    return [(name.capitalize() if name.islower() else name, value) for name, value in facts]


def _library(finding: Finding) -> str:
    if finding.state == "ok":
        return f":green[:material/check:] **{finding.name}** {finding.value}: {finding.adds}."
    remedy = f"  \n:gray[{finding.remedy}]" if finding.remedy else ""
    return f":gray[:material/add:] **{finding.name}**: {finding.adds}.{remedy}"


def _said(tried: Generation) -> str:
    text = states.plain(tried.text.replace("\n", " "))
    return (
        f"It says “{text}”: {formats.plural(tried.tokens, 'token')} at {formats.number(tried.tokens_per_second)} tokens/s "
        f"on {tried.device}, there after {formats.duration(tried.load_seconds)}."
    )


def _want_try() -> None:
    st.session_state["machine_want_try"] = True


@st.cache_data(ttl=60, show_spinner=False)
def _report() -> Report:
    return examine()
