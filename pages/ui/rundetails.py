"""What stands below a run's curve: answers as they changed, the machine, rows, the spec and its command, exports, the log.

Reads the store; knows nothing of how a run is trained.
"""

from __future__ import annotations

import os
import re
import shlex

import pandas as pd
import streamlit as st
import yaml

from core.data.answers import parse_answer
from core.errors import UserError
from core.figures import training as figures
from core.jobs.queue import enqueue_export
from core.records import ENDED_STATES, Job, Quantisation, Run
from core.store.datasets import get_dataset
from core.store.jobs import list_jobs, log_path, log_tail
from core.store.runs import run_folder
from core.training.export import export_folder, read_export
from core.training.merge_parity import (
    MOST_ROWS,
    OFFERED_ROWS,
    PARITY_HEADINGS,
    base_format,
    comparable_rows,
    parity_lines,
    parity_words,
    seconds_to_compare,
)
from core.training.samples import read_samples
from core.training.spec import dump_spec
from pages.ui import charts, formats, marks, states, tables

LINES = (
    ("learning_rate", "learning rate"),
    ("grad_norm", "gradient norm"),
    ("tokens_per_second", "tokens per second"),
    ("memory_gb", "memory, GB"),
    ("gpu_percent", "GPU use, %"),
    ("cpu_percent", "CPU use, %"),
)
CHOICES = (" numbers are learnt", " attention: ", " at the peak")
"""Parts of the log's lines that say what was chosen."""
ATTENTION = {
    "eager": "Attention is calculated in plain steps, which is quickest for short rows on a processor; the memory it takes grows "
    "with the square of the longest row.",
    "sdpa": "Attention is calculated in one fused step: quick, and the memory it takes grows only as rows get longer.",
    "tunewise_varlen": "Attention is calculated in one fused step over many rows, each row by itself: the quickest way on a GPU, "
    "and the one that takes least memory.",
}
PLACED = {
    "padded": "Rows that go through the model together are filled up to the longest of them, which costs some time and memory.",
    "end to end": "Rows lie end to end, so nothing goes into filling them up.",
}
"""What the log's line on attention means for who waits for the training."""
WEIGHTS = {"adapter": "Adapter on its base", "merged": "Merged, bf16", "merged_nf4": "Merged, loaded in 4 bits"}


def show(run: Run, job: Job, steps: pd.DataFrame) -> None:
    """The tabs."""
    names = ["Answers on dev", "Speed and machine", "Rows", "Spec and command", "Take it away", "Log"]
    answers, machine, rows, spec, away, log = st.tabs(names, key="run_details")
    with answers:
        _answers(run)
    with machine:
        for line, term in map(in_words, _chosen(job)):
            st.caption(states.plain(line), help=term)
        _lines(steps)
    with rows:
        _rows(run)
    with spec:
        st.caption("This trains the run again, with the spec below:")
        st.code(command(run), language="bash", wrap_lines=True)
        st.code(dump_spec(run.spec), language="yaml")
    with away:
        _exports(run, job)
    with log:
        st.code(log_tail(job.job_id, 60) or "The log is empty.", language=None)


def command(run: Run) -> str:
    """The command line that trains a run again."""
    folder = os.environ.get("TUNEWISE_WORKSPACE")
    place = f"TUNEWISE_WORKSPACE={shlex.quote(folder)} " if folder else ""
    path = run_folder(run.run_id) / "spec.yaml"
    shown = os.path.relpath(path) if path.is_relative_to(os.getcwd()) else str(path)
    return f"{place}python -m core train {shlex.quote(shown)} --wait"


def _answers(run: Run) -> None:
    """One dev row's answers, look by look."""
    samples = read_samples(run.run_id)
    if not samples:
        st.caption("With dev rows, some of its answers stand here after each look, so that they can be seen to get better.")
        return
    by_row: dict[str, list[dict[str, str]]] = {}
    for sample in samples:
        by_row.setdefault(str(sample["row_id"]), []).append(sample)
    chosen = st.selectbox(
        "Row", list(by_row), format_func=lambda row: _short(by_row[row][0]["input"] or row), key="sample_row", width=620
    )
    looks = by_row[chosen]
    text, gold = str(looks[0]["input"] or ""), str(looks[0]["output"] or "")
    extraction = get_dataset((run.spec.dev or run.spec.data[0]).dataset).task == "extraction"
    if extraction:
        found, _ = marks.ground(parse_answer(gold), text, "gold")
        st.html(marks.marked(text, found))
    else:
        st.html(marks.marked(text, []))
    st.caption("The gold answer")
    st.code(gold or "(empty)", language=None, wrap_lines=True)
    frame = pd.DataFrame(
        [
            {"step": look["step"], "right": _right(gold, look["prediction"], extraction), "answer": look["prediction"]}
            for look in looks
        ]
    )
    columns = {
        "step": tables.whole("After step"),
        "right": tables.text("Right", "Values of the gold answer that are in it, or whether it is the same"),
        "answer": tables.text("Its answer", width="large"),
    }
    tables.show(frame, columns, alt="Answers to one dev row after each look", key="samples")


def _right(gold: str, answer: str, extraction: bool) -> str:
    if not extraction:
        return "yes" if gold.strip() == answer.strip() else "no"
    wanted, told = parse_answer(gold), parse_answer(answer)
    if not told.ok:
        return "no JSON"
    left, right = list(told.pairs), 0
    for pair in wanted.pairs:
        if pair in left:
            left.remove(pair)
            right += 1
    extra = f", {len(left)} wrong" if left else ""
    return f"{right} of {len(wanted.pairs)}{extra}"


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= 80 else f"{line[:79]}…"


def _chosen(job: Job) -> list[str]:
    """What the training chose for the machine, as its log says it: number formats, attention, passes, memory."""
    path = log_path(job.job_id)
    if not path.is_file():
        return []
    with path.open("rb") as handle:
        begin = handle.read(20_000).decode("utf-8", "replace").splitlines()
    told = [line.partition(" ")[2] for line in begin if any(mark in line for mark in CHOICES)]
    return [line[0].upper() + line[1:] for line in dict.fromkeys(told)]


def in_words(line: str) -> tuple[str, str | None]:
    """A line of what was chosen in plain words, and the term of art if that is another."""
    found = re.fullmatch(r"Attention: (\w+), rows ([a-z ]+)", line)
    if found is None or found[1] not in ATTENTION or found[2] not in PLACED:
        return line, None
    return f"{ATTENTION[found[1]]} {PLACED[found[2]]}", f"{line} (`attn_implementation` of transformers, `packing` of a spec)"


def _lines(steps: pd.DataFrame) -> None:
    there = [(column, label) for column, label in LINES if column in steps and steps[column].notna().any()]
    if not there:
        st.caption("Learning rate, gradient norm, tokens per second, memory and use of the machine, from the first step on.")
        return
    for start in range(0, len(there), 3):
        for cell, (column, label) in zip(st.columns(3), there[start : start + 3], strict=False):
            with cell:
                charts.show(figures.measure(steps, column, y=label), key=f"line_{column}", alt=f"{label} over steps")


def _rows(run: Run) -> None:
    if not run.trained_rows:
        st.markdown("Counted when the training starts.")
        return
    trained, dropped = formats.plural(run.trained_rows, "row"), formats.plural(run.dropped_rows, "row")
    st.markdown(f"{trained} trained on; {dropped} left out.")
    shortened = int(run.summary.get("shortened_rows", 0))
    if shortened:
        st.markdown(f"{formats.plural(shortened, 'row')} with a shortened input.")
    path = run_folder(run.run_id) / "dropped.jsonl"
    if run.dropped_rows and path.is_file():
        frame = pd.read_json(path, lines=True, dtype={"row_id": str}).head(500)
        columns = {"row_id": tables.text("Row"), "tokens": tables.whole("Tokens"), "reason": tables.text("Why", width="large")}
        tables.show(frame, columns, alt="Rows left out of the training", height=300)


def _exports(run: Run, job: Job) -> None:
    """Write the result to a folder that other programs load; merged weights with how they answer beside the adapter."""
    if not run.complete:
        st.caption("When the run is finished, it can be written to a folder that transformers and vLLM load.")
        return
    full = run.spec.method == "full"
    ways = (True,) if full else (False, True)
    words = {False: "The adapter, with the run's chat template", True: "Whole weights" if full else "Merged into whole weights"}
    busy = [j for j in list_jobs() if (j.kind, j.subject) == ("export", run.run_id)]
    for merge in ways:
        st.markdown(f"**{words[merge]}**")
        done = read_export(run, merge=merge)
        mine = [j for j in busy if bool(j.payload.get("merge")) == merge]
        if done is not None:
            st.code(str(export_folder(run, merge=merge)), language=None)
            st.caption(f"Chat template: {done['chat_template']}. Its README says how to serve it.")
            if "warning" in done:
                st.warning(states.plain(done["warning"]))
            if "parity" in done:
                _parity(done["parity"], base_format(run.spec))
        elif mine and mine[-1].state not in ENDED_STATES:
            states.working(mine[-1].job_id)
        else:
            if mine and mine[-1].state == "failed":
                states.error(UserError(mine[-1].error, mine[-1].hint))
            rows = _compared_rows(run) if merge and not full else 0
            label = "Merge" if merge and not full else "Write the folder"
            if rows:
                label = f"Merge and compare on {formats.plural(rows, 'row')}"
                if seconds := seconds_to_compare(run, rows):
                    st.caption(f"Answering takes about {formats.duration(seconds)}; merging and loading come on top.")
            st.button(label, key=f"export_{merge}", icon=":material/drive_file_move:", on_click=_write, args=(run, merge, rows))


def _compared_rows(run: Run) -> int:
    """On how many rows merged weights and adapter are to be compared; none where the dataset is gone."""
    try:
        there = comparable_rows(run)
    except UserError:
        there = 0
    most = min(MOST_ROWS, there)
    if not most:
        st.caption("There are no rows left to compare the merged weights on.")
        return 0
    chosen = st.number_input(
        "Rows to compare on", 0, most, min(OFFERED_ROWS, most), key="export_rows", width=220,
        help="Adapter, merged weights and merged weights in 4 bits each answer every one of these rows, so a row costs three "
        "answers. Four times as many rows halve the interval of the difference. 0: merge without comparing.",
    )  # fmt: skip
    return int(chosen)


def _write(run: Run, merge: bool, check: int) -> None:
    enqueue_export(run, merge=merge, check=check)


def _parity(found: dict[str, dict[str, float]], trained_on: Quantisation) -> None:
    for line in parity_words(found, trained_on):
        st.markdown(states.plain(line))
    keys = ["weights", "f1", "f1_difference", "exact", "loss", "loss_difference", "same"]
    frame = pd.DataFrame([dict(zip(keys, line, strict=True)) for line in parity_lines(found)])
    frame["weights"] = frame["weights"].map(WEIGHTS)
    headings = dict(zip(keys, ("Weights", *PARITY_HEADINGS), strict=True))
    columns = {key: tables.text(heading[0].upper() + heading[1:]) for key, heading in headings.items()}
    tables.show(frame, columns, alt="How adapter and merged weights answer the same rows")


def difference(one: Run, other: Run) -> pd.DataFrame:
    """What differs between two specs: one line a key."""

    def flat(value: object, prefix: str = "") -> dict[str, str]:
        if isinstance(value, dict):
            return {k: v for key, inner in value.items() for k, v in flat(inner, f"{prefix}{key}.").items()}
        return {
            prefix.rstrip("."): yaml.safe_dump(value, default_flow_style=True, allow_unicode=True).strip().removesuffix("\n...")
        }

    left, right = flat(one.spec.model_dump(mode="json")), flat(other.spec.model_dump(mode="json"))
    keys = [key for key in dict.fromkeys([*left, *right]) if left.get(key) != right.get(key) and key != "name"]
    return pd.DataFrame({"key": keys, one.name: [left.get(k, "") for k in keys], other.name: [right.get(k, "") for k in keys]})
