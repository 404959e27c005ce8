"""Rows of a comparison side by side: filtered by what became of them, each with gold, both answers and their difference.

A click on the figures sets the filters (``pages.ui.comparison``).
"""

from __future__ import annotations

import pandas as pd
import streamlit as st

from core.evaluation.comparison import Comparison, Versus
from core.evaluation.transitions import rows_behind
from pages.ui import address, comparison, evidence, formats, marks, rowview, scored, tables

_FILTERS = (comparison.BEFORE, comparison.AFTER, comparison.ELEMENT)
_SEEN = "compare_rows_seen"
RESULTS = {"won": "Gained", "lost": "Lost", "tied": "Unchanged", "all": "All"}


def rows(found: Comparison, number: int) -> None:
    """Rows side by side: which are gained, lost or unchanged, and one of them whole."""
    versus = found.versus[number - 1]
    frame = found.frame.to_pandas()
    result, score = f"result_{number}", f"score_{number}"
    only = (
        _chosen_rows(versus, comparison.arm_names(found)[0], comparison.name_of(found, versus)) if versus.moves.num_rows else None
    )
    if only is not None:
        frame = frame[frame["row_id"].isin(set(only))]
    counts = frame[result].value_counts()
    default = "won" if only is None and counts.get("won", 0) else "all"
    _begin_anew(found, number, default)
    address.hold("result", list(RESULTS), default)
    with st.container(horizontal=True, vertical_alignment="center"):
        chosen = st.segmented_control(
            "Rows", list(RESULTS), format_func=RESULTS.__getitem__, key="result", label_visibility="collapsed", required=True
        )
        address.tell("result", chosen)
        parts = [f"{int(counts.get(key, 0)):,} {RESULTS[key].lower()}" for key in ("won", "lost", "tied")]
        st.markdown(f":gray[{formats.plural(len(frame), 'row')}: {', '.join(parts)}]", width="content")
    if chosen != "all":
        frame = frame[frame[result] == chosen]
    frame = frame.assign(change=frame[score] - frame["score_0"]).sort_values("change", ascending=chosen == "lost", kind="stable")
    names = comparison.arm_names(found)
    columns = {
        "input": tables.text("Source text", width="large"),
        "output": tables.text("Gold", width="medium"),
        "prediction_0": tables.text(names[0], width="medium"),
        f"prediction_{number}": tables.text(names[number], width="medium"),
        "change": st.column_config.NumberColumn("Change", help="Of the row's own score, 0 to 1", format="%+.2f", width="small"),
    }
    if frame.empty:
        st.caption("No row of this kind.")
        return
    place = tables.pick(frame, columns, alt="Rows with the answers of both arms", key=f"compare_rows_{chosen}", height=260)
    _row(found, frame.iloc[place or 0], names, number)


def _begin_anew(found: Comparison, number: int, default: str) -> None:
    """Show what there is by default when other arms, kinds or another element are chosen: what was chosen among other rows
    (the gained ones, say) would hide those that were asked for, and a link wouldn't tell."""
    arms = tuple(arm.evaluation.evaluation_id for arm in found.arms)
    now = (arms, number, *(st.session_state.get(key) for key in _FILTERS))
    before = st.session_state.get(_SEEN, now)
    st.session_state[_SEEN] = now
    if before != now:
        st.session_state["result"] = default


def _chosen_rows(versus: Versus, first: str, other: str) -> list[str] | None:
    """The filters by kind and element, set here or by a click on the figures; the rows they leave, none for all."""
    back = {name: kind for kind, name in comparison.KINDS.items()}
    elements = sorted(set(versus.moves["element"].to_pylist()))
    with st.container(horizontal=True):
        before = scored.any_of(f"With {first}", comparison.kinds(versus), comparison.BEFORE)
        after = scored.any_of(f"With {other}", comparison.kinds(versus), comparison.AFTER)
        element = scored.any_of("Element", elements, comparison.ELEMENT)
    if not (before or after or element):
        return None
    return rows_behind(versus.moves, back.get(before, ""), back.get(after, ""), element)


def _row(found: Comparison, row: pd.Series, names: list[str], number: int) -> None:
    st.caption(f"Row {row['row_id']} · {row['source']}")
    cells = st.columns(2, gap="large")
    extraction = found.task == "extraction"
    for cell, place in zip(cells, (0, number), strict=True):
        with cell:
            st.markdown(f"**{names[place]}** · row score {formats.score(row[f'score_{place}'])}")
            rowview.show(
                row["input"],
                row["output"],
                row[f"prediction_{place}"],
                key=f"pair_{place}_{row['row_id']}",
                extraction=extraction,
                instruction=row["instruction"],
            )
    with st.expander(f"From the answer of {names[0]} to that of {names[number]}"):
        st.html(marks.diff(*(rowview.alike(row[f"prediction_{place}"]) for place in (0, number))))
    if extraction:
        evidence.mend([arm.evaluation for arm in found.arms], row["row_id"], row["output"], key="compare")
    scored.nearest(found.arms[number].evaluation, row, key="compare")
