"""What each kind of job does: a plain dictionary from kind to function.

A handler does the work of a job, reports through the reporter, and returns whether it came to its end
(False: it obeyed a stop and saved what it had). Heavy imports stand inside, for the queue reads this too.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path

from core.errors import NotFoundError, UserError
from core.records import Job, Reporter

Handler = Callable[[Job, Reporter], bool]


def handler_of(kind: str) -> Handler:
    """The function of a kind of job; NotFoundError names the kinds there are."""
    if kind not in HANDLERS:
        raise NotFoundError(f"There is no kind of job {kind!r}", f"Kinds: {', '.join(HANDLERS)}.")
    return HANDLERS[kind]


def _train(job: Job, reporter: Reporter) -> bool:
    from core.store.runs import get_run
    from core.training.runner import run_training

    return run_training(get_run(job.subject), reporter).complete


def _evaluate(job: Job, reporter: Reporter) -> bool:
    from core.evaluation.runner import run_evaluation
    from core.store.runs import get_evaluation

    return run_evaluation(get_evaluation(job.subject), reporter).complete


def _export(job: Job, reporter: Reporter) -> bool:
    """Write a run to its own export folder. ``payload``: ``merge``, and ``check``, the rows of the parity report."""
    from core.store.runs import get_run
    from core.training.export import export_folder, export_run

    run, merge = get_run(job.subject), bool(job.payload["merge"])
    try:
        export_run(run, export_folder(run, merge=merge), reporter, merge=merge, check=int(job.payload["check"]))
    except UserError:
        if reporter.should_stop():
            return False
        raise
    return True


def _measure(job: Job, reporter: Reporter) -> bool:
    from core.evaluation.measuring import run_measurement
    from core.store.measurements import get_measurement

    return run_measurement(get_measurement(job.subject), reporter).complete


def _import(job: Job, reporter: Reporter) -> bool:
    """Bring a file in. ``payload``: the arguments of ``import_file``; ``upload`` true: the file was put there for this alone."""
    from core.data.importing import import_file

    keys = ("task", "mapping", "split", "splits", "elements", "shape", "encoding", "separators")
    given = {key: job.payload[key] for key in keys if key in job.payload}
    try:
        import_file(job.payload["path"], job.payload["name"], reporter=reporter, **given)
    except UserError:
        if reporter.should_stop():
            return False
        raise
    if job.payload.get("upload"):
        Path(job.payload["path"]).unlink(missing_ok=True)
    return True


def _profile(job: Job, reporter: Reporter) -> bool:
    """Look through a version's rows, which keeps its profile. ``payload``: ``name`` and ``version``."""
    from core.data.profile import profile

    try:
        profile(job.payload["name"], job.payload["version"], reporter=reporter)
    except UserError:
        if reporter.should_stop():
            return False
        raise
    return True


def _fetch(job: Job, reporter: Reporter) -> bool:
    """Put a model on this machine. ``payload``: ``model`` as it is written on the command line, ``revision`` or none."""
    from core.models.catalogue import parse_model, resolve

    class Stopped(Exception):  # noqa: N818
        pass

    def told(text: str) -> None:
        if reporter.should_stop():
            raise Stopped
        reporter.progress(0, 0, unit="files", message=text)

    try:
        resolve(parse_model(job.payload["model"], revision=job.payload.get("revision")), told)
    except Stopped:  # what has arrived is kept, and continued another time
        return False
    return True


def _pause(job: Job, reporter: Reporter) -> bool:
    """Hold the device for ``seconds``, in steps: shows that queue, worker and stop work on this machine."""
    seconds = float(job.payload.get("seconds", 0.0))
    steps = max(1, round(seconds / 0.05))
    for done in range(steps):
        if reporter.should_stop():
            return False
        time.sleep(seconds / steps)
        reporter.metrics(done + 1, {"seconds": seconds * (done + 1) / steps})
        reporter.progress(done + 1, steps, unit="steps")
    return True


HANDLERS: Mapping[str, Handler] = {
    "train": _train,
    "evaluate": _evaluate,
    "measure": _measure,
    "export": _export,
    "fetch": _fetch,
    "import": _import,
    "profile": _profile,
    "pause": _pause,
}
