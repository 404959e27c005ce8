"""Pieces of the overview: welcome, the five steps, running jobs, last results."""

from __future__ import annotations

from collections import Counter

import streamlit as st

from core.demo import EXTRACTION, load_samples
from core.errors import UserError
from core.evaluation.words import gold_of
from core.figures import evaluation as figures
from core.figures import tidy
from core.jobs.queue import dispatch
from core.lengths.measuring import last_measured
from core.records import LIVE_STATES, Evaluation
from core.store.datasets import list_versions
from core.store.jobs import list_jobs
from core.store.runs import list_evaluations, list_runs
from pages.ui import charts, formats, importer, leaderboard, shell, states
from pages.ui.registry import DATA, METRICS
from pages.ui.selection import Selection
from pages.ui.steps import Step, is_cleaned, next_step, survey

SHOWN = 6
"""The most evaluations on the overview."""


def welcome() -> None:
    """An empty workspace: what this is, and two ways to begin."""
    pressed = states.empty(
        "Is a better prompt enough, or is a fine-tune worth it?",
        "Bring a dataset, see what is wrong with it, clean it, measure it, train on it, and compare the answers row by row. "
        "Nothing leaves this machine. Start with the bundled sample, 1,200 rows in Chinese and English with seeded dirt, "
        "or with a file of your own.",
        "home",
        action="Open the sample",
        also="Import a file",
    )
    if pressed == "Open the sample":
        with states.catching("Nothing was changed."), st.spinner("Reading the samples"):
            load_samples()
            shell.go(DATA, dataset=EXTRACTION)
    elif pressed:
        importer.ask()
        shell.go(DATA)


def surveyed(chosen: Selection) -> list[Step]:
    """The steps of what is selected."""
    dataset, version = chosen.data
    return survey(dataset, version, measured=_measured(chosen))


def _measured(chosen: Selection) -> int | None:
    """The newest version up to the chosen one with its lengths: itself by any template, earlier ones by the chosen one's."""
    dataset, version = chosen.data
    if tidy.lengths_counted(version):
        return version.number
    earlier = [v for v in list_versions(dataset.name) if v.number < version.number and tidy.lengths_counted(v)]
    if not earlier or chosen.template is None:
        return None
    try:
        return last_measured(dataset.name, earlier[-1].number, chosen.template, chosen.model)
    except UserError:  # a model whose tokenizer isn't here: nothing was counted with it
        return None


def sentence(chosen: Selection, steps: list[Step]) -> tuple[str, str]:
    """Where the selected dataset stands, and a quieter second line."""
    dataset, version = chosen.data
    done = sum(step.done for step in steps)
    coming = next_step(steps)
    rows = formats.plural(version.rows, "row")
    if coming is None:
        return f"All five steps are taken for {dataset.name}.", f"{rows}, {formats.splits(version.split_sizes)}."
    if done == 0:
        return f"{dataset.name} is here with {rows}; the next step is to look at the data.", ""
    return f"{done} of 5 steps {'is' if done == 1 else 'are'} taken for {dataset.name}; next: {coming.action.lower()}.", (
        f"{rows}, {formats.splits(version.split_sizes)}." if is_cleaned(version) else f"{rows}, not cleaned yet."
    )


def primary(steps: list[Step]) -> None:
    """The one button: the next step."""
    coming = next_step(steps) or steps[-1]
    if st.button(coming.action, type="primary", key="home_next", icon=":material/arrow_forward:", icon_position="right"):
        shell.go(coming.page)


def way(steps: list[Step]) -> None:
    """The five steps in a row, each with its state and a link."""
    coming = next_step(steps)
    icons = {"done": ":material/check_circle:", "next": ":material/arrow_circle_right:", "later": ":material/circle:"}
    with st.container(key="way"):
        for column, step in zip(st.columns(len(steps), gap="small"), steps, strict=True):
            look = "done" if step.done else "next" if step is coming else "later"
            with column, st.container(key=f"step_{look}_{step.title.lower()}", gap=None):
                if st.button(step.title, key=f"home_open_{step.title}", type="tertiary", icon=icons[look]):
                    shell.go(step.page)
                st.caption(step.words)


def running() -> None:
    """Jobs that wait or run, each as it goes."""
    dispatch()
    live = list_jobs([*LIVE_STATES, "queued"])
    if live:
        st.subheader("Running now", anchor=False)
        for job in live[:5]:
            states.working(job.job_id)
        if len(live) > 5:
            st.caption(f"{len(live) - 5} more wait.")


def last_results(chosen: Selection) -> None:
    """The last evaluations of the selected dataset, else of the one evaluated last, as a chart; a way to all of them.

    Only those by the newest gold answers that were used, and on the same split, stand beside each other; the others are named.
    """
    records = [e for e in list_evaluations() if e.complete]
    own = [e for e in records if chosen.dataset and e.spec.dataset == chosen.dataset.name]
    records = own or records
    if not records:
        st.subheader("Last results", anchor=False)
        st.caption("Nothing was evaluated yet. Compare measures a prompt first, then a fine-tune against it, on the same rows.")
        return
    mine = [e for e in records if e.spec.dataset == records[0].spec.dataset]
    newest = max(mine, key=lambda e: e.version)
    metric = tidy.headline(newest.task)
    place = leaderboard.place(newest)
    alike = [e for e in mine if leaderboard.place(e) == place]
    last = alike[:SHOWN]
    names = _names(last)
    ranked = tidy.ranked(tidy.evaluations(last, list_runs()), metric).assign(name=lambda found: found["key"].map(names))
    where = f"{newest.spec.dataset} v{newest.version}, {newest.spec.split or 'rows in no split'}"
    st.subheader(f"Last results on {where}", anchor=False)
    with st.container(key="chart"):
        charts.show(
            figures.leaderboard(ranked, metric=tidy.axis(metric)),
            key="home_results",
            alt=f"The last evaluations on {where} by {tidy.axis(metric)}, with 95 % intervals",
            table=ranked[["name", "value", "low", "high"]],
        )
    if told := _elsewhere([e for e in mine if e not in alike]):
        st.caption(told)
    shell.link(METRICS, "All evaluations", icon=":material/arrow_forward:")


def _names(shown: list[Evaluation]) -> dict[str, str]:
    """What to call them, with the number of rows where that differs; without the gold that the heading names."""
    names = leaderboard.unique_names(shown)
    short = {key: name.removesuffix(gold_of(shown[0].version)) for key, name in names.items()}
    names = short if len(set(short.values())) == len(short) else names
    if len({e.rows for e in shown}) == 1:
        return names
    return {e.evaluation_id: f"{names[e.evaluation_id]} · {formats.plural(e.rows, 'row')}" for e in shown}


def _elsewhere(left: list[Evaluation]) -> str:
    """How many evaluations of the dataset aren't drawn, and by which gold answers they are scored."""
    if not left:
        return ""
    others = Counter((e.version, e.spec.split) for e in left)
    parts = [f"{count} on v{version}, {split or 'no split'}" for (version, split), count in sorted(others.items())]
    amount = formats.plural(len(left), "evaluation")
    verb = "is" if len(left) == 1 else "are"
    return f"{amount} by other gold answers or on other rows ({'; '.join(parts)}) {verb} not drawn: they don't compare."
