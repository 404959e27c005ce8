"""Judges, code tasks and plain texts: a form for each, what is under way, and what came of it. Computes nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pandas as pd
import streamlit as st

from core.evaluation.judge import RUBRIC
from core.jobs.queue import enqueue_measurement
from core.records import ENDED_STATES, CodeSpec, Evaluation, GenerationSettings, JudgeSpec, Measurement, ModelRef, Run, TextSpec
from core.store.endpoints import list_endpoints
from core.store.jobs import get_job
from core.store.measurements import list_measurements
from pages.ui import formats, states, tables

KINDS = {"judge": "A judge", "code": "Code tasks", "text": "Plain text"}


def show(evaluations: list[Evaluation], runs: list[Run], models: dict[str, ModelRef]) -> None:
    """Results and the form of the chosen kind of measurement."""
    kind = st.segmented_control(
        "Measure by", list(KINDS), default="judge", format_func=KINDS.__getitem__, key="other_kind", required=True
    )
    for one in list_measurements(kind):
        _one(one)
    forms: dict[str, Callable[[], JudgeSpec | CodeSpec | TextSpec | None]] = {
        "judge": lambda: _judge(evaluations, models),
        "code": lambda: _code(runs, models),
        "text": lambda: _text(runs, models),
    }
    with st.container(border=True):
        spec = forms[kind]()
        if spec is not None and st.button(_label(spec), key="other_start", icon=":material/play_arrow:"):
            with states.catching():
                enqueue_measurement(spec)
                st.rerun()


def _label(spec: JudgeSpec | CodeSpec | TextSpec) -> str:
    if isinstance(spec, JudgeSpec):
        what = "the two arms' answers" if len(spec.evaluations) == 2 else "the answers"
        return f"Judge {what}"
    if isinstance(spec, CodeSpec):
        return f"Answer and run {formats.plural(spec.limit or 164, 'task')}"
    return f"Measure {formats.plural(len(spec.files), 'text')}"


def _one(one: Measurement) -> None:
    """A measurement: how far it is, or what came of it."""
    if not one.complete:
        states.working(one.job_id)
        if get_job(one.job_id).state not in ENDED_STATES:
            return
        return
    with st.container(key=f"measured_{one.measurement_id}", gap="xsmall"):
        st.markdown(f"**{states.plain(one.name)}**: {_sentence(one)}")
        with st.expander("Details"):
            _details(one)


def _sentence(one: Measurement) -> str:
    found = one.result
    if isinstance(one.spec, CodeSpec):
        parts = [f"pass@{k} {formats.interval(v, *found['intervals'][k])}" for k, v in found["pass_at_k"].items()]
        return f"{', '.join(parts)} on {formats.plural(found['tasks'], 'task')}."
    if isinstance(one.spec, TextSpec):
        value = formats.interval(found["perplexity"], *(found["interval"] or (None, None)))
        return f"perplexity {value} on {formats.plural(found['tokens'], 'token')}."
    if found["kind"] == "single":
        if found["mean"] is None:
            return f"no reply held a score ({formats.plural(found['unreadable'], 'reply', 'replies')})."
        return f"mean score {formats.interval(found['mean'], *found['interval'])} of {one.spec.low} to {one.spec.high}."
    left, right = found["names"]
    head = f"{states.plain(right)} better in {found['right']:,} rows, {states.plain(left)} in {found['left']:,}"
    ties = f"{formats.plural(found['ties'], 'tie')}, {formats.plural(found['flips'], 'flip')} with the order"
    return f"{head}; {ties}; p {found['p']:.2g}."


def _details(one: Measurement) -> None:
    found = one.result
    if isinstance(one.spec, CodeSpec):
        rows = pd.DataFrame(list(found["results"].items()), columns=["result", "programs"])
        columns = {"result": tables.text("What became of a program"), "programs": tables.whole("Programs")}
        tables.show(rows, columns, alt="Results of programs", key=f"table_{one.measurement_id}")
    elif isinstance(one.spec, TextSpec):
        st.markdown(
            f"{formats.plural(found['texts'], 'text')}, {formats.number(found['bits_per_character'])} bits per character."
        )
    else:
        _judged(one)
    signature = found["signature"]
    for how in signature.values() if isinstance(signature, dict) else [signature]:
        st.caption(f"`{how}`")


def _judged(one: Measurement) -> None:
    found = one.result
    said = found.get("scores") or found.get("choices") or {}
    frame = pd.DataFrame({"row": list(said), "said": [("unreadable" if v is None else str(v)) for v in said.values()]})
    columns = {"row": tables.text("Row"), "said": tables.text("The judge said")}
    tables.show(frame, columns, alt="What the judge said of each row", key=f"table_{one.measurement_id}")
    notes = [f"{formats.plural(found['unreadable'], 'reply', 'replies')} could not be read."]
    if found.get("first") is not None:
        notes.append(f"The answer shown first was picked {found['first']:.0%} of the time; half would mean no favourite place.")
    if agreement := found.get("agreement"):
        kappa = "undefined" if agreement["kappa"] is None else formats.interval(agreement["kappa"], *agreement["interval"])
        notes.append(f"Against people's labels on {formats.plural(agreement['rows'], 'row')}: Cohen's κ {kappa}.")
    st.markdown(" ".join(notes))


def _judge(evaluations: list[Evaluation], models: dict[str, ModelRef]) -> JudgeSpec | None:
    names = {e.evaluation_id: e.name for e in evaluations}
    if not names:
        st.caption("It takes a finished evaluation.")
        return None
    chosen = st.multiselect(
        "Answers of (two are held against each other)",
        list(names),
        default=list(names)[:1],
        format_func=names.__getitem__,
        max_selections=2,
        key="judge_evaluations",
    )
    judges: dict[str, ModelRef] = {**{e.name: ModelRef(source="endpoint", name=e.name) for e in list_endpoints()}, **models}
    one, two, three = st.columns([3, 1, 1], vertical_alignment="bottom")
    who = one.selectbox(
        "Who judges", list(judges), key="judge_model", help="A model much stronger than the arms; best by an endpoint."
    )
    limit = two.number_input("Rows at most", 1, 100_000, 50, key="judge_limit")
    gold = three.toggle("Show it the gold answer", True, key="judge_gold")
    rubric = st.text_area("Rubric (scores from 1 to 5)", RUBRIC, key="judge_rubric", height=100)
    if not chosen or not rubric.strip():
        return None
    return JudgeSpec(evaluations=tuple(chosen), model=judges[who], rubric=rubric, gold=gold, limit=int(limit))


def _model_or_run(runs: list[Run], models: dict[str, ModelRef], key: str) -> dict[str, Any]:
    trained = {f"{run.name} · {run.created_at:%m-%d %H:%M}": run for run in runs if run.complete}
    who = st.selectbox("Which model", [*models, *trained], key=f"{key}_model")
    return {"run": trained[who].run_id} if who in trained else {"model": models[who]}


def _code(runs: list[Run], models: dict[str, ModelRef]) -> CodeSpec:
    st.caption("HumanEval's tasks are answered and the programs run in a sandbox: no network, no files, bounded time and memory.")
    one, two, three = st.columns(3, vertical_alignment="bottom")
    limit = one.number_input("Tasks", 1, 164, 164, key="code_limit")
    tokens = two.number_input("New tokens at most", 16, 4096, 256, key="code_tokens")
    samples = three.number_input(
        "Answers to each task", 1, 200, 1, key="code_samples", help="Several are drawn at temperature 0.8."
    )
    settings = GenerationSettings(max_new_tokens=int(tokens), temperature=0.8 if samples > 1 else 0.0)
    return CodeSpec(**_model_or_run(runs, models, "code"), limit=int(limit), samples=int(samples), generation=settings)


def _text(runs: list[Run], models: dict[str, ModelRef]) -> TextSpec | None:
    paths = st.text_area(
        "Text files on the server, one path a line",
        key="text_files",
        height=80,
        placeholder="/data/news.txt",
        help="UTF-8, each one text.",
    )
    one, two = st.columns(2)
    window = one.number_input("Window (tokens)", 2, 32768, 1024, key="text_window")
    stride = two.number_input("Stride (tokens)", 1, 32768, 512, key="text_stride", help="Smaller: more context, lower, slower.")
    who = _model_or_run(runs, models, "text")
    files = tuple(line.strip() for line in paths.splitlines() if line.strip())
    return TextSpec(**who, files=files, window=int(window), stride=int(stride)) if files else None
