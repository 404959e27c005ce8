"""Quick A/B on Compare: a prompt typed now, on a few rows, against a fine-tune. What is evaluated is core's to say."""

from __future__ import annotations

import streamlit as st

from core.evaluation.compare import compare
from core.evaluation.quick import ROWS, quick_plan, quick_template
from core.jobs.queue import enqueue_evaluation
from core.prompts.templates import find_template
from core.records import Evaluation, Run
from core.store.runs import get_evaluation
from pages.ui import comparison, formats, states
from pages.ui.selection import Selection


def box(selection: Selection, evaluations: list[Evaluation], runs: list[Run]) -> None:
    """The typed prompt, the button, and what came of the last try."""
    version, dataset = selection.version, selection.dataset
    trained = {f"{run.name} · {run.created_at:%m-%d %H:%M}": run for run in runs if run.complete}
    sizes = {name: size for name, size in version.split_sizes.items() if size} if version else {}
    if dataset is None or version is None or not trained or not sizes:
        st.caption("It takes a finished fine-tune and a dataset with rows.")
        return
    split = next((name for name in ("test", "dev", "train", "") if sizes.get(name)), next(iter(sizes)))
    base = selection.template.ref if selection.template else "chat"
    like = find_template(base)
    rows = min(ROWS, sizes[split])
    left, right = st.columns([3, 2], gap="large")
    with left:
        user = st.text_area("Prompt (Jinja: the row's fields in double braces)", like.user, key=f"ab_user_{base}", height=150)
        system = st.text_input("System text", like.system, key=f"ab_system_{base}")
    with right:
        who = st.selectbox("Against the fine-tune", list(trained), key="ab_run")
        st.caption(f"The first {formats.plural(rows, 'row')} of {split or 'no split'} of {dataset.name} v{version.number}.")
        pressed = st.button(f"Try it on {formats.plural(rows, 'row')}", key="ab_start", icon=":material/bolt:")
    if pressed:
        with states.catching("Your text is still in the box."):
            template = quick_template(base, system, user)
            plan = quick_plan(
                template, trained[who].run_id, selection.model, evaluations,
                dataset=dataset.name, version=version.number, split=split, rows=rows,
            )  # fmt: skip
            prompt = enqueue_evaluation(plan.prompt)[1].evaluation_id
            other = plan.other or enqueue_evaluation(plan.other_spec)[1].evaluation_id  # type: ignore[arg-type]
            st.session_state["ab_pair"] = [prompt, other]
            st.rerun()
    if st.session_state.get("ab_pair"):
        with states.catching():
            _result([get_evaluation(key) for key in st.session_state["ab_pair"]])


def _result(pair: list[Evaluation]) -> None:
    waiting = [e for e in pair if not e.complete]
    for evaluation in waiting:
        states.working(evaluation.job_id)
    if waiting:
        return
    found = compare([e.evaluation_id for e in pair])
    st.markdown(f"**{comparison.headline(found, found.versus[0])}**")
    st.markdown(f":gray[{found.verdict}]")
    st.button("Look at its rows", key="ab_open", type="tertiary", on_click=_open, args=([e.evaluation_id for e in pair],))


def _open(ids: list[str]) -> None:
    st.session_state["arms"] = ids
