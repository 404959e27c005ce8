"""Lengths side by side on Tokens: several templates, several tokenizers, and the groups of one version."""

from __future__ import annotations

from typing import Any

import pandas as pd
import pyarrow as pa
import streamlit as st

from core.errors import UserError
from core.figures import lengths as figures
from core.lengths import measure
from core.lengths.compare import Compared, compare
from core.lengths.groups import by_group, members
from core.lengths.measuring import is_measured
from core.lengths.places import Places
from core.lengths.sampling import AT_ONCE, SAMPLE, Looked, look, sample
from core.lengths.statistics import lengths as lengths_of
from core.models.catalogue import parse_model
from core.models.tokenizer import load_tokenizer
from core.prompts.studio import mask_view
from core.prompts.templates import list_templates
from core.records import ModelRef, Template
from pages.ui import address, charts, formats, marks, states, tables, tokenrow, tokenrows
from pages.ui.selection import Selection, known_models

MOST = 4
GROUPS = {"split": "split", "element": "element", "source": "source file", "language": "language"}


def templates(chosen: Selection, limit: int) -> None:
    """How long the same rows are under several templates, and one row as each writes it."""
    dataset, _ = chosen.data
    known = {template.ref: template for template in list_templates()}
    first = [ref for ref in dict.fromkeys([chosen.template.ref if chosen.template else "", *known]) if ref in known][:2]
    address.hold_several("tokens_templates", list(known), first, most=MOST)
    refs = st.multiselect("Templates", list(known), max_selections=MOST, key="tokens_templates", persist_state="session")
    address.tell("tokens_templates", refs)
    if not refs:
        st.caption("Choose one to four templates.")
        return
    counted = _looked(chosen, {ref: known[ref] for ref in refs})
    found = {ref: looked.figures(limit) for ref, looked in counted.items()}
    lengths = {ref: lengths_of(looked.table, "whole") for ref, looked in counted.items()}
    frame = pd.DataFrame([_line("template", ref, figures) for ref, figures in found.items()])
    columns = {"template": tables.text("Template"), **_columns(limit)}
    charts.show(
        figures.ecdf_overlay(lengths, title=_fewest(found)), key="templates_ecdf",
        alt="Share of rows up to each length, by template", table=frame, columns=columns,
        select=tokenrows.on_click("templates_ecdf"),
    )  # fmt: skip
    if (asked := tokenrows.clicked("templates_ecdf")) is not None and asked[0] in counted:
        tokenrows.between(chosen, counted[asked[0]].table, 0, int(asked[1]), f" with {asked[0]}")
    tables.show(frame, columns, alt="Templates side by side")
    _how_counted(chosen, counted, found)
    row = tokenrow.row_at(chosen, int(st.session_state.get("tokens_row", 1)))
    tokenizer = load_tokenizer(chosen.model)
    for column, ref in zip(st.columns(len(refs)), refs, strict=True):
        with column:
            view = mask_view(known[ref], row, tokenizer=tokenizer, elements=dataset.elements)
            st.markdown(f"**{ref}**" + ("" if view.dropped else f" :gray[{formats.plural(view.tokens, 'token')}]"))
            if view.dropped:
                st.caption(f"This row can't be written: {view.dropped}.")
            else:
                st.html(marks.tokens([marks.piece(piece) for piece in view.pieces], plain=True))


def tokenizers(chosen: Selection, limit: int) -> None:
    """How many tokens the same rows are for several models, and how many characters a token of each holds."""
    assert chosen.template is not None
    known = list(known_models())
    held = st.session_state.get("model") or "default"
    address.hold_several("tokens_models", None, [held], most=MOST)
    offered = dict.fromkeys([held, *known, *st.session_state["tokens_models"]])
    names = st.multiselect(
        "Models", list(offered), max_selections=MOST, key="tokens_models", persist_state="session",
        accept_new_options=True, help="Type a folder, hub:organisation/name or modelscope:organisation/name to add one.",
    )  # fmt: skip
    address.tell("tokens_models", names, [held])
    pairs = [(name, made) for name in names if (made := _compared(chosen, name, limit)) is not None]
    if not pairs:
        st.caption("Choose one to four models.")
        return
    density = {name: made.characters_per_token for name, made in pairs}
    frame = pd.DataFrame(
        [
            _line("model", name, made.figures)
            | {"vocabulary": made.vocabulary}
            | {f"cpt_{k}": v for k, v in density[name].items()}
            for name, made in pairs
        ]
    )
    columns = {"model": tables.text("Model"), "vocabulary": tables.whole("Vocabulary"), **_columns(limit)}
    help = "Characters of the inputs that one token holds on average"
    words = {"cpt_zh": "Chinese, characters a token", "cpt_en": "English, characters a token", "cpt_mixed": "Mixed"}
    columns |= {key: tables.decimal(text, help, places=2) for key, text in words.items() if key in frame}
    left, right = st.columns(2, gap="large") if len(pairs) > 1 else (None, st.container())
    if left is not None:
        with left:
            wholes = {name: _whole(chosen, name) for name, _ in pairs}
            charts.show(
                figures.ecdf_overlay(wholes, title=_fewest({name: made.figures for name, made in pairs})),
                key="tokenizers_ecdf", alt="Share of rows up to each length, by model", table=frame, columns=columns,
                select=tokenrows.on_click("tokenizers_ecdf"),
            )  # fmt: skip
        if (asked := tokenrows.clicked("tokenizers_ecdf")) is not None and asked[0] in wholes:
            tokenrows.between(chosen, _measured(chosen, asked[0]), 0, int(asked[1]), f" with {asked[0]}")
    with right:
        if any(density.values()):
            charts.show(
                figures.density_bars(density), key="tokenizers_density", alt="Characters a token holds, by language",
                table=frame, columns=columns,
            )  # fmt: skip
    tables.show(frame, columns, alt="Models' tokenizers side by side")


def groups(chosen: Selection, table: pa.Table, limit: int, where: Places | None) -> None:
    """Lengths by split, element, source file or language."""
    dataset, version = chosen.data
    offered = [by for by in GROUPS if by != "element" or where is not None]
    address.hold("tokens_by", offered, "split")
    by: Any = st.segmented_control(
        "Rows by", offered, required=True, key="tokens_by", persist_state="session", format_func=GROUPS.__getitem__,
        help="By element, a row counts for each element that its answer holds.",
    )  # fmt: skip
    address.tell("tokens_by", by, "split")
    found = {name: made for name, made in by_group(
        dataset.name, version.number, table, by, limit, where
    ).items() if made["whole"]["max"]}  # fmt: skip
    if not found:
        st.caption("No answer here names an element." if by == "element" else "There are no rows.")
        return
    frame = pd.DataFrame(
        [
            _line("group", name or "none", made) | {"rows": made["rows"], "share": made["over_max_length"] / max(1, made["rows"])}
            for name, made in found.items()
        ]
    )
    columns = {"group": tables.text(GROUPS[by].capitalize()), "rows": tables.whole("Rows"), **_columns(limit)}
    columns["share"] = tables.share(f"Share over {limit:,}")
    charts.show(
        figures.group_ranges(found, limit, title=_longest(found)),
        key="groups",
        alt=f"Lengths by {GROUPS[by]}",
        table=frame,
        columns=columns,
        select=tokenrows.on_click("groups"),
    )
    if (asked := tokenrows.clicked("groups")) is not None and asked[0] in found:
        of = members(dataset.name, version.number, table, by, where)[asked[0]]
        tokenrows.between(chosen, table.take(pa.array(of)), 0, int(asked[1]), f" in {asked[0] or 'none'}")
    tables.show(frame, columns, alt=f"Lengths by {GROUPS[by]}")


def _longest(found: dict[str, dict[str, Any]]) -> str:
    """Which group's rows are clearly longer than those of the others, as a title."""
    if len(found) < 2:
        return ""
    first, second = sorted(found, key=lambda name: -found[name]["whole"]["p95"])[:2]
    clear = found[first]["whole"]["p95"] > 1.1 * found[second]["whole"]["p95"]
    return f"Rows of {first or 'none'} are the longest" if clear else "No group's rows are clearly longer than the others'"


def _line(kind: str, name: str, found: dict[str, Any]) -> dict[str, Any]:
    return {kind: name} | found["whole"] | {"over": found["over_max_length"]}


def _columns(limit: int) -> dict[str, Any]:
    return {
        "p50": tables.whole("Median"), "p95": tables.whole("95 %"), "max": tables.whole("Longest"),
        "total": tables.whole("All together"), "over": tables.whole(f"Over {limit:,}"),
    }  # fmt: skip


def _fewest(found: dict[str, dict[str, Any]]) -> str:
    if len(found) < 2:
        return ""
    totals = {name: made["whole"]["total"] for name, made in found.items()}
    least, most = min(totals, key=totals.__getitem__), max(totals, key=totals.__getitem__)
    if not totals[least] or totals[least] == totals[most]:
        return "All need the same tokens"
    return f"{least} needs {formats.percent(1 - totals[least] / totals[most])} fewer tokens than {most}"


def _compared(chosen: Selection, name: str, limit: int) -> Compared | None:
    dataset, version, template = chosen.whole
    of = (dataset.name, version.number, [template])
    try:
        return compare(*of, [parse_model(name)], limit, states.Bar(f"Counting tokens for {name}"))[0]
    except UserError as fault:
        states.error(fault, kept="The others are shown.")
        return None


def _whole(chosen: Selection, name: str) -> Any:
    return lengths_of(_measured(chosen, name), "whole")


def _measured(chosen: Selection, name: str) -> pa.Table:
    dataset, version, template = chosen.whole
    return measure(dataset.name, version.number, template, parse_model(name))


def _looked(chosen: Selection, templates: dict[str, Template]) -> dict[str, Looked]:
    """Lengths under each template, of every row or of a sample; every row once that was asked for."""
    dataset, version = chosen.data
    of, rows = (dataset.name, version.number), version.rows
    every = rows <= AT_ONCE or st.session_state.get("tokens_every") == (chosen.label, sorted(templates))
    found = {}
    for ref, template in templates.items():
        if every or is_measured(*of, template, chosen.model):
            bar = states.Bar(f"Counting tokens with {ref}")
            found[ref] = look(*of, template, chosen.model, every=True, reporter=bar)
        else:
            found[ref] = _sample(*of, version.content_hash, template, chosen.model)
    return found


@st.cache_data(show_spinner="Counting tokens of a sample", max_entries=16)
def _sample(name: str, version: int, content: str, template: Template, model: ModelRef) -> Looked:
    return sample(name, version, template, model)


def _how_counted(chosen: Selection, counted: dict[str, Looked], found: dict[str, Any]) -> None:
    """How sure the totals are where not every row was counted, and the button that counts them all."""
    _, version = chosen.data
    sampled = [ref for ref, looked in counted.items() if not looked.whole]
    if not sampled:
        return
    off = max(found[ref]["total_error"] / max(1, found[ref]["whole"]["total"]) for ref in sampled)
    st.caption(
        f"{', '.join(sampled)}: counted on {formats.plural(SAMPLE, 'row')} drawn at random out of "
        f"{formats.count(version.rows)}; totals are sure to ± {formats.percent(off)} (95 %)."
    )
    if st.button(f"Count every row with {', '.join(sampled)}", key="tokens_every_now"):
        st.session_state["tokens_every"] = (chosen.label, sorted(counted))
        st.rerun()
