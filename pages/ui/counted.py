"""Piece of Metrics: how the scores of an evaluation were counted, and whether leaked rows flatter them."""

from __future__ import annotations

from typing import Any

import pandas as pd
import streamlit as st

from core.evaluation.rescore import without_leaks
from core.figures import tidy
from core.records import Evaluation
from pages.ui import charts, formats, marks, retrieved, states, tables


@st.cache_data(show_spinner="Looking for test rows that stand in the training data", max_entries=16)
def _leaks(evaluation_id: str) -> dict[str, Any]:
    return without_leaks(evaluation_id)


def show(record: Evaluation) -> None:
    """Signatures, and on demand the scores with and without the rows that stand in the training data."""
    rows = formats.plural(record.rows, "row")
    st.markdown(f"**{states.plain(record.name)}**, {rows}, answered with the template `{record.template.ref}`.")
    retrieved.show(record)
    st.html(marks.facts(list(record.signature.items())))
    if st.toggle("Scores with and without leaked rows", key="counted_leaks", bind="query-params"):
        with states.catching():
            leaks(record)


def leaks(record: Evaluation) -> None:
    """Scores of all rows beside those of the rows that don't stand in the training data."""
    found = _leaks(record.evaluation_id)
    leaked, total = len(found["leaked"]), int(found["rows"])
    if not leaked:
        st.markdown(f"None of the {formats.count(total)} rows stands in the training data, exactly or nearly.")
        return
    st.markdown(f"**{formats.plural(leaked, 'row stands', 'rows stand')} in the training data**, exactly or nearly.")
    lines = []
    for metric, (name, _) in tidy.METRICS.items():
        if metric in found["all"]["scores"] and metric in found["without"]["scores"]:
            values = [
                formats.interval(side["scores"][metric], *side["intervals"].get(metric, (None, None)))
                for side in (found["all"], found["without"])
            ]
            lines.append((name, *values))
    frame = pd.DataFrame(lines, columns=["score", "all", "without"])
    columns = {
        "score": tables.text("Score"), "all": tables.text(f"All rows ({total:,})"),
        "without": tables.text(f"Without leaked rows ({total - leaked:,})"),
    }  # fmt: skip
    tables.show(frame, columns, alt="Scores with and without leaked rows", key="counted_leaks_table")
    with st.container(horizontal=True):
        charts.take(pd.DataFrame({"row_id": found["leaked"]}), "leaked-rows", key="counted_leaks")
