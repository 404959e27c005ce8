"""Pieces of Data: the health sentence, the issues, the rows of the chosen one. Finds no issue itself."""

from __future__ import annotations

from typing import Any, get_args

import pandas as pd
import streamlit as st

from core.data.operations.issues import RowIssue
from core.data.operations.registry import OPERATIONS
from core.data.profile import Profile, is_kept, profile
from core.data.windows import find_rows, read_window
from core.figures import data as figures
from core.jobs.queue import enqueue_profile
from core.records import Dataset, Version
from core.store.jobs import list_jobs
from pages.ui import address, charts, formats, issues, marks, recipe, rowview, shell, states, tables

WINDOW = 100
CLASSES = 20
LIVE_ROWS = 50_000
"""With more rows than this a worker makes the profile, since it takes half a minute and more."""
SPOKEN = {
    "Hans": "Chinese, simplified",
    "Hant": "Chinese, traditional",
    "Han": "Chinese, either",
    "mixed": "Chinese and Latin",
    "none": "no letters",
}
"""What the profile's names of scripts are called on the page."""


def looking(name: str, version: Version) -> bool:
    """Whether a worker must look through a large version first; draws how far it is."""
    if version.rows <= LIVE_ROWS or is_kept(name, version.number):
        return False
    subject = f"{name}@{version.number}"
    before = [job for job in list_jobs() if (job.kind, job.subject) == ("profile", subject) and job.state != "finished"]
    shell.answer(
        f"{formats.plural(version.rows, 'row')} are being looked through.",
        "This is done once for each version. What can be done with the rows meanwhile is below.",
    )
    states.working((before[-1] if before else enqueue_profile(name, version.number)).job_id)
    return True


def profiled(name: str, version: Version) -> Profile:
    """The profile of a version, worked out once with a bar that says how far it is; core keeps it on disk."""
    held = _held(name, version.number, version.content_hash, version.created_at.isoformat())
    if "profile" not in held:
        held["profile"] = profile(name, version.number, reporter=states.Bar("Looking through the rows"))
    found: Profile = held["profile"]
    return found


@st.cache_resource(show_spinner=False, max_entries=8)
def _held(name: str, number: int, content: str, made: str) -> dict[str, Any]:
    return {}


def sentence(found: Profile, frame: pd.DataFrame, version: Version) -> tuple[str, str]:
    """Whether the data is good, with its numbers."""
    rows, where = formats.plural(found.rows, "row"), formats.splits(version.split_sizes)
    detail = f"Version {version.number}: {where}."
    if version.quarantined:
        detail += f" {formats.plural(version.quarantined, 'row')} kept aside in quarantine."
    if not found.faulty:
        return f"No fault that harms training was found in {rows}.", detail
    worst = frame.iloc[0]
    share = formats.percent(found.faulty / max(1, found.rows))
    lead = f"most often: {worst['label'].lower()} ({formats.count(worst['rows'])})"
    return f"{formats.count(found.faulty)} of {rows} ({share}) have a fault that harms training; {lead}.", detail


def chart(frame: pd.DataFrame) -> str | None:
    """The issues as bars; returns the key of the one that was clicked."""
    with st.container(key="chart"):
        points = charts.show(
            figures.issue_bars(frame),
            key="issues",
            alt="Issues of this version by the number of rows, the most on top",
            table=frame[["label", "rows", "share", "meaning"]],
            columns={
                "label": tables.text("Issue"), "rows": tables.whole("Rows"), "share": tables.share("Share"),
                "meaning": tables.text("What it is", width="large"),
            },
            select=True,
        )  # fmt: skip
    return str(points[0]["customdata"][0]) if points else None


def contents(found: Profile, *, key: str) -> None:
    """What is in the data: elements, languages, lengths."""
    named = found.facts.get("element_counts") or {}
    spoken = {name: rows for name, rows in (found.facts.get("languages") or {}).items() if rows}
    classes = found.facts.get("class_counts") or {}
    left, right = st.columns([3, 2], gap="large") if named or classes else (st.empty(), st.container())
    if classes:
        with left:
            _classes(classes, found.rows, key)
    if named:
        elements = pd.DataFrame([{"element": name, **counts} for name, counts in named.items()]).sort_values(
            "rows", ascending=False
        )
        rarest = elements.iloc[-1]
        amount = formats.plural(rarest["rows"], "row")
        title = f"{rarest['element']} is rarest: {amount}" if len(elements) > 1 else f"{rarest['element']}: {amount}"
        with left:
            charts.show(
                figures.element_bars(elements.head(20), title=title),
                key=f"{key}_elements", alt="Rows that name each element", table=elements,
                columns={
                    "element": tables.text("Element"), "rows": tables.whole("Rows"), "values": tables.whole("Values"),
                    "distinct": tables.whole("Different values"),
                },
            )  # fmt: skip
            inferred = " The elements were inferred from the answers." if found.elements_inferred else ""
            st.caption(f"{formats.plural(len(found.elements), 'element')}: {', '.join(found.elements)}.{inferred}")
    with right:
        if spoken:
            languages = pd.DataFrame([(SPOKEN.get(name, name), rows) for name, rows in spoken.items()], columns=["label", "rows"])
            charts.show(
                figures.share_bars(languages, title="Languages"), key=f"{key}_languages", alt="Rows by language", table=languages
            )
        size = found.facts.get("characters") or {}
        if size:
            words = {"min": "Shortest", "p50": "Median", "p95": "95 % have at most", "max": "Longest"}
            st.html(marks.facts([(word, f"{formats.count(size[part])} characters") for part, word in words.items()]))


def _classes(counts: dict[str, int], rows: int, key: str) -> None:
    """How many rows have each class, the commonest on top; the rarest is named, as it is learnt worst."""
    classes = pd.DataFrame([{"label": label, "rows": count} for label, count in counts.items()])
    rarest, amount = classes.iloc[-1]["label"], formats.plural(int(classes.iloc[-1]["rows"]), "row")
    title = f"{rarest} is rarest: {amount}" if classes["rows"].nunique() > 1 else f"Each class has {amount}"
    most = formats.percent(int(classes.iloc[0]["rows"]) / max(1, rows))
    charts.show(
        figures.share_bars(classes.head(CLASSES), title=title), key=f"{key}_classes", alt="Rows of each class", table=classes,
        columns={"label": tables.text("Class", width="large"), "rows": tables.whole("Rows")},
    )  # fmt: skip
    shown = f", the {CLASSES} commonest of them shown" if len(classes) > CLASSES else ""
    st.caption(f"{formats.plural(len(classes), 'class', 'classes')}{shown}; the commonest has {most} of the rows.")


def rows_of_issue(dataset: Dataset, version: Version, found: Profile, frame: pd.DataFrame, clicked: str | None) -> None:
    """A picker of the issue, its rows page by page, the chosen row in the row view."""
    keys = frame["key"].tolist()
    if clicked and clicked != st.session_state.get("_issue_clicked"):
        st.session_state["issue"] = clicked
    st.session_state["_issue_clicked"] = clicked
    address.hold("issue", keys, keys[0])
    with st.container(horizontal=True, vertical_alignment="bottom"):
        key = st.selectbox("Rows of", keys, format_func=issues.label, key="issue", persist_state="session", width=300)
        address.tell("issue", key)
        text = st.text_input("That contain", key="issue_search", placeholder="text of input or answer", width=220)
        op = issues.issue(key).operation
        if (
            op in OPERATIONS
            and op != "drop_issues"
            and st.button("Put the remedy into the recipe", key="issue_remedy", icon=":material/add:")
        ):
            recipe.propose(dataset.name, op)
            st.rerun()
        if key in get_args(RowIssue) and st.button("Put these rows aside", key="issue_aside", icon=":material/add:"):
            recipe.propose(dataset.name, "drop_issues", {"issues": (key,)})
            st.rerun()
    st.caption(f"{issues.issue(key).title}: {formats.count(found.issues[key])}.")
    places = found.positions(key)
    if text:
        places = find_rows(dataset.name, version.number, text=text, within=places)
    if not len(places):
        st.caption("No row of this issue contains it.")
        return
    start, end = tables.page_of(len(places), key=f"issue_page_{key}_{text}", size=WINDOW)
    details = found.details_at(key, places[start:end])
    rows = read_window(dataset.name, version.number, places, offset=start, limit=end - start).to_pandas().assign(detail=details)
    told = rows["detail"].astype(bool).any()
    asked = "input" if rows["input"].str.strip().astype(bool).any() else "instruction"  # some data ask by the instruction
    columns = {"line": tables.whole("Line"), asked: tables.text(asked.capitalize(), width="medium" if told else "large")}
    if told:
        columns |= {"detail": tables.text("What was found", width="medium")}
    columns |= {"output": tables.text("Answer", width="medium")}
    place = tables.pick(rows, columns, alt=f"Rows: {issues.label(key)}", key=f"issue_rows_{key}_{start}_{text}", height=230)
    draw(rows.iloc[place or 0], dataset, key=f"issue_row_{key}", issue=key)


def draw(row: pd.Series, dataset: Dataset, *, key: str, issue: str = "") -> None:
    """One row of a dataset in the row view."""
    where = f"{row['source']}, line {formats.count(row['line'])}" if row["source"] else row["row_id"]
    st.caption(f"{where}" + (f", {row['split']}" if row["split"] else ""))
    rowview.show(
        row["input"], row["output"], key=f"{key}_{row['row_id']}", extraction=dataset.task == "extraction",
        instruction=row["instruction"], messages=row["messages"] if isinstance(row["messages"], str) else None,
        hits=issues.hits(issue, row["input"]),
    )  # fmt: skip
