"""One run on several GPUs of a host: a process for each, which train on their share of every step (DDP).

``launch`` is called in the worker: it starts ``torchrun`` (what ``accelerate launch`` wraps, and which also works on CPUs
without MPI), passes on what the first process says, and tells the processes to stop. The processes end when their
worker is gone. Knows nothing of how a run is trained.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import psutil

from core.errors import UserError
from core.records import Reporter, Run
from core.store.runs import get_run, run_folder

MARK = "TUNEWISE "
STOP_FILE = "stop"
_PARENT = "TUNEWISE_LAUNCHED_BY"


def is_launched() -> bool:
    """Whether this process is one of several that train a run."""
    return _PARENT in os.environ


def rank() -> int:
    """The number of this process among those that train a run; 0 where it is the only one."""
    return int(os.environ.get("RANK", "0")) if is_launched() else 0


def local_device() -> str | None:
    """The GPU of this process among those that train a run; none for the usual choice."""
    if not is_launched():
        return None
    import torch

    return f"cuda:{os.environ.get('LOCAL_RANK', '0')}" if torch.cuda.is_available() else "cpu"


def launch(run: Run, reporter: Reporter) -> Run:
    """Train a run in ``spec.gpus`` processes; returns its record. A fault of the user in one of them is raised here."""
    stop = run_folder(run.run_id) / STOP_FILE
    stop.unlink(missing_ok=True)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={run.spec.gpus}"]
    command += ["-m", "core.training.distributed", run.run_id]
    environment = {**os.environ, _PARENT: str(os.getpid()), "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1")}
    reporter.log(f"starting {run.spec.gpus} processes")
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True, encoding="utf-8") as process:
        ended = threading.Event()
        watcher = threading.Thread(target=_pass_on_stop, args=(reporter, stop, ended), daemon=True)
        watcher.start()
        fault: dict[str, str] | None = None
        try:
            assert process.stdout is not None
            for line in process.stdout:
                heard = _hear(line.rstrip("\n"), reporter)
                fault = fault or heard
        finally:
            ended.set()
            if process.poll() is None and sys.exc_info()[0] is not None:
                process.terminate()
        code = process.wait()
    stop.unlink(missing_ok=True)
    if fault is not None:
        raise UserError(fault["message"], fault["hint"])
    if code:
        raise RuntimeError(f"one of {run.spec.gpus} training processes ended with exit code {code}; the log says why")
    return get_run(run.run_id)


def _pass_on_stop(reporter: Reporter, stop: Path, ended: threading.Event) -> None:
    while not ended.wait(0.3):
        if reporter.should_stop():
            stop.touch()
            return


def _hear(line: str, reporter: Reporter) -> dict[str, str] | None:
    """Pass on what the first process reports; other lines belong into the log. Returns a fault of the user."""
    if not line.startswith(MARK):
        reporter.log(line)
        return None
    said: dict[str, Any] = json.loads(line.removeprefix(MARK))
    if said["what"] == "progress":
        reporter.progress(said["done"], said["total"], unit=said["unit"], message=said["message"], left=said["left"])
    elif said["what"] == "metrics":
        reporter.metrics(said["step"], said["values"])
    elif said["what"] == "log":
        reporter.log(said["text"])
    return said if said["what"] == "fault" else None


class PipeReporter:
    """The reporter of a launched process: the first one speaks to the worker, the others only of what ends them."""

    def __init__(self, run_id: str) -> None:
        self._stop = run_folder(run_id) / STOP_FILE
        self._first = rank() == 0

    def progress(self, done: int, total: int, *, unit: str = "rows", message: str = "", left: float | None = None) -> None:
        self._say(what="progress", done=done, total=total, unit=unit, message=message, left=left)

    def metrics(self, step: int, values: dict[str, float]) -> None:
        self._say(what="metrics", step=step, values=values)

    def log(self, text: str) -> None:
        self._say(what="log", text=text)

    def fault(self, error: UserError) -> None:
        """Say a fault of the user, which ends the run, from whichever process has it."""
        _print(what="fault", message=error.message, hint=error.hint)

    def should_stop(self) -> bool:
        return self._stop.exists()

    def _say(self, **said: Any) -> None:
        if self._first:
            _print(**said)


def say_beside(text: str) -> None:
    """Add a line to the run's log from a process that isn't the first: what befell it alone."""
    _print(what="log", text=f"process {rank()}: {text}")


def _print(**said: Any) -> None:
    sys.stdout.write(f"{MARK}{json.dumps(said, ensure_ascii=False)}\n")  # at once, for others may speak at the same time
    sys.stdout.flush()


def _end_with_worker() -> None:
    """End this process soon after the worker that launched it is gone (killed, so that it couldn't say so)."""
    worker = int(os.environ[_PARENT])
    while _lives(worker):
        time.sleep(1.0)
    os._exit(1)


def _lives(pid: int) -> bool:
    """Whether a process works on: one that was killed stays in the table, as a zombie, until who started it looks."""
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.Error:
        return False


def main(run_id: str) -> int:
    """Train as one of several processes."""
    from core.training.runner import run_training

    threading.Thread(target=_end_with_worker, daemon=True).start()
    reporter = PipeReporter(run_id)
    try:
        run_training(get_run(run_id), reporter)
    except UserError as error:
        reporter.fault(error)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
