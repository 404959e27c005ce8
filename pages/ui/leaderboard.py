"""Pieces of Metrics: filters, the finding, the ranking, and which evaluation is looked into. Computes no score."""

from __future__ import annotations

import re
from collections import Counter
from typing import Any

import pandas as pd
import streamlit as st

from core.figures import evaluation as figures
from core.figures import tidy
from core.records import Evaluation
from pages.ui import address, charts, formats, tables
from pages.ui.selection import Selection

FILTERS = {
    "dataset": "Dataset", "version": "Version", "model": "Model", "adapter": "Adapter", "template": "Template", "split": "Split",
}  # fmt: skip
FOCUS, _FIRST = "evaluation", "_metric_first"
SHOWN = 12
ALIKE = 0.9
"""Evaluations of a split are of the same rows as long as one has so large a part of the other's: some may have left out a few."""
TEXT_METRICS = ("bleu", "chrf")
"""They say nothing of labels."""


def filters(frame: pd.DataFrame, chosen: Selection) -> tuple[pd.DataFrame, str]:
    """The row of filters, each in the address; returns what is left and the metric to rank by."""
    metrics = [name for name in tidy.METRICS if frame[name].notna().any()]
    mine = frame[frame["dataset"] == chosen.dataset.name] if chosen.dataset else frame
    first = tidy.headline(str((mine if len(mine) else frame)["task"].iloc[0]))
    with st.container(key="filters", horizontal=True, gap="small"):
        if st.session_state.get(_FIRST) not in (None, first):  # another task's dataset was chosen
            st.session_state["metric"] = first
        st.session_state[_FIRST] = first
        address.hold("metric", metrics, first if first in metrics else metrics[0])
        metric = st.selectbox(
            "Ranked by", metrics, format_func=lambda name: tidy.METRICS[name][0], key="metric", persist_state="session", width=146
        )
        address.tell("metric", metric)
        left = frame
        for column, label in FILTERS.items():
            options = sorted(map(str, frame[column].unique()))
            wanted = st.multiselect(label, options, key=f"by_{column}", bind="query-params", placeholder="all", width=146)
            if wanted:
                left = left[left[column].isin(wanted)]
    return left.reset_index(drop=True), metric


def clear() -> None:
    """Take all filters away, from the next run on."""
    for column in FILTERS:
        st.session_state.pop(f"by_{column}", None)


def newest_gold(frame: pd.DataFrame, metric: str) -> pd.Series:
    """For each line whether it was counted by the newest gold of its dataset among those that have the metric."""
    number = frame["version"].str.removeprefix("v").astype(int)
    newest = number.where(frame[metric].notna()).groupby(frame["dataset"]).transform("max")
    return number == newest


def _others(frame: pd.DataFrame, metric: str) -> str:
    """By which gold the ranked are counted, and how many others by which, in words; nothing where there are no others."""
    new = newest_gold(frame, metric) | frame[metric].isna()
    if new.all():
        return ""
    amount = (~new).sum()
    several = frame["dataset"].nunique() > 1
    label = frame["dataset"] + " " + frame["version"] if several else frame["version"]
    versions = sorted(label[~new].unique(), key=lambda text: [int(p) if p.isdigit() else p for p in re.split(r"(\d+)", text)])
    best = "each dataset's newest version" if several else label[newest_gold(frame, metric)].iloc[0]
    verb = "is" if amount == 1 else "are"
    return (
        f" Ranked by the gold of {best}; {formats.plural(amount, 'other')} {verb} counted by that of {', '.join(versions)}: "
        "filter by version to rank them."
    )


def _unlike(part: pd.DataFrame) -> str:
    """Whether evaluations of one dataset answered different rows of it, in words; nothing where they didn't."""
    splits, rows = sorted(name or "no split" for name in part["split"].unique()), part["rows"]
    if len(splits) > 1:
        several = f"{', '.join(splits[:-1])} and {splits[-1]}"
        return f" They answered rows of {several}, and scores on different rows don't compare: filter by split."
    if rows.min() >= ALIKE * rows.max():
        return ""
    return f" They answered {rows.min():,} to {rows.max():,} rows: Compare holds them side by side on the rows that all have."


def sentence(frame: pd.DataFrame, ranked: pd.DataFrame, metric: str) -> tuple[str, str]:
    """The finding: which of the ``ranked`` is best, how sure, and over what it was counted; who is ranked by another gold."""
    name, higher = tidy.METRICS[metric]
    where = frame["dataset"].unique()
    over = f"on {where[0]}" if len(where) == 1 else f"over {formats.plural(len(where), 'dataset')}"
    if ranked.empty:
        return f"None of {formats.plural(len(frame), 'evaluation')} has {name.lower()}.", ""
    best = ranked.sort_values("value", ascending=not higher).iloc[0]
    written = formats.interval(best["value"], best["low"], best["high"])
    if len(ranked) == 1:
        detail = _others(frame, metric).lstrip() or "One evaluation; a second one makes a comparison."
        return f"{best['name']} reaches {name} {written} {over}.", detail
    detail = (
        f"{formats.plural(len(frame), 'evaluation')}; {'higher' if higher else 'lower'} is better. Brackets are 95 % intervals."
    )
    if len(where) > 1:
        detail += " Scores on different rows don't compare: filter by dataset."
    else:
        detail += _unlike(frame[frame["key"].isin(ranked["key"])])
    detail += _others(frame, metric)
    return f"Best {over}: {best['name']}, {name} {written}.", detail


def chart(ranked: pd.DataFrame, metric: str, names: dict[str, str]) -> None:
    """The best by a metric with their intervals; a click looks into one. ``names``: what to call each evaluation."""
    shown = ranked.head(SHOWN).assign(name=lambda f: f["key"].map(names))
    charts.show(
        figures.leaderboard(shown, metric=tidy.axis(metric), higher_is_better=tidy.METRICS[metric][1]),
        key="leaderboard",
        alt=f"Evaluations ranked by {tidy.axis(metric)}, each with its 95 % interval",
        table=ranked.assign(name=ranked["key"].map(names))[["name", "kind", "value", "low", "high"]],
        columns={
            "name": tables.text("Evaluation"),
            "value": tables.decimal(tidy.METRICS[metric][0]),
            "low": tables.decimal("95 % from"),
            "high": tables.decimal("to"),
        },
        select=lambda points: look_into(str(points[0]["customdata"][0])) if points else None,
    )
    few = f"The best {SHOWN} of {formats.count(len(ranked))} are drawn. " if len(ranked) > SHOWN else ""
    st.caption(f"{few}Click a point, or a line of the table, to look into it. Lines are 95 % intervals.")


def look_into(key: str) -> None:
    """Choose the evaluation that the views below are about, from the next run on."""
    st.session_state[FOCUS] = key


def focus(kept: list[Evaluation], ranked: pd.DataFrame, names: dict[str, str]) -> Evaluation:
    """The evaluation that the views below are about, the best one at first; in the address."""
    by_id = {e.evaluation_id: e for e in kept}
    order = [key for key in ranked["key"] if key in by_id]
    order += [key for key in by_id if key not in set(order)]
    address.hold(FOCUS, order, order[0])
    chosen = st.selectbox("Look into", order, format_func=names.__getitem__, key=FOCUS, persist_state="session", width=420)
    return by_id[address.tell(FOCUS, chosen)]


def peers(record: Evaluation, kept: list[Evaluation], ranked: pd.DataFrame, most: int = 4) -> list[Evaluation]:
    """The one that is looked into, last; before it the best others on the same rows, a prompt beside a fine-tune among them."""
    by_id = {e.evaluation_id: e for e in kept}
    same = [by_id[key] for key in ranked["key"] if key in by_id and place(by_id[key]) == place(record)]
    same = [e for e in same if min(e.rows, record.rows) >= ALIKE * max(e.rows, record.rows)]
    others = [e for e in same if e.evaluation_id != record.evaluation_id]
    unlike = [e for e in others if bool(e.spec.arm.run) != bool(record.spec.arm.run)][:1]
    others = ([e for e in others if e not in unlike][: most - 1 - len(unlike)] + unlike)[: most - 1]
    return told_apart([*others[::-1], record])


def told_apart(records: list[Evaluation]) -> list[Evaluation]:
    """The same records; equal names get the end of their identifier."""
    names = unique_names(records)
    return [e.model_copy(update={"name": names[e.evaluation_id]}) for e in records]


def unique_names(records: list[Evaluation]) -> dict[str, str]:
    """What to call each evaluation, by its identifier: without dataset and split where all are of the same."""
    alike = len({(e.spec.dataset, e.spec.split) for e in records}) == 1
    names = {e.evaluation_id: e.short_name if alike else e.name for e in records}
    counts = Counter(names.values())
    return {key: name if counts[name] == 1 else f"{name} · {key[-6:]}" for key, name in names.items()}


def place(evaluation: Evaluation) -> tuple[Any, ...]:
    """What must be equal for two evaluations to be of the same rows."""
    return evaluation.spec.dataset, evaluation.version, evaluation.spec.split, evaluation.task


def _bare(name: str, line: Any) -> str:
    """An evaluation's name without the dataset and split that have columns of their own."""
    return name.removeprefix(f"{line.dataset} {line.split}: ")


def table(frame: pd.DataFrame, metric: str, names: dict[str, str]) -> None:
    """All evaluations with their scores, those by the newest gold first; a click looks into one."""
    higher = tidy.METRICS[metric][1]
    ordered = frame.assign(older=~newest_gold(frame, metric)).sort_values(
        ["older", metric], ascending=[True, not higher], na_position="last", ignore_index=True
    )
    ordered = ordered.drop(columns="older")
    ordered = ordered.assign(name=[_bare(names[line.key], line) for line in ordered.itertuples()])
    columns = {"name": tables.text("Evaluation", width=tables.width_of(ordered["name"]))}
    for name in sorted(tidy.METRICS, key=lambda name: name != metric):
        label, better = tidy.METRICS[name]
        if not ordered[name].notna().any() or (name in TEXT_METRICS and set(ordered["task"]) == {"classification"}):
            continue
        note = "Higher is better." if better else "Lower is better."
        bounded = name not in ("perplexity", "bleu", "chrf")
        columns[name] = tables.bar(label, note) if bounded else tables.decimal(label, note, 1)
    columns |= {"rows": tables.whole("Rows"), "dataset": tables.text("Dataset"), "version": tables.text("Version")}
    columns |= {"model": tables.text("Model"), "adapter": tables.text("Adapter"), "template": tables.text("Template")}
    columns |= {
        "tokens": tables.decimal("Tokens", "Tokens of a request, prompt and answer together", 0),
        "when": tables.moment("When"),
    }
    tables.pick(
        ordered, columns, alt="All evaluations with their scores", key="evaluations", height=360,
        on_pick=lambda place: look_into(str(ordered["key"].iloc[place])),
    )  # fmt: skip
    with st.container(horizontal=True):
        charts.take(ordered, "evaluations", key="evaluations_take")
