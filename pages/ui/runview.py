"""A training run as it goes and after it: figures from the store, so that every tab shows the same.

Knows nothing of how a run is trained; it reads the job and its measured values. What stands in tabs below is ``rundetails``.
"""

from __future__ import annotations

import pandas as pd
import streamlit as st

from core.figures import training as figures
from core.jobs.claims import SERVER
from core.jobs.queue import dispatch, position, stop, waits_for
from core.records import ENDED_STATES, Job, Run
from core.store.jobs import get_job, read_metrics
from core.store.runs import run_folder
from core.training.checkpoints import last_checkpoint, step_of
from core.training.spec import METHOD_NAMES, said_data
from pages.ui import charts, comparison, formats, rundetails, shell, speakers, states, tables, trainform
from pages.ui.registry import CHAT, COMPARE

CARD = 164
"""Width of a card, in pixels."""
SHORT = 14
"""Characters of a number that fit into that."""
LONG = 3000
"""Steps above which a table beside the chart holds some of them only."""
LOOKING = "looking at dev"
"""How a run's progress begins while dev rows are answered."""
COLUMNS = {
    "step": tables.whole("Step"),
    "loss": tables.decimal("Loss", "Mean negative log-likelihood of the trained tokens, in nats", 4),
    "dev_loss": tables.decimal("Dev loss", "The same on the dev rows, without training on them", 4),
    "dev_micro_f1": tables.decimal("Dev micro-F1", "Of answers generated for dev rows; strict (element, value) pairs"),
    "dev_exact_match": tables.decimal("Dev exact", "Share of dev rows answered exactly right"),
    "learning_rate": st.column_config.NumberColumn("Learning rate", format="%.2e"),
    "grad_norm": tables.decimal("Gradient norm", "Before clipping", 3),
    "tokens_per_second": tables.whole("Tokens/s", "Real tokens, padding left out"),
    "memory_gb": tables.decimal("Memory, GB", "The most so far on a GPU; of the process on a CPU", 2),
    "gpu_percent": tables.whole("GPU, %", "Share of the time in which the GPU worked"),
    "cpu_percent": tables.whole("CPU, %", "Of all cores of this machine"),
}


@st.cache_data(max_entries=16, show_spinner=False)
def _ended_steps(job_id: str, ended: str) -> pd.DataFrame:
    """The steps of a job that ended at ``ended``: taken up again, it ends anew. (A name with ``_`` would be no key.)"""
    return pd.DataFrame(read_metrics(job_id))


def measured(job: Job) -> tuple[pd.DataFrame, pd.DataFrame]:
    """What was measured at each step, and at each look at dev (``eval_loss``, ``micro_f1``).

    Of a run at work only what is new is read, and the last step again, to which a look at dev may have been added.
    """
    if job.state in ENDED_STATES:
        steps = _ended_steps(job.job_id, str(job.ended_at))
    else:
        held: pd.DataFrame = st.session_state.get(f"steps_{job.job_id}", pd.DataFrame())
        if len(held) and job.progress.done < held["step"].iloc[-1]:
            held = held.iloc[:0]  # taken up again from an earlier checkpoint
        last = int(held["step"].iloc[-1]) if len(held) else 0
        new = pd.DataFrame(read_metrics(job.job_id, after=last - 1))
        steps = pd.concat([held[held["step"] < last], new], ignore_index=True) if len(held) else new
        st.session_state[f"steps_{job.job_id}"] = steps
    looks = {"dev_loss": "eval_loss", "dev_micro_f1": "micro_f1"}
    there = [name for name in looks if name in steps]
    dev = steps[["step", *there]].dropna(subset=there, how="all").rename(columns=looks) if there else pd.DataFrame()
    return steps, dev


def sentence(run: Run, job: Job, steps: pd.DataFrame, dev: pd.DataFrame) -> tuple[str, str]:
    """The page's answer on a run, and a quieter second line."""
    loss = figures.smoothed(steps["loss"].dropna()) if "loss" in steps else pd.Series(dtype=float)
    fell = f"loss {loss.iloc[0]:.2f} → {loss.iloc[-1]:.2f}" if len(loss) > 1 else "no loss measured yet"
    fell = f"loss {loss.iloc[0]:.2f}" if len(loss) == 1 else fell
    best = ""
    if "micro_f1" in dev and dev["micro_f1"].notna().any():
        best = f", best dev micro-F1 {formats.score(dev['micro_f1'].max())}"
    how = f"{METHOD_NAMES[run.spec.method]} of {run.spec.model.label} on {said_data(run.spec)}"
    at = job.progress
    if job.state == "queued":
        return f"{run.name} waits for its turn: number {position(job.job_id) or 1} in the queue", f"{how}. {_waiting(job)}"
    if job.state in ("starting", "running", "stopping"):
        left = f", about {left} left" if (left := states.time_left(job)) else ""
        if not at.total:
            going = f"resuming from step {formats.count(step)}" if (step := _kept_step(run)) else "starting"
            return f"{run.name} is {going}", f"{how}. {at.message.capitalize()}"
        if at.done >= at.total:
            now = "looks at dev" if at.message.startswith(LOOKING) else "is being finished"
            return f"{run.name} has done all {formats.plural(at.total, 'step')} and {now}, {fell}{best}{left}", how
        return f"{run.name} is at step {formats.count(at.done)} of {formats.count(at.total)}, {fell}{best}{left}", how
    if job.state == "finished":
        early = ""
        if run.spec.patience and at.done < at.total:
            early = f" It ended early: {run.spec.patience} looks at dev were no better."
        return f"{run.name} is trained: {fell} in {formats.plural(at.done or len(loss), 'step')}{best}", how + early
    words = {"stopped": "was stopped", "failed": "failed", "lost": "was lost (its process is gone)"}[job.state]
    where = "before it went on" if _kept_step(run) else "before its first step"
    where = f"at step {formats.count(at.done)} of {formats.count(at.total)}, {fell}" if at.total else where
    return f"{run.name} {words} {where}", f"{how}. {_goes_on(run)}"


def _goes_on(run: Run) -> str:
    step = _kept_step(run)
    if not step:
        return "Taken up again, it begins anew: it had no checkpoint yet."
    return f"Taken up again, it goes on from its checkpoint of step {formats.count(step)}."


def _kept_step(run: Run) -> int:
    """The step of the checkpoint that the run goes on from; 0 without one."""
    found = last_checkpoint(run_folder(run.run_id) / "checkpoints")
    return 0 if found is None else step_of(found)


def _waiting(job: Job) -> str:
    """What a job waits for, in words: Chat's model is let go first."""
    held = waits_for(job)
    if held is None:
        return "It starts by itself."
    if held.startswith("job-"):
        return f"{states.plain(get_job(held).title)} is before it."
    who = "a server" if held.startswith(SERVER) else "Chat"
    return f"The model that {who} holds is released first; an answer that is being written is finished before."


def show(run: Run) -> None:
    """The run, live while its job is at work."""
    if get_job(run.job_id).state in ENDED_STATES:
        with st.container():  # a fragment draws into one too
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
    steps, dev = measured(job)
    # always as many places: at the end of a run each part is drawn where it stood, so that none is seen twice for a moment
    said, state, cards, chart, below = (st.container() for _ in range(5))
    with said:
        shell.answer(*sentence(run, job, steps, dev))
    with state:
        if live:
            _controls(job, carded="loss" in steps)
        elif run.complete and job.state == "finished":
            _way_on(run)
        else:
            states.ended(job, log=False)
    if "loss" in steps:
        with cards:
            _cards(run, job, steps)
        with chart, st.container(key="chart"):
            _curves(run, job, steps, dev, live=live)
    elif live:
        chart.caption("The curve starts with the first step.")
    with below:
        if not live:
            st.button(
                "Train again with a change", key="train_again", icon=":material/edit:", on_click=_again, args=(run,),
                help="Puts the settings of this run into the form below.",
            )  # fmt: skip
        rundetails.show(run, job, steps)


def leads_on(run: Run) -> bool:
    """Whether the next step is one with this run's result: it is finished, and no new run was begun from its settings."""
    return run.complete and get_job(run.job_id).state == "finished" and not st.session_state.get(trainform.BASE)


def _way_on(run: Run) -> None:
    """What a finished run is for: held against the prompt, and asked."""
    base, dataset = run.spec.model.label, run.spec.data[0].dataset
    elsewhere = {} if st.session_state.get("dataset") == dataset else {"dataset": dataset}
    with st.container(horizontal=True):
        if st.button(
            "Compare with the prompt", type="primary" if leads_on(run) else "secondary", key="run_compare",
            icon=":material/compare_arrows:", help=f"The same rows of {dataset} answered by a prompt and by this run.",
        ):  # fmt: skip
            comparison.choose(run)
            shell.go(COMPARE, **elsewhere)
        if st.button("Chat with it", key="run_chat", icon=":material/chat:", help=f"One question to {base} and to this run."):
            speakers.pick_run(run)
            shell.go(CHAT, **elsewhere)


def _again(run: Run) -> None:
    st.session_state[trainform.BASE] = run.run_id
    st.toast("The form below has its settings now.")


def _curves(run: Run, job: Job, steps: pd.DataFrame, dev: pd.DataFrame, *, live: bool) -> None:
    alt = "Training loss over steps, raw and smoothed, with dev loss and dev micro-F1 where measured"
    figure = figures.curves(steps, dev if len(dev) else None, total=job.progress.total if live else None)
    name = f"{run.run_id}-steps"
    if len(steps) <= LONG:
        present = {column: look for column, look in COLUMNS.items() if column in steps}
        charts.show(figure, key="loss", alt=alt, table=steps, columns=present, name=name)
        return
    charts.show(figure, key="loss", alt=alt, name=name)
    charts.csv(steps, name, key="loss_all", label=f"All {formats.count(len(steps))} steps as CSV")


def line_beside_cards(job: Job) -> str:
    """Of the progress only what no card says: how many steps a second, and a look at dev."""
    at = job.progress
    rate = f"{formats.number(at.rate)} {at.unit}/s" if at.rate else ""
    return " · ".join(part for part in (rate, "" if at.message.endswith("tokens/s") else at.message) if part)


def _controls(job: Job, *, carded: bool) -> None:
    with st.container(horizontal=True, vertical_alignment="center"):
        states.badge(job.state)
        line = line_beside_cards(job) if carded and job.state == "running" else states.progress_line(job)
        st.markdown(f":gray[{line}]" if line else "", width="stretch")
        if job.state != "stopping":
            label = "Leave the queue" if job.state == "queued" else "Stop and keep a checkpoint"
            if st.button(label, key="stop_run", icon=":material/stop_circle:"):
                stop(job.job_id)
                st.rerun(scope="fragment")
    share = job.progress.done / job.progress.total if job.progress.total else 0.0
    st.progress(min(1.0, share))


def _remaining(job: Job) -> dict[str, str]:
    """The card of the time left; what is being done where that isn't known: a first look at dev, or the end after all steps."""
    if left := states.time_left(job):
        return {"Time left": left}
    if job.progress.message.startswith(LOOKING):
        return {"Now": "Looking at dev"}
    ending = job.progress.total and job.progress.done >= job.progress.total
    return {"Now": "Finishing"} if ending else {"Time left": formats.DASH}


def _cards(run: Run, job: Job, steps: pd.DataFrame) -> None:
    def column(name: str) -> pd.Series:
        return steps[name].dropna() if name in steps else pd.Series(dtype=float)

    last, speed, memory = steps.iloc[-1], column("tokens_per_second"), column("memory_gb")
    spent = (
        run.seconds or ((job.ended_at or job.heartbeat or job.created_at) - (job.started_at or job.created_at)).total_seconds()
    )
    total = f" of {formats.count(job.progress.total)}" if job.progress.total else ""
    ended = job.state in ENDED_STATES
    name, what = ("gpu_percent", "GPU use") if "gpu_percent" in steps else ("cpu_percent", "CPU use")
    use = column(name)
    cells = {
        "Step": f"{formats.count(last['step'])}{total}" if ended or total else f"from {formats.count(_kept_step(run))}",
        "Tokens per second": formats.count(speed.tail(20).median()) if len(speed) else formats.DASH,
        **({"Time spent": formats.duration(spent)} if ended else _remaining(job)),
        "Peak memory": formats.size(memory.max() * 1e9) if len(memory) else formats.DASH,
        what: f"{use.tail(20).mean():.0f} %" if len(use) else formats.DASH,
    }
    notes = {
        "GPU use": "Share of the time in which the GPU worked.",
        "CPU use": "Of all cores of this machine.",
        "Tokens per second": "Real tokens, padding left out.",
    }
    with st.container(horizontal=True, horizontal_alignment="distribute"):
        for label, value in cells.items():
            st.metric(label, value, help=notes.get(label), width=CARD if len(value) <= SHORT else "content")
