"""A training run as it goes and after it: figures from the store, so that every tab shows the same.

Knows nothing of how a run is trained; it reads the job, its measured values and its log.
"""

from __future__ import annotations

import pandas as pd
import streamlit as st
import yaml

from core.figures import training as figures
from core.jobs.queue import dispatch, position, stop
from core.records import ENDED_STATES, Job, Run
from core.store.jobs import get_job, log_tail, read_metrics
from core.training.spec import dump_spec
from pages.ui import charts, formats, shell, states, tables

METHODS = {"full": "Full fine-tuning", "lora": "LoRA", "qlora": "QLoRA"}
COLUMNS = {
    "step": tables.whole("Step"),
    "loss": tables.decimal("Loss", "Mean negative log-likelihood of the trained tokens, in nats", 4),
    "dev_loss": tables.decimal("Dev loss", "The same on the dev rows, without training on them", 4),
    "dev_micro_f1": tables.decimal("Dev micro-F1", "Of answers generated for dev rows; strict (element, value) pairs"),
    "learning_rate": st.column_config.NumberColumn("Learning rate", format="%.2e"),
    "grad_norm": tables.decimal("Gradient norm", "Before clipping", 3),
    "tokens_per_second": tables.whole("Tokens/s", "Real tokens, padding left out"),
}


def measured(job_id: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    """What was measured at each step, and at each look at dev (``eval_loss``, ``micro_f1``)."""
    steps = pd.DataFrame(read_metrics(job_id))
    looks = {"dev_loss": "eval_loss", "dev_micro_f1": "micro_f1"}
    there = [name for name in looks if name in steps]
    dev = steps[["step", *there]].dropna(subset=there, how="all").rename(columns=looks) if there else pd.DataFrame()
    return steps, dev


def sentence(run: Run, job: Job, steps: pd.DataFrame, dev: pd.DataFrame) -> tuple[str, str]:
    """The page's answer on a run, and a quieter second line."""
    loss = figures.smoothed(steps["loss"].dropna()) if "loss" in steps else pd.Series(dtype=float)
    fell = f"loss {loss.iloc[0]:.2f} → {loss.iloc[-1]:.2f}" if len(loss) > 1 else "no loss measured yet"
    best = ""
    if "micro_f1" in dev and dev["micro_f1"].notna().any():
        best = f", best dev micro-F1 {formats.score(dev['micro_f1'].max())}"
    how = (
        f"{METHODS[run.spec.method]} of {run.spec.model.label} on {', '.join(f'{n} v{v}' for n, v in run.data_versions.items())}"
    )
    at = job.progress
    if job.state == "queued":
        return f"{run.name} waits for its turn: number {position(job.job_id) or 1} in the queue", how
    if job.state in ("starting", "running", "stopping"):
        left = f", about {formats.duration(at.eta_seconds)} left" if at.eta_seconds else ""
        if not at.total:
            return f"{run.name} is starting", how
        return f"{run.name} is at step {formats.count(at.done)} of {formats.count(at.total)}, {fell}{left}", how
    if job.state == "finished":
        return f"{run.name} is trained: {fell} in {formats.plural(len(loss), 'step')}{best}", how
    words = {"stopped": "was stopped", "failed": "failed", "lost": "was lost: its process is gone"}[job.state]
    return f"{run.name} {words} at step {formats.count(at.done)} of {formats.count(at.total)}, {fell}", how


def show(run: Run) -> None:
    """The run, live while its job is at work."""
    if get_job(run.job_id).state in ENDED_STATES:
        _draw(run, live=False)
        return

    @st.fragment(run_every=2)
    def live() -> None:
        dispatch()
        if get_job(run.job_id).state in ENDED_STATES:
            st.rerun()
        _draw(run, live=True)

    live()


def _draw(run: Run, *, live: bool) -> None:
    job = get_job(run.job_id)
    steps, dev = measured(job.job_id)
    shell.answer(*sentence(run, job, steps, dev))
    if live:
        _controls(job)
    if "loss" in steps:
        _cards(run, job, steps)
    with st.container(key="chart"):
        if "loss" in steps:
            present = {name: column for name, column in COLUMNS.items() if name in steps}
            alt = "Training loss over steps, raw and smoothed, with dev loss and dev micro-F1 where measured"
            figure = figures.curves(steps, dev if len(dev) else None, total=job.progress.total if live else None)
            charts.show(figure, key="loss", alt=alt, table=steps, columns=present, name=f"{run.run_id}-steps")
        else:
            st.caption("The curve starts with the first step.")
    if not live:
        states.ended(job)
    _details(run, job, steps)


def _controls(job: Job) -> None:
    with st.container(horizontal=True, vertical_alignment="center"):
        states.badge(job.state)
        st.markdown(f":gray[{states.progress_line(job)}]", width="stretch")
        if job.state != "stopping" and st.button("Stop and keep a checkpoint", key="stop_run", icon=":material/stop_circle:"):
            stop(job.job_id)
            st.rerun(scope="fragment")
    share = job.progress.done / job.progress.total if job.progress.total else 0.0
    st.progress(min(1.0, share))


def _cards(run: Run, job: Job, steps: pd.DataFrame) -> None:
    last = steps.iloc[-1]
    speed = steps["tokens_per_second"].dropna() if "tokens_per_second" in steps else pd.Series(dtype=float)
    memory = steps["memory_gb"].dropna() if "memory_gb" in steps else pd.Series(dtype=float)
    spent = (
        run.seconds or ((job.ended_at or job.heartbeat or job.created_at) - (job.started_at or job.created_at)).total_seconds()
    )
    total = f" of {formats.count(job.progress.total)}" if job.progress.total else ""
    cells = st.columns(4)
    cells[0].metric("Step", f"{formats.count(last['step'])}{total}")
    cells[1].metric("Tokens per second", formats.count(speed.tail(20).median()) if len(speed) else formats.DASH)
    if job.state in ENDED_STATES:
        cells[2].metric("Time spent", formats.duration(spent))
    else:
        cells[2].metric("Time left", formats.duration(job.progress.eta_seconds))
    cells[3].metric("Peak memory", formats.size(memory.max() * 1e9) if len(memory) else formats.DASH)


def _details(run: Run, job: Job, steps: pd.DataFrame) -> None:
    optimiser, samples, spec, log = st.tabs(["Optimiser", "Rows", "Spec and command", "Log"], key="run_details")
    with optimiser:
        cells = st.columns(3)
        for cell, (column, label) in zip(
            cells,
            (("learning_rate", "learning rate"), ("grad_norm", "gradient norm"), ("tokens_per_second", "tokens per second")),
            strict=True,
        ):
            if column in steps:
                with cell:
                    charts.show(figures.measure(steps, column, y=label), key=f"line_{column}", alt=f"{label} over steps")
    with samples:
        trained, dropped = formats.plural(run.trained_rows, "row"), formats.plural(run.dropped_rows, "row")
        st.markdown(
            f"{trained} trained on; {dropped} left out, longer than {run.spec.max_length:,} tokens."
            if run.trained_rows
            else "Counted when the training starts."
        )
    with spec:
        st.caption("The spec, which trains this run again")
        st.code(dump_spec(run.spec), language="yaml")
        st.code(f"python -m core train workspace/runs/{run.run_id}/spec.yaml --wait", language="bash", wrap_lines=True)
    with log:
        st.code(log_tail(job.job_id, 60) or "The log is empty.", language=None)


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
