"""Pieces of Metrics about courses: scores along versions, runs, time; training beside scores; lengths and likelihoods."""

from __future__ import annotations

from typing import Any

import pandas as pd
import streamlit as st

from core.figures import answers as figures
from core.figures import evaluation, tidy, tidy_rows, training
from core.records import Evaluation, Run
from core.store.jobs import read_metrics
from pages.ui import charts, formats, leaderboard, rowview, scored, states, tables

MOST_GROUPS = 7
MOST_CURVES = 7
MEASURES = {"loss": "Training loss", "eval_loss": "Loss on dev", "dev_loss": "Loss on dev", "micro_f1": "Micro-F1 on dev",
            "dev_micro_f1": "Micro-F1 on dev"}  # fmt: skip
WAYS = {"version": "Versions of the data", "run": "Training runs", "time": "Time"}


def trend(frame: pd.DataFrame, metric: str, runs: list[Run]) -> None:
    """A score along versions of the data, training runs or time."""
    default = "version" if frame["version"].nunique() > 1 else "time"
    along = st.segmented_control(
        "Along", list(WAYS), default=default, format_func=WAYS.__getitem__, key="along", bind="query-params", required=True
    )
    found = tidy.trend(frame, metric, along, runs)
    if found.empty:
        st.caption("No evaluation here is of a fine-tune." if along == "run" else f"No evaluation has {tidy.METRICS[metric][0]}.")
        return
    groups = list(dict.fromkeys(found["group"]))
    charts.show(
        evaluation.trend(found[found["group"].isin(groups[:MOST_GROUPS])], metric=tidy.axis(metric), x=tidy.ALONG[along]),
        key="trend",
        alt=f"{tidy.axis(metric)} along {WAYS[along].lower()}, with 95 % intervals",
        table=found[["at", "group", "name", "value", "low", "high", "when"]],
        columns={
            "at": tables.text(WAYS[along]), "group": tables.text("What answered"), "name": tables.text("Evaluation"),
            "value": tables.decimal(tidy.METRICS[metric][0]), "low": tables.decimal("95 % from"), "high": tables.decimal("to"),
            "when": tables.moment("When"),
        },
        select=lambda points: leaderboard.look_into(str(points[0]["customdata"][0])) if points else None,
    )  # fmt: skip
    if len(groups) > MOST_GROUPS:
        st.caption(f"The {MOST_GROUPS} with the most points of {len(groups)}; the table has all, and filters choose others.")
    if along != "time":
        st.caption("Where something answered several times, the newest counts.")


def curves(kept: list[Evaluation], ranked: pd.DataFrame, metric: str, runs: list[Run]) -> None:
    """How the fine-tunes were trained, beside what they scored."""
    by_run = {run.run_id: run for run in runs}
    best: dict[str, str] = {}
    runs_of = {e.evaluation_id: e.spec.arm.run for e in kept}
    for key in ranked["key"]:
        if (run_id := runs_of.get(key)) in by_run:
            best.setdefault(str(run_id), str(key))
    if not best:
        st.caption("No evaluation here is of a fine-tune, so there is no training to look at.")
        return
    chosen = dict(list(best.items())[:MOST_CURVES])
    label = _run_names([by_run[run_id] for run_id in chosen])
    measured = {run_id: pd.DataFrame(read_metrics(by_run[run_id].job_id)) for run_id in chosen}
    there = [m for m in MEASURES if any(m in frame for frame in measured.values())]
    left, right = charts.pair("training")
    with left:
        if not there:
            st.caption("Nothing was measured while these were trained.")
        else:
            names = {m: MEASURES[m] for m in there}
            measure = st.segmented_control(
                "Measured",
                there,
                default=there[0],
                format_func=names.__getitem__,
                key="measure",
                bind="query-params",
                required=True,
            )
            looks = measure.startswith("dev_")
            drawn = {label[run_id]: frame for run_id, frame in measured.items() if measure in frame}
            table = pd.concat([f[["step", measure]].assign(run=name) for name, f in drawn.items()]).dropna()
            charts.show(
                training.overlay(drawn, column=measure, y=names[measure] + ("" if looks else ", smoothed")), key="curves",
                alt=f"{names[measure]} by step of {len(drawn)} runs", table=table,
            )  # fmt: skip
    with right:
        st.markdown(f":gray[{tidy.METRICS[metric][0]} of the best evaluation of each]")
        part = ranked[ranked["key"].isin(chosen.values())]
        run_of = {key: run_id for run_id, key in chosen.items()}
        part = part.assign(name=[label[run_of[key]] for key in part["key"]])
        charts.show(
            evaluation.leaderboard(part, metric=tidy.axis(metric), higher_is_better=tidy.METRICS[metric][1]),
            key="curve_scores", alt=f"{tidy.axis(metric)} of each run", table=part[["name", "value", "low", "high"]],
            select=lambda points: leaderboard.look_into(str(points[0]["customdata"][0])) if points else None,
        )  # fmt: skip
    if len(best) > MOST_CURVES:
        st.caption(f"The best {MOST_CURVES} of {len(best)} runs are drawn; filter to choose others.")


def _run_names(runs: list[Run]) -> dict[str, str]:
    """What to call each run; equal names get the end of their identifier."""
    names = [run.name or run.run_id for run in runs]
    return {
        run.run_id: name if names.count(name) == 1 else f"{name} · {run.run_id[-6:]}"
        for run, name in zip(runs, names, strict=True)
    }


@st.cache_data(show_spinner=False, max_entries=16)
def _lengths(ids: tuple[str, ...], _records: list[Evaluation]) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    return tidy_rows.length_bins(_records), tidy_rows.likelihoods(_records), tidy_rows.lengths(_records[-1])


def lengths(records: list[Evaluation]) -> None:
    """Whether answers come out as long as gold, and how likely the arms find the gold answers; a click opens rows."""
    record = records[-1]
    by_key = {e.evaluation_id: e for e in records}
    bins, likely, mine = _lengths(tuple(e.evaluation_id for e in records), records)
    left, right = charts.pair("lengths")
    with left:
        points = charts.show(
            figures.length_calibration(bins, title=_length_title(record, mine)), key="lengths",
            alt="Characters of answers against those of the gold answers, in groups of rows of like length",
            table=bins.drop(columns="key"), select=True,
        )  # fmt: skip
        cut = int(mine["cut"].sum())
        st.caption(
            (f"{formats.plural(cut, 'answer')} of {record.name} ended at the longest answer allowed. " if cut else "")
            + "Points are means of rows whose gold answers are about as long; lines are 95 % intervals of the mean. "
            "Click one to see its rows."
        )
    asked: list[Any] = []
    with right:
        if likely.empty:
            st.caption("Perplexity of the gold answers was not measured in these evaluations.")
        else:
            asked = _likelihoods(record, likely)
    if points:
        key, first, last = points[0]["customdata"][:3]
        if (one := by_key.get(key)) is not None:
            _as_long(one, int(first), int(last))
    if not likely.empty:
        one = by_key.get(asked[0], record) if asked else record
        _surprising(one, likely[likely["key"] == one.evaluation_id], asked[1] if asked else None)


def _likelihoods(record: Evaluation, likely: pd.DataFrame) -> list[Any]:
    """The chart of perplexities; the evaluation and the perplexity of the point that was clicked, if one was."""
    table = likely.groupby("arm", sort=False)["perplexity"].describe(percentiles=[0.05, 0.5, 0.95]).reset_index()
    points = charts.show(
        figures.likelihoods(likely, title=_likely_title(record, likely)), key="likelihoods",
        alt="Share of rows whose gold answer has at most a perplexity, for each evaluation", table=table, select=True,
    )  # fmt: skip
    st.caption("Click a curve to see the rows up to there.")
    return list(points[0]["customdata"][:2]) if points else []


def _as_long(record: Evaluation, first: int, last: int) -> None:
    """The rows of an evaluation whose gold answer has ``first`` to ``last`` characters."""
    found = tidy_rows.lengths(record)
    kept = found[found["gold"].between(first, last)]
    st.markdown(f"Rows of **{states.plain(record.name)}** with gold answers of {first:,} to {last:,} characters")
    scored.rows(record, only=kept["row_id"].tolist(), key="length_rows")


def _length_title(record: Evaluation, mine: pd.DataFrame) -> str:
    gold, said = float(mine["gold"].sum()), float(mine["answer"].sum())
    if not gold or not said:
        return f"{record.name} says nothing" if gold else ""
    share = said / gold - 1
    if abs(share) < 0.03:
        return f"Answers of {record.name} are as long as gold on the whole"
    by = f"{formats.percent(abs(share))} {'longer' if share > 0 else 'shorter'}"
    return f"Answers of {record.name} are {by} than gold on the whole"


def _likely_title(record: Evaluation, likely: pd.DataFrame) -> str:
    mine = likely.loc[likely["arm"] == record.name, "perplexity"]
    if mine.empty:
        return ""
    return (
        f"{record.name}: half of the gold answers at {formats.number(mine.median())} or less, "
        f"one in twenty above {formats.number(mine.quantile(0.95))}"
    )


def _surprising(record: Evaluation, likely: pd.DataFrame, most: float | None) -> None:
    """The rows whose gold answers the arm finds least likely; of those up to a perplexity, where one was clicked."""
    if likely.empty:
        return
    if most is None:
        st.markdown(f"Rows whose gold answers **{states.plain(record.name)}** finds least likely")
    else:
        likely = likely[likely["perplexity"] <= most * (1 + 1e-9)]
        st.markdown(
            f"{formats.plural(len(likely), 'row')} of **{states.plain(record.name)}** with gold answers of perplexity "
            f"{formats.number(most)} or less, the least likely first"
        )
    found = scored.answers(record.evaluation_id, record).merge(likely[["row_id", "perplexity"]], on="row_id")
    found = found.sort_values("perplexity", ascending=False).head(200).reset_index(drop=True)
    columns = {
        "perplexity": tables.decimal("Perplexity", "Of the gold answer given the prompt", 2),
        "input": tables.text("Input", width="large"), "output": tables.text("Gold", width="medium"),
        "prediction": tables.text("Predicted", width="medium"),
    }  # fmt: skip
    place = tables.pick(found, columns, alt="Rows by perplexity", key="surprising", height=260)
    row = found.iloc[place or 0]
    rowview.show(
        row["input"], row["output"], row["prediction"], key=f"surprising_{record.evaluation_id}_{row['row_id']}",
        extraction=record.task == "extraction", instruction=row["instruction"],
    )  # fmt: skip
