"""Pieces of Metrics and Compare that lead from numbers to data: slices with their rows, and gold answers that look wrong.

Finds nothing itself: slices and suspects are core's; a fix is a step of the data's recipe.
"""

from __future__ import annotations

import json

import pandas as pd
import pyarrow as pa
import streamlit as st

from core.data.answers import dump_answer, parse_answer
from core.evaluation import decisions
from core.evaluation.adjudication import LEAST_PERPLEXITY, LEAST_ROWS, UNLIKELY_DEVIATIONS, suspects
from core.evaluation.rescore import rescore, rescored
from core.evaluation.slices import Slice, Values, slice_columns
from core.evaluation.slices import slices as find_slices
from core.figures import evidence as figures
from core.figures import tidy
from core.records import Evaluation
from core.store.datasets import get_version, read_rows
from core.store.runs import list_evaluations
from pages.ui import charts, formats, leaderboard, rowview, scored, states, tables

CLEAR = 0.05
MOST = 12
AGAIN = ("micro_f1", "exact_match")
FIX = "A fix is one step of the recipe and a new version: it stands in the ledger and can be undone on Data."
FLOORS = (
    f"Unlikely is a gold answer with a perplexity of {LEAST_PERPLEXITY:g} or more whose log-likelihood a token lies more than "
    f"{UNLIKELY_DEVIATIONS:g} robust deviations (of the median) below that of the middle row"
)
SIGNS = {"agree_against_gold": "All arms agree against it", "unlikely_gold": "The model finds it unlikely"}


@st.cache_data(show_spinner=False, max_entries=16)
def _columns(evaluation_id: str, _record: Evaluation) -> dict[str, Values]:
    return slice_columns(_record)


@st.cache_data(show_spinner="Looking for the worst slices", max_entries=32)
def _slices(evaluation_id: str, metric: str, depth: int, names: tuple[str, ...], _by: dict[str, Values]) -> list[Slice]:
    return find_slices(evaluation_id, metric, depth=depth, columns={name: _by[name] for name in names})


@st.cache_data(show_spinner="Looking for gold answers that look wrong", max_entries=16)
def _suspects(evaluation_ids: tuple[str, ...]) -> pa.Table:
    return suspects(evaluation_ids)


def slices(record: Evaluation, metric: str) -> None:
    """Where one evaluation does worst; a click on a point or a line opens the rows of the slice."""
    overall = tidy.value_of(record.scores, metric)
    name, higher = tidy.METRICS[metric]
    if overall is None:
        st.caption(f"{record.name} has no {name.lower()}.")
        return
    by = _columns(record.evaluation_id, record)
    with st.container(horizontal=True, vertical_alignment="bottom"):
        wanted = st.multiselect("By", list(by), key="slices_by", bind="query-params", placeholder="all columns", width=420)
        pairs = st.toggle(
            "Pairs of columns, too", key="slices_pairs", bind="query-params", help="More looks, so each must be clearer to count."
        )
    found = _slices(record.evaluation_id, metric, 2 if pairs else 1, tuple(wanted or by), by)
    if not found:
        st.caption(f"{record.name} has no group of 8 rows or more to tell from the rest.")
        return
    frame = pd.DataFrame(
        [
            {"key": n, "label": f"{s.column}: {s.value}", "clear": s.p_adjusted < CLEAR}
            | {part: getattr(s, part) for part in ("rows", "score", "low", "high", "rest", "difference", "p_adjusted")}
            for n, s in enumerate(found)
        ]
    )
    first, title = finding(frame)
    points = charts.show(
        figures.slice_points(frame.head(MOST), metric=tidy.axis(metric), overall=overall, higher_is_better=higher, title=title),
        key="slices",
        alt=f"Groups of rows of {record.name} by {name}, the worst on top, with 95 % intervals",
        table=frame.drop(columns=["key"]),
        select=True,
    )
    columns = {
        "label": tables.text("Slice", width="medium"), "rows": tables.whole("Rows"), "score": tables.decimal(name),
        "low": tables.decimal("95 % from"), "high": tables.decimal("to"), "rest": tables.decimal("The rest"),
        "difference": tables.decimal("Difference"),
        "p_adjusted": tables.probability("p", f"Random groups of this size, corrected (Holm) for all {len(found):,} slices"),
    }  # fmt: skip
    place = tables.pick(frame, columns, alt="Slices, the worst first", key="slices_table", height=260)
    at = place if place is not None else int(points[0]["customdata"][0]) if points else first
    st.markdown(f"Rows of **{frame['label'].iloc[at]}**, the worst first")
    scored.rows(record, only=found[at].row_ids, key="slice")


def finding(frame: pd.DataFrame) -> tuple[int, str]:
    """Place and words of the slice that is clearly apart and does worst; of the first where none is.

    ``frame``, the worst first: ``label``, ``difference``, ``p_adjusted``, ``clear``. A group that does worse may be too small
    to be clear.
    """
    apart = frame[frame["clear"]]
    if apart.empty:
        return 0, "No slice is clearly apart from the rest"
    worst = apart.iloc[0]
    sure = f"p {max(worst['p_adjusted'], 0.001):.2g} corrected for {formats.plural(len(frame), 'look')}"
    place = int(frame["clear"].to_numpy().argmax())
    return place, f"{worst['label']} is {formats.difference(worst['difference'])} from the rest ({sure})"


def doubtful(record: Evaluation, records: list[Evaluation]) -> None:
    """Gold answers that look wrong, one at a time: accept, fix or skip; then score again without the model."""
    if record.task != "extraction":
        st.caption("Only extraction answers can be adjudicated.")
        return
    others = [e for e in records if leaderboard.place(e) == leaderboard.place(record) and e != record]
    peers = [record, *others][:3]
    dataset = record.spec.dataset
    with states.catching():
        left = decisions.still_open(dataset, _suspects(tuple(e.evaluation_id for e in peers)))
        _rescored(peers, record)
        skipped = st.session_state.setdefault("suspects_skipped", [])
        lines = [line for line in left.to_pylist() if (line["row_id"], line["element"]) not in skipped]
        later = left.num_rows - len(lines)
        st.caption(_looked_for(record.rows, len(peers)))
        if not lines:
            st.markdown(f"No gold answer of {dataset} looks wrong" + (f" but {later:,} that you skipped." if later else "."))
            if later and st.button("Look at the skipped ones", key="suspects_again"):
                skipped.clear()
                st.rerun()
            return
        names = ", ".join(e.name for e in peers)
        st.markdown(f"**{formats.plural(len(lines), 'gold answer looks', 'gold answers look')} wrong**, by {names}.")
        frame = pd.DataFrame(lines).assign(why=lambda f: f["sign"].map(SIGNS))
        columns = {
            "why": tables.text("Why"), "element": tables.text("Element"), "gold": tables.text("Gold"),
            "said": tables.text("All arms say"), "input": tables.text("Source text", width="large"),
        }  # fmt: skip
        place = tables.pick(frame, columns, alt="Gold answers that look wrong", key="suspects_table", height=220)
        _decide(dataset, lines[place or 0], skipped)


def _looked_for(rows: int, arms: int) -> str:
    """What was looked for, and what couldn't be with so few rows or one arm."""
    alone = "" if arms > 1 else " Two arms or more are needed to see where all of them say the same against gold."
    if rows < LEAST_ROWS:
        few = f"{formats.plural(rows, 'row')} {'is' if rows == 1 else 'are'} too few"
        return f"{few} to tell which gold answers the model finds unlikely: {LEAST_ROWS} are needed.{alone}"
    return f"{FLOORS}; it is looked for among {LEAST_ROWS} rows or more.{alone}"


def _decide(dataset: str, line: dict[str, str | None], skipped: list[tuple[str, str]]) -> None:
    """One suspect: the row, an editable answer, and what to do."""
    row_id, element, output = str(line["row_id"]), str(line["element"]), str(line["output"])
    key = f"{row_id}_{element}_{len(output)}"
    rowview.show(str(line["input"]), output, line["suggested"], key=f"suspect_{key}")
    with st.container(gap="xsmall"):
        answer = st.text_area(
            "The answer as it should be", _written(line["suggested"] or output, output), key=f"suspect_answer_{key}", height=90
        )
        with st.container(horizontal=True):
            if st.button("Fix: save this answer", key="suspect_fix", icon=":material/edit:"):
                decisions.fix(dataset, {row_id: _written(answer, output)})
                st.rerun()
            if st.button("Accept: gold is right", key="suspect_accept", icon=":material/check:"):
                decisions.accept(dataset, row_id, element, output)
                st.rerun()
            if st.button("Skip", key="suspect_skip", type="tertiary"):
                skipped.append((row_id, element))
                st.rerun()
    st.caption(FIX)


def mend(arms: list[Evaluation], row_id: str, output: str, *, key: str) -> None:
    """A row's gold answer, to be mended by who sees that it is wrong; then the arms' saved answers are scored again.

    ``output`` is the gold answer that the arms were scored with.
    """
    dataset, latest = arms[0].spec.dataset, get_version(arms[0].spec.dataset).number
    now = output if latest <= arms[0].version else _gold(dataset, latest).get(row_id, output)
    with st.expander("Is the gold answer wrong?"), states.catching("The gold answer is as it was."):
        answer = st.text_area("The answer as it should be", _written(now, now), key=f"{key}_gold_{row_id}_{latest}", height=90)
        pressed = st.button("Fix: save this answer", key=f"{key}_fix", icon=":material/edit:")
        if pressed and _written(answer, now) != _written(now, now):
            decisions.fix(dataset, {row_id: _written(answer, now)})
            st.rerun()
        st.caption(FIX)
    again = _rescored(arms, arms[0])
    if again:
        chosen = {"arms": [e.evaluation_id for e in again]}
        st.button(f"Compare them by the gold of v{latest}", key=f"{key}_again", on_click=st.session_state.update, args=(chosen,))


@st.cache_data(max_entries=4, show_spinner=False)
def _gold(dataset: str, version: int) -> dict[str, str]:
    rows = read_rows(dataset, version, columns=("row_id", "output"))
    return dict(zip(rows["row_id"].to_pylist(), rows["output"].to_pylist(), strict=True))


def _rescored(peers: list[Evaluation], record: Evaluation) -> list[Evaluation]:
    """Scores before and after the fixes; offers to score the saved answers against the latest gold answers, without the model.

    Returns the evaluations after the fixes, in the order of ``peers``, once there is one of each.
    """
    latest = get_version(record.spec.dataset).number
    if latest <= record.version:
        return []
    everything = list_evaluations(record.spec.dataset)
    pairs = [(e, rescored(e, everything, latest)) for e in peers]
    missing = [before for before, after in pairs if after is None]
    if missing:
        with st.container(horizontal=True, vertical_alignment="center"):
            st.markdown(
                f":gray[Gold answers are now those of v{latest}; these scores are of v{record.version}.]", width="content"
            )
            if st.button(f"Score {formats.plural(len(missing), 'evaluation')} again with v{latest}", key="suspects_rescore"):
                for before in missing:
                    rescore(before.evaluation_id, latest)
                st.rerun()
    lines = [
        {"evaluation": before.short_name}
        | {
            f"{metric}_{when}": _with_interval(e, metric)
            for metric in AGAIN
            for when, e in (("before", before), ("after", after))
        }
        for before, after in pairs
        if after is not None
    ]
    if lines:
        st.markdown(f"**Before and after**: the same answers against the gold answers of v{record.version} and of v{latest}")
        columns = {"evaluation": tables.text("Evaluation")} | {
            f"{metric}_{when}": tables.text(f"{tidy.METRICS[metric][0]}, {words}")
            for metric in AGAIN
            for when, words in (("before", f"v{record.version}"), ("after", f"v{latest}"))
        }
        tables.show(pd.DataFrame(lines), columns, alt="Scores before and after the fixes", key="suspects_again_table")
    return [] if missing else [after for _, after in pairs if after is not None]


def _with_interval(record: Evaluation, metric: str) -> str:
    return formats.interval(tidy.value_of(record.scores, metric), *record.scores["intervals"].get(metric, (None, None)))


def _written(answer: str, like: str) -> str:
    """An answer as JSON, spaced as ``like`` is, so that a mended row is written as others are; an unreadable one stays."""
    read = parse_answer(answer)  # of a repeated element JSON's own reading keeps the last value only
    like = like if ":" in like else answer
    return dump_answer(json.loads(answer), like) if read.ok and not read.repeated else answer
