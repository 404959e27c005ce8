"""Servers of this workspace, whoever started them: which run, found again after a reload, started and stopped.

Each running server has a small file; the key is never in it. Imports no torch; knows nothing of HTTP but ``/health``.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from core.errors import UserError
from core.jobs.backends import ROOT
from core.jobs.processes import ask_to_end, is_living, kill_tree, process_start
from core.serving.keys import VARIABLE, make_key
from core.serving.served import Plan
from core.store.files import area, tail, workspace, write_json

_children: list[subprocess.Popen[bytes]] = []


@dataclass(frozen=True)
class Server:
    """A running server. ``models``: the names to ask for; ``instruction``: what to put into the system message.

    ``language``: of the first one's template, if it has one.
    """

    pid: int
    started: float
    host: str
    port: int
    models: tuple[str, ...]
    runs: tuple[str, ...]
    instruction: str = ""
    language: str = ""

    @classmethod
    def here(cls, host: str, port: int, plan: Plan, started: float) -> Server:
        """The server that this process is."""
        runs = [model.run for model in plan.models if model.run is not None]
        names = tuple(model.name for model in plan.models)
        language = plan.models[0].template.language
        return cls(os.getpid(), started, host, port, names, tuple(runs), plan.instruction, language)

    @property
    def url(self) -> str:
        """The base address that a client is given."""
        host = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(self.host, f"[{self.host}]" if ":" in self.host else self.host)
        return f"http://{host}:{self.port}/v1"


def note(server: Server) -> None:
    """Write down that a server runs."""
    write_json(_path(server.pid), asdict(server))


def forget(server: Server) -> None:
    """It has ended."""
    _path(server.pid).unlink(missing_ok=True)


def list_servers() -> list[Server]:
    """Servers whose process lives, by port; what the dead left is cleared away."""
    _reap()
    found = []
    for path in area("serving").glob("*.json"):
        with suppress(OSError, ValueError, TypeError, KeyError):
            values = json.loads(path.read_text("utf-8"))
            server = Server(**{**values, "models": tuple(values["models"]), "runs": tuple(values["runs"])})
            if is_living(server.pid, server.started):
                found.append(server)
            else:
                path.unlink(missing_ok=True)
    return sorted(found, key=lambda s: s.port)


@dataclass(frozen=True)
class Launched:
    """A server that was started and may not answer yet. Its key is nowhere else: keep it, or start anew."""

    pid: int
    started: float
    key: str

    @property
    def server(self) -> Server | None:
        """The server once it is ready; none while it loads. UserError with what it said if it has ended instead."""
        found = next((server for server in list_servers() if server.pid == self.pid), None)
        if found is not None or is_living(self.pid, self.started):
            return found
        lines = [line for line in log_tail(self.pid).splitlines() if line.strip()]
        said = next((line.removeprefix("Error: ") for line in lines if line.startswith("Error: ")), "it ended at once")
        hint = next((line.removeprefix("Hint: ") for line in lines if line.startswith("Hint: ")), "\n".join(lines[-5:]))
        raise UserError(f"The server did not start: {said}", hint)

    def give_up(self) -> None:
        """End it."""
        kill_tree(self.pid, self.started)
        _path(self.pid).unlink(missing_ok=True)


def launch(run: str, also: Sequence[str] = (), *, port: int = 0) -> Launched:
    """Start a server in a process of its own, which outlives this one, on 127.0.0.1; ``port`` 0 takes a free one."""
    key = make_key()
    command = [sys.executable, "-u", "-m", "core", "serve", run, "--port", str(port)]
    command += [part for other in also for part in ("--also", other)]
    paths = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = {**os.environ, VARIABLE: key, "TUNEWISE_WORKSPACE": str(workspace()), "PYTHONPATH": paths}
    folder = area("serving")
    folder.mkdir(parents=True, exist_ok=True)
    starting = folder / f"starting-{time.time_ns()}.log"
    with starting.open("ab") as log:
        child = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True, env=environment, cwd=ROOT
        )
    os.replace(starting, log_path(child.pid))
    _children.append(child)
    return Launched(child.pid, process_start(child.pid) or 0.0, key)


def stop_server(server: Server, timeout: float = 10.0) -> None:
    """Ask a server to end, and end it after ``timeout`` seconds if it doesn't."""
    ask_to_end(server.pid, server.started)
    deadline = time.monotonic() + timeout
    while is_living(server.pid, server.started) and time.monotonic() < deadline:
        _reap()
        time.sleep(0.05)
    kill_tree(server.pid, server.started)
    forget(server)


def health(server: Server, timeout: float = 1.0) -> str:
    """What a server says of itself: ``ok``, ``model not in memory``, or ``no answer``."""
    try:
        with urllib.request.urlopen(f"{server.url.removesuffix('/v1')}/health", timeout=timeout) as response:
            return str(json.loads(response.read())["status"])
    except (OSError, ValueError, KeyError):
        return "no answer"


def log_path(pid: int) -> Path:
    """Where a server that was started from here writes its log."""
    return area("serving", f"{pid}.log")


def log_tail(pid: int, lines: int = 50) -> str:
    """The last lines of a server's log; empty if it was started elsewhere."""
    return tail(log_path(pid), lines)


def _path(pid: int) -> Path:
    return area("serving", f"{pid}.json")


def _reap() -> None:
    """Let ended children go, which are zombies until somebody asks for their exit code."""
    _children[:] = [child for child in _children if child.poll() is None]
