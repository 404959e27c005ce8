"""Pieces of Metrics: filters, the finding, the table of evaluations, elements, errors, rows. Computes no score."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
import streamlit as st

from core.figures import evaluation as figures
from core.figures import tidy
from core.records import Evaluation
from pages.ui import charts, formats, rowview, tables
from pages.ui.selection import Selection

FILTERS = {"dataset": "Dataset", "model": "Model", "adapter": "Adapter", "template": "Template", "split": "Split"}
EVERYTHING = "All datasets"
MOST_SERIES = 4


def filters(frame: pd.DataFrame, chosen: Selection) -> tuple[pd.DataFrame, str]:
    """The row of filters, each in the address; returns what is left and the metric to rank by."""
    metrics = [name for name in tidy.METRICS if frame[name].notna().any()]
    first = tidy.headline(str(frame["task"].iloc[0]))
    with st.container(key="filters"):
        cells = st.columns([3, 3, 3, 3, 3, 2], gap="small")
        with cells[0]:
            metric = st.selectbox(
                "Ranked by", metrics, index=metrics.index(first) if first in metrics else 0,
                format_func=lambda name: tidy.METRICS[name][0], key="metric", bind="query-params",
            )  # fmt: skip
        left = frame
        for cell, (column, label) in zip(cells[1:], FILTERS.items(), strict=True):
            options = sorted(map(str, frame[column].unique()))
            with cell:
                wanted = st.multiselect(label, options, key=f"by_{column}", bind="query-params", placeholder="all")
            if wanted:
                left = left[left[column].isin(wanted)]
    return left.reset_index(drop=True), metric


def clear() -> None:
    """Take all filters away, from the next run on."""
    for column in FILTERS:
        st.session_state.pop(f"by_{column}", None)


def sentence(frame: pd.DataFrame, ranked: pd.DataFrame, metric: str) -> tuple[str, str]:
    """The finding: which evaluation is best, how sure, and over what it was counted."""
    name, higher = tidy.METRICS[metric]
    where = frame["dataset"].unique()
    over = f"on {where[0]}" if len(where) == 1 else f"over {formats.plural(len(where), 'dataset')}"
    if ranked.empty:
        return f"None of {formats.plural(len(frame), 'evaluation')} has {name.lower()}.", ""
    best = ranked.sort_values("value", ascending=not higher).iloc[0]
    written = formats.interval(best["value"], best["low"], best["high"])
    if len(ranked) == 1:
        return f"{best['name']} reaches {name} {written} {over}.", "One evaluation; a second one makes a comparison."
    detail = (
        f"{formats.plural(len(frame), 'evaluation')}; {'higher' if higher else 'lower'} is better. Brackets are 95 % intervals."
    )
    if len(where) > 1:
        detail += " Scores on different rows don't compare: filter by dataset."
    return f"Best {over}: {best['name']}, {name} {written}.", detail


def table(frame: pd.DataFrame, metric: str) -> str | None:
    """All evaluations with their scores; returns the key of the line that was clicked."""
    higher = tidy.METRICS[metric][1]
    ordered = frame.sort_values(metric, ascending=not higher, na_position="last").reset_index(drop=True)
    columns = {"name": tables.text("Evaluation", width="medium")}
    for name in sorted(tidy.METRICS, key=lambda name: name != metric):
        label, better = tidy.METRICS[name]
        if not ordered[name].notna().any():
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
    place = tables.pick(ordered, columns, alt="All evaluations with their scores", key="evaluations")
    return None if place is None else str(ordered["key"].iloc[place])


def elements(records: list[Evaluation]) -> None:
    """F1 by element of the newest evaluations, the worst element first."""
    frame = tidy.elements(records[:MOST_SERIES][::-1])
    if frame.empty:
        st.caption("These evaluations aren't of an extraction task, so they have no elements.")
        return
    last = frame[frame["arm"] == frame["arm"].iloc[-1]]
    worst = last.sort_values("value").iloc[0]
    title = f"{worst['element']} is the weakest element of {worst['arm']}: F1 {worst['value']:.2f}"
    charts.show(
        figures.element_bars(frame, title=title),
        key="by_element",
        alt="F1 by element and evaluation",
        table=frame[["element", "arm", "value", "precision", "recall", "gold"]],
        columns={
            "element": tables.text("Element"), "arm": tables.text("Evaluation"), "value": tables.bar("F1"),
            "precision": tables.decimal("Precision"), "recall": tables.decimal("Recall"), "gold": tables.whole("Gold values"),
        },
    )  # fmt: skip
    _more(records)


def errors(records: list[Evaluation]) -> None:
    """What kinds of error were made."""
    frame = tidy.errors(records[:MOST_SERIES][::-1])
    if frame.empty or not frame["rows"].sum():
        st.caption("No error was counted in these evaluations.")
        return
    most = frame.sort_values("rows").iloc[-1]
    title = f"Most frequent: {most['label'].lower()}, {formats.plural(most['rows'], 'value')} ({most['arm']})"
    charts.show(
        figures.error_bars(frame[frame["rows"] > 0], title=title),
        key="by_error",
        alt="Values that are wrong, by kind of error and evaluation",
        table=frame[["label", "arm", "rows"]],
        columns={"label": tables.text("Kind of error"), "arm": tables.text("Evaluation"), "rows": tables.whole("Values")},
    )  # fmt: skip
    _more(records)


def rows(record: Evaluation, *, only: Sequence[str] | None = None, key: str = "rows") -> None:
    """The rows of one evaluation (or ``only`` these), the worst first, filtered by error and element; a click opens one."""
    answers = tidy.answers(record.evaluation_id)
    if only is not None:
        answers = answers[answers["row_id"].isin(only)]
    kinds = sorted({kind for found in answers["kinds"] for kind in found})
    named = sorted({name for found in answers["elements"] for name in found})
    if only is None:
        st.markdown(f"Rows of **{record.name}**")
    with st.container(horizontal=True):
        kind = st.selectbox(
            "Kind of error", ["", *kinds], format_func=lambda k: tidy.ERROR_WORDS.get(k, k) or "any", key=f"{key}_kind", width=240
        )
        element = st.selectbox("Element", ["", *named], format_func=lambda e: e or "any", key=f"{key}_element", width=240)
    kept = answers[
        [
            (not kind or kind in k) and (not element or element in e)
            for k, e in zip(answers["kinds"], answers["elements"], strict=True)
        ]
    ]
    kept = kept.sort_values("errors", ascending=False).reset_index(drop=True)
    if kept.empty:
        st.caption("No row of this kind.")
        return
    shown = kept.assign(
        found=[", ".join(tidy.ERROR_WORDS.get(k, k).lower() for k in found) or "right" for found in kept["kinds"]]
    )
    columns = {
        "input": tables.text("Input", width="large"),
        "found": tables.text("Errors"),
        "errors": tables.whole("Wrong values"),
    }
    place = tables.pick(
        shown,
        columns | {"output": tables.text("Gold"), "prediction": tables.text("Predicted")},
        alt="Rows",
        key=f"{key}_table",
        height=280,
    )
    row = kept.iloc[place or 0]
    rowview.show(
        row["input"], row["output"], row["prediction"], key=f"{key}_{record.evaluation_id}_{row['row_id']}",
        extraction=record.task == "extraction", instruction=row["instruction"], raw={"As it was generated": row["raw"]},
    )  # fmt: skip


def _more(records: list[Evaluation]) -> None:
    if len(records) > MOST_SERIES:
        st.caption(f"The newest {MOST_SERIES} of {len(records)} are drawn; filter to choose others.")
