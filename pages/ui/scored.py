"""Pieces of Metrics about what is right and wrong: elements or labels, kinds of error, confusions, and the rows behind each."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
import streamlit as st

from core.evaluation.nearest import Nearest
from core.figures import evaluation as figures
from core.figures import matrices, tidy, tidy_rows
from core.records import Evaluation
from pages.ui import charts, formats, rowview, states, tables

MOST_LABELS = 25
NEAREST = 5
SOME = 6


@st.cache_data(show_spinner=False, max_entries=32)
def answers(evaluation_id: str, _record: Evaluation) -> pd.DataFrame:
    """The rows of a finished evaluation, which never change."""
    return tidy_rows.answers(_record)


@st.cache_resource(show_spinner="Reading the training rows", max_entries=4)
def _nearest(evaluation_id: str, _record: Evaluation) -> Nearest:
    return Nearest(_record)


def elements(records: list[Evaluation]) -> None:
    """F1 by element or label of a few evaluations, the last of them leading; a click opens the rows with faults in it."""
    frame = tidy.elements(records)
    record = records[-1]
    what = "label" if record.task == "classification" else "element"
    if frame.empty:
        st.caption("These answers have neither elements nor labels.")
        return
    last = frame[frame["key"] == record.evaluation_id]
    worst = last.sort_values("value").iloc[0]
    title = f"{worst['element']} is the weakest {what} of {worst['arm']}: F1 {worst['value']:.2f}"
    if last["value"].nunique() == 1 and len(last) > 1:
        title = f"Every {what} of {worst['arm']} has F1 {worst['value']:.2f}"
    kept = last.sort_values("value")["element"].head(MOST_LABELS)
    points = charts.show(
        figures.element_bars(frame[frame["element"].isin(kept)], title=title),
        key="by_element",
        alt=f"F1 by {what} and evaluation, with 95 % intervals",
        table=frame[["element", "arm", "value", "low", "high", "precision", "recall", "gold"]],
        columns={
            "element": tables.text(what.capitalize()), "arm": tables.text("Evaluation"), "value": tables.bar("F1"),
            "low": tables.decimal("95 % from"), "high": tables.decimal("to"),
            "precision": tables.decimal("Precision"), "recall": tables.decimal("Recall"), "gold": tables.whole("Gold values"),
        },
        select=True,
    )  # fmt: skip
    few = f"The weakest {MOST_LABELS} of {formats.count(len(last))} are drawn. " if len(last) > MOST_LABELS else ""
    st.caption(f"{few}Click a bar to see the rows with a fault in that {what}.")
    _only_answers(record)
    if points:
        element, key = points[0]["customdata"][:2]
        chosen = next(e for e in records if e.evaluation_id == key)
        found = answers(key, chosen)
        st.markdown(f"Rows of **{states.plain(chosen.name)}** with a fault in **{states.plain(element)}**")
        rows(
            chosen,
            only=[i for i, named in zip(found["row_id"], found["elements"], strict=True) if element in named],
            key="element_rows",
        )


def _only_answers(record: Evaluation) -> None:
    """Elements that gold has nowhere: they count in micro-F1 as wrong values, not in macro-F1."""
    found = record.scores.get("without_gold", {})
    if not found:
        return
    first = ", ".join(f"{states.plain(name)} ({formats.count(pairs)})" for name, pairs in list(found.items())[:SOME])
    more = f" and {formats.plural(len(found) - SOME, 'more element', 'more elements')}" if len(found) > SOME else ""
    st.caption(
        f"Only answers of {states.plain(record.name)} have {first}{more}: {formats.plural(sum(found.values()), 'value')} under "
        "elements that gold has nowhere, wrong in micro-F1 and no part of macro-F1."
    )


def errors(records: list[Evaluation]) -> None:
    """What kinds of error were made; a click opens the rows."""
    frame = tidy.errors(records)
    if frame.empty or not frame["rows"].sum():
        st.caption("No error was counted in these evaluations.")
        return
    mine = frame[frame["key"] == records[-1].evaluation_id].sort_values("rows")
    most = (mine if mine["rows"].sum() else frame.sort_values("rows")).iloc[-1]
    title = f"Most frequent: {most['label'].lower()}, {formats.plural(most['rows'], 'value')} ({most['arm']})"
    points = charts.show(
        figures.error_bars(frame[frame["rows"] > 0], title=title),
        key="by_error",
        alt="Values that are wrong, by kind of error and evaluation",
        table=frame[["label", "arm", "rows"]],
        columns={"label": tables.text("Kind of error"), "arm": tables.text("Evaluation"), "rows": tables.whole("Values")},
        select=True,
    )  # fmt: skip
    st.caption("Click a bar to see the rows with errors of that kind.")
    if points:
        error, key = points[0]["customdata"][:2]
        chosen = next(e for e in records if e.evaluation_id == key)
        found = answers(key, chosen)
        word = tidy.ERROR_WORDS.get(error, error).lower()
        st.markdown(f"Rows of **{states.plain(chosen.name)}** with values of the kind **{word}**")
        rows(
            chosen, only=[i for i, kinds in zip(found["row_id"], found["kinds"], strict=True) if error in kinds], key="error_rows"
        )


def confusion(record: Evaluation) -> None:
    """Which label was taken for which; a click opens the rows."""
    frame = tidy_rows.confusion(record)
    wrong = frame[(frame["gold"] != frame["predicted"]) & (frame["rows"] > 0)]
    totals = wrong.groupby("gold")["rows"].sum().sort_values(ascending=False)
    labels = list(dict.fromkeys(frame["gold"]))
    kept = labels if len(labels) <= MOST_LABELS else [label for label in labels if label in set(totals.index[:MOST_LABELS])]
    columns = [name for name in (*kept, tidy_rows.NO_LABEL) if name in kept or (frame["predicted"] == name).any()]
    title = "Every label is right"
    if len(wrong):
        worst = wrong.sort_values("rows").iloc[-1]
        title = f"Most often confused: {worst['gold']} taken for {worst['predicted']}, {formats.plural(worst['rows'], 'row')}"
    part = frame[frame["gold"].isin(kept) & frame["predicted"].isin(columns)]
    points = charts.show(
        matrices.confusion(part, gold=kept, predicted=columns, title=title),
        key="confusion",
        alt=f"Gold labels against predicted labels of {record.name}: counts of rows",
        table=frame[frame["rows"] > 0],
        columns={"gold": tables.text("Gold"), "predicted": tables.text("Predicted"), "rows": tables.whole("Rows")},
        select=True,
    )
    if len(kept) < len(labels):
        st.caption(f"The {len(kept)} labels that are confused most, of {len(labels)}; the table has all.")
    if points:
        gold, predicted = points[0]["customdata"][:2]
        found = answers(record.evaluation_id, record)
        cell = found[(found["gold_label"] == gold) & (found["label"] == predicted)]
        st.markdown(f"Rows of **{states.plain(gold)}** that were read as **{states.plain(predicted)}**")
        rows(record, only=cell["row_id"].tolist(), key="confusion_rows")


def rows(record: Evaluation, *, only: Sequence[str] | None = None, key: str = "rows") -> None:
    """The rows of one evaluation (or ``only`` these), the worst first, filtered by error and element; a click opens one."""
    found = answers(record.evaluation_id, record)
    if only is not None:
        found = found[found["row_id"].isin(set(only))]
    kinds = sorted({kind for line in found["kinds"] for kind in line})
    named = sorted({name for line in found["elements"] for name in line})
    if only is None:
        st.markdown(f"Rows of **{states.plain(record.name)}**")
    what = "Label" if record.task == "classification" else "Element"
    with st.container(horizontal=True):
        kind = any_of("Kind of error", kinds, f"{key}_kind", {k: tidy.ERROR_WORDS.get(k, k) for k in kinds}) if kinds else ""
        element = any_of(f"{what} with a fault", named, f"{key}_element") if named else ""
    pairs = zip(found["kinds"], found["elements"], strict=True)
    kept = found[[(not kind or kind in k) and (not element or element in e) for k, e in pairs]]
    kept = kept.sort_values("errors", ascending=False, kind="stable").reset_index(drop=True)
    if kept.empty:
        st.caption("No row of this kind.")
        return
    shown = kept.assign(said=[", ".join(tidy.ERROR_WORDS.get(k, k).lower() for k in line) or "right" for line in kept["kinds"]])
    columns = {
        "input": tables.text("Input", width="large"), "said": tables.text("Errors"), "errors": tables.whole("Wrong values"),
        "output": tables.text("Gold"), "prediction": tables.text("Predicted"),
    }  # fmt: skip
    place = tables.pick(shown, columns, alt="Rows", key=f"{key}_table", height=280)
    row = kept.iloc[place or 0]
    rowview.show(
        row["input"], row["output"], row["prediction"], key=f"{key}_{record.evaluation_id}_{row['row_id']}",
        extraction=record.task == "extraction", instruction=row["instruction"], raw={"As it was generated": row["raw"]},
    )  # fmt: skip
    nearest(record, row, key=key)
    with st.container(horizontal=True):
        charts.take(shown.drop(columns=["kinds", "elements"]), "rows", key=f"{key}_take")


def nearest(record: Evaluation, row: pd.Series, *, key: str) -> None:
    """The training rows most like a row, when asked for: what could the arm have learned it from?"""
    if not st.toggle("Nearest training rows", key=f"{key}_nearest", bind="query-params"):
        return
    with states.catching():
        found = _nearest(record.evaluation_id, record)({"row_id": row["row_id"], "input": row["input"]}, NEAREST)
        if not found:
            st.caption("There is no training row to look at.")
            return
        whose = "what it was trained on" if record.spec.arm.run else "the train split; this arm was not trained on it"
        st.caption(f"The {len(found)} rows most like it in words, from {whose}.")
        frame = pd.DataFrame([{name: line[name] for name in ("row_id", "input", "output")} for line in found])
        columns = {
            "input": tables.text("Training input", width="large"), "output": tables.text("Its answer", width="large"),
            "row_id": tables.text("Row"),
        }  # fmt: skip
        place = tables.pick(frame, columns, alt="Training rows most like this one", key=f"{key}_nearest_table", height=220)
        if place is not None:
            line = found[place]
            rowview.show(
                line["input"], line["output"], key=f"{key}_near_{line['row_id']}", extraction=record.task == "extraction",
                instruction=line["instruction"],
            )  # fmt: skip


def any_of(label: str, options: list[str], key: str, words: dict[str, str] | None = None) -> str:
    """A choice of one or any, in the address; one that is gone falls back to any."""
    if st.session_state.get(key) not in (None, *options):
        del st.session_state[key]
    chosen = st.selectbox(
        label,
        options,
        index=None,
        placeholder="any",
        format_func=lambda o: (words or {}).get(o, o),
        key=key,
        bind="query-params",
        width=240,
    )
    return chosen or ""
