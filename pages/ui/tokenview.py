"""Pieces of Tokens: counting, what is lost at a length, one row's tokens, templates side by side. Counts nothing itself."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import streamlit as st

from core.figures import budget
from core.figures import lengths as figures
from core.lengths import measure, measure_rows, summary
from core.lengths.statistics import longest
from core.models.tokenizer import load_tokenizer
from core.prompts.examples import Dropped, build_example
from core.prompts.templates import list_templates
from core.records import ModelRef, Template
from core.store.datasets import read_rows, read_rows_at
from pages.ui import charts, formats, marks, shell, states, tables
from pages.ui.registry import TRAIN
from pages.ui.selection import Selection

SAMPLE = 1_000
MOST_TEMPLATES = 4


def measured(chosen: Selection) -> pa.Table:
    """The lengths of the selection, counted once and kept on disk."""
    assert chosen.dataset is not None
    assert chosen.version is not None
    assert chosen.template is not None
    return measure(
        chosen.dataset.name, chosen.version.number, chosen.template, chosen.model, reporter=states.Bar("Counting tokens")
    )


def slider(options: list[int], default: int) -> int:
    """The maximum length, in the address."""
    if st.session_state.get("max_length") not in (None, *options):
        del st.session_state["max_length"]
    value = default if default in options else options[-1]
    return st.select_slider(
        "Maximum length in tokens", options, value=value, key="max_length", bind="query-params", format_func=lambda n: f"{n:,}",
        help="Rows that are longer are left out of training, or their input is shortened. Answers are never cut.",
    )  # fmt: skip


def sentence(chosen: Selection, whole: npt.NDArray[np.int64], limit: int, over: int) -> tuple[str, str]:
    """Whether it fits, with the numbers behind it."""
    rows = len(whole)
    p50, p95 = np.percentile(whole, [50, 95], method="inverted_cdf")
    detail = (
        f"Half of the rows have at most {formats.count(p50)} tokens, 95 % at most {formats.count(p95)}, "
        f"the longest {formats.count(whole.max())}."
    )
    if not over:
        return f"All {formats.plural(rows, 'row')} fit in {formats.count(limit)} tokens.", detail
    fits = formats.percent(1 - over / rows)
    return (
        f"{fits} of {formats.plural(rows, 'row')} fit in {formats.count(limit)} tokens; {formats.count(over)} would be left out.",
        detail,
    )


def percentiles(table: pa.Table, limit: int) -> pd.DataFrame:
    """Percentiles of prompt, answer and whole."""
    found = summary(table, limit)
    names = {"prompt": "Prompt", "answer": "Answer", "whole": "Whole row"}
    return pd.DataFrame([{"part": words} | found[part] for part, words in names.items()])


def lost(chosen: Selection, table: pa.Table, limit: int) -> None:
    """What is lost at this length: rows by split, values by element, and what cutting would do."""
    assert chosen.dataset is not None
    over = table.filter(pc.greater(table["whole"], limit))
    st.subheader(f"Left out at {formats.count(limit)} tokens", anchor=False)
    if not over.num_rows:
        st.html(marks.facts([("Rows", "none"), ("Values", "none")]))
        st.caption("Every row fits, so nothing is lost.")
        return
    splits = pc.value_counts(over["split"]).to_pylist()
    entries = [("Rows", f"{formats.count(over.num_rows)} of {formats.count(table.num_rows)}")]
    entries += [(f"  in {part['values'] or 'no split'}", formats.count(part["counts"])) for part in splits]
    entries.append(
        ("Tokens", formats.percent(pc.sum(over["whole"]).as_py() / max(1, pc.sum(table["whole"]).as_py())) + " of all")
    )
    if chosen.dataset.task == "extraction":
        values = _values_lost(chosen.dataset.name, chosen.version.number, tuple(over["row_id"].to_pylist()))  # type: ignore[union-attr]
        entries += [(f"Values of {name}", formats.count(amount)) for name, amount in values.most_common(5)]
    st.html(marks.facts(entries))
    st.caption(
        f"Trainers that cut at a length would cut {formats.plural(over.num_rows, 'answer')} here"
        + (" and leave broken JSON to learn from." if chosen.dataset.task == "extraction" else ".")
        + " Tunewise leaves such a row out, or shortens its input only."
    )


def hand_to_training(limit: int) -> None:
    """Take the maximum length along to Train."""
    st.session_state["train_length"] = limit
    shell.go(TRAIN)


def one_row(chosen: Selection, limit: int) -> None:
    """The tokens of one row, coloured by whether they are learnt."""
    assert chosen.dataset is not None
    assert chosen.version is not None
    assert chosen.template is not None
    number = st.number_input("Row", 1, max(1, chosen.version.rows), 1, key="tokens_row", width=160)
    row = _row(chosen.dataset.name, chosen.version.number, int(number))
    tokenizer = load_tokenizer(chosen.model)
    made = build_example(chosen.template, row, tokenizer=tokenizer, elements=chosen.dataset.elements, max_length=None)
    if isinstance(made, Dropped):
        st.caption(f"This row can't be trained on: {made.reason}.")
        return
    pieces = marks.pieces(made.input_ids, made.labels, lambda ids: tokenizer.decode(ids, skip_special_tokens=False))
    learnt = sum(label >= 0 for label in made.labels)
    size = len(made.input_ids)
    fits = "fits" if size <= limit else f"is {formats.count(size - limit)} tokens too long"
    st.markdown(
        f"{formats.plural(size, 'token')}, of which {formats.count(learnt)} are learnt; at {formats.count(limit)} the row {fits}."
    )
    st.html(marks.tokens(pieces))
    st.html(
        '<div class="tw-text tw-key"><span><mark class="learnt">learnt</mark> the loss is taken on these</span>'
        '<span><mark class="given">given</mark> the prompt, masked out of the loss</span></div>'
    )


def templates(chosen: Selection, limit: int) -> None:
    """How long the same rows are under several templates, and one row as each writes it."""
    assert chosen.dataset is not None
    assert chosen.version is not None
    known = {template.ref: template for template in list_templates()}
    first = [ref for ref in dict.fromkeys([chosen.template.ref if chosen.template else "", *known]) if ref in known][:2]
    refs = st.multiselect("Templates", list(known), default=first, max_selections=MOST_TEMPLATES, key="tokens_templates")
    if not refs:
        st.caption("Choose one to four templates.")
        return
    counted = {ref: _sampled(chosen.dataset.name, chosen.version.number, known[ref], chosen.model) for ref in refs}
    lengths = {ref: table["whole"].drop_null().to_pylist() for ref, table in counted.items()}
    rows = max(len(found) for found in lengths.values())
    frame = pd.DataFrame(
        [
            {"template": ref} | summary(table, limit)["whole"] | {"over": summary(table, limit)["over_max_length"]}
            for ref, table in counted.items()
        ]
    )
    charts.show(
        figures.ecdf_overlay(lengths), key="templates_ecdf", alt="Share of rows up to each length, by template", table=frame,
        columns={
            "template": tables.text("Template"), "p50": tables.whole("Median"), "p95": tables.whole("95 %"),
            "max": tables.whole("Longest"), "total": tables.whole("All together"), "over": tables.whole(f"Over {limit:,}"),
        },
    )  # fmt: skip
    if rows < chosen.version.rows:
        st.caption(f"Counted on the first {formats.plural(rows, 'row')}.")
    row = _row(chosen.dataset.name, chosen.version.number, int(st.session_state.get("tokens_row", 1)))
    tokenizer = load_tokenizer(chosen.model)
    for column, ref in zip(st.columns(len(refs)), refs, strict=True):
        with column:
            made = build_example(known[ref], row, tokenizer=tokenizer, elements=chosen.dataset.elements)
            st.markdown(
                f"**{ref}**" + ("" if isinstance(made, Dropped) else f" :gray[{formats.plural(len(made.input_ids), 'token')}]")
            )
            if isinstance(made, Dropped):
                st.caption(f"This row can't be written: {made.reason}.")
            else:
                st.html(marks.tokens(marks.pieces(made.input_ids, made.labels, tokenizer.decode), plain=True))


def batches(whole: npt.NDArray[np.int64], limit: int) -> None:
    """What an epoch computes on: padded batches against packed sequences."""
    fitting = whole[whole <= limit]
    if not len(fitting):
        st.caption("No row fits this length.")
        return
    parts = {
        "Batches of 8, shuffled": budget.padded(fitting, 8),
        "Batches of 8, by length": budget.padded(fitting, 8, sort=True),
        f"Packed into {limit:,}": budget.packed(fitting, limit),
    }
    useless = {name: padding / max(1, tokens + padding) for name, (tokens, padding) in parts.items()}
    first, _, last = useless.values()
    frame = pd.DataFrame([{"way": name, "tokens": t, "padding": p, "share": useless[name]} for name, (t, p) in parts.items()])
    title = f"Padding is {formats.percent(first)} of shuffled batches, {formats.percent(last)} when packed"
    charts.show(
        figures.budget_bars(parts, title=title),
        key="budget", alt="Tokens of an epoch, useful and padding, by way of batching", table=frame,
        columns={
            "way": tables.text("Way"), "tokens": tables.whole("Tokens of rows"), "padding": tables.whole("Padding"),
            "share": tables.share("Padding share"),
        },
    )  # fmt: skip


def longest_rows(chosen: Selection, table: pa.Table) -> None:
    """The longest rows, with their texts."""
    assert chosen.dataset is not None
    assert chosen.version is not None
    top = longest(table.filter(pc.is_valid(table["whole"])), 20).to_pandas()
    rows = read_rows(chosen.dataset.name, chosen.version.number, columns=["row_id", "input", "source", "line"])
    texts = (
        rows.filter(pc.is_in(rows["row_id"], pa.array(top["row_id"].tolist(), pa.large_string()))).to_pandas().set_index("row_id")
    )
    frame = top.join(texts, on="row_id")
    columns = {
        "whole": tables.whole("Tokens"),
        "prompt": tables.whole("Prompt"),
        "answer": tables.whole("Answer"),
        "split": tables.text("Split"),
    }
    tables.show(
        frame, columns | {"input": tables.text("Input", width="large"), "line": tables.whole("Line")}, alt="The longest rows"
    )


def faults(table: pa.Table) -> None:
    """Rows that could not be written with this template, and why."""
    wrong = table.filter(pc.is_valid(table["fault"])).select(["row_id", "split", "fault"]).slice(0, 500).to_pandas()
    tables.show(
        wrong,
        {"row_id": tables.text("Row"), "split": tables.text("Split"), "fault": tables.text("Fault", width="large")},
        alt="Faults",
    )


def _row(name: str, version: int, number: int) -> dict[str, Any]:
    found: list[dict[str, Any]] = read_rows_at(name, version, [number - 1]).to_pylist()
    return found[0]


@st.cache_data(show_spinner=False, max_entries=32)
def _values_lost(name: str, version: int, row_ids: tuple[str, ...]) -> Any:
    rows = read_rows(name, version, columns=["row_id", "output"])
    return budget.values_lost(rows.filter(pc.is_in(rows["row_id"], pa.array(row_ids, pa.large_string())))["output"].to_pylist())


@st.cache_data(show_spinner="Counting tokens", max_entries=16)
def _sampled(name: str, version: int, template: Template, model: ModelRef) -> pa.Table:
    from core.store.datasets import get_dataset

    return measure_rows(
        read_rows(name, version, limit=SAMPLE), template, load_tokenizer(model), elements=get_dataset(name).elements
    )
