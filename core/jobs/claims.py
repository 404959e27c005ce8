"""Device claims of engines that answer people, which hold a device like any job but let go when a job wants it.

The engine claims before it loads a model, marks itself busy while it answers, and releases when it is wanted
and idle (``watch_claim`` does the looking). Knows nothing of models.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable

from sqlmodel import select

from core.jobs.dispatcher import dispatch
from core.jobs.processes import process_start
from core.records import now
from core.store.database import read, write
from core.store.jobs import list_jobs
from core.store.tables import ClaimRow

CHAT, SERVER = "chat-", "serve-"
"""How the names of holders begin, with the process id behind."""


def claim_device(device: str, holder: str) -> bool:
    """Claim a device for the chat engine ``holder`` of this process; says whether it holds it now.

    False while a job or another engine holds it (``who_holds`` names it) or a job waits for it.
    """
    dispatch()  # frees what the dead hold, and lets a waiting job go first
    with write() as session:
        row = session.get(ClaimRow, device)
        if row is not None:
            return row.holder == holder and row.pid == os.getpid()
        session.add(
            ClaimRow(device=device, holder=holder, pid=os.getpid(), pid_started=process_start(os.getpid()) or 0.0, since=now())
        )
        return True


def release_device(device: str, holder: str) -> None:
    """Let go of a device and start the job that waits for it, if any."""
    with write() as session:
        row = session.get(ClaimRow, device)
        if row is not None and row.holder == holder and row.pid == os.getpid():
            session.delete(row)
    dispatch()


def take_device(device: str, holder: str, patience: float = 3.0) -> bool:
    """Claim a device, asking the chat or a server that holds it to let go; whether that worked within ``patience`` seconds.

    A job keeps it, and one that waits for it goes first. An engine that is answering keeps it too.
    """
    if claim_device(device, holder):
        return True
    with write() as session:
        row = session.get(ClaimRow, device)
        if row is None or row.holder.startswith("job-"):
            return False
        row.wanted = True
        session.add(row)
    deadline = time.monotonic() + patience
    while time.monotonic() < deadline:
        time.sleep(0.1)
        if claim_device(device, holder):
            return True
    return False


def taken(device: str) -> tuple[str, str]:
    """Who has a device instead, and what to do."""
    holder = who_holds(device)
    live = list_jobs(["starting", "running", "stopping"])
    who = next((job for job in live if job.job_id == holder), None) or next(iter(list_jobs(["queued"])), None)
    if who is not None:
        return (
            f"The device {device} is at work: {who.title}",
            "The server answers when that is done; `python -m core jobs` lists it.",
        )
    kind = (
        "another server"
        if (holder or "").startswith(SERVER)
        else "the chat"
        if (holder or "").startswith(CHAT)
        else "another process"
    )
    return f"The device {device} is held by {kind} ({holder or 'just now'})", "Ask again when it is done answering."


def is_wanted(device: str, holder: str) -> bool:
    """Whether a job waits for the device that ``holder`` has."""
    row = _claim(device)
    return row is not None and row.holder == holder and row.wanted


def set_busy(device: str, holder: str, busy: bool) -> None:
    """Say whether the engine is answering just now."""
    with write() as session:
        row = session.get(ClaimRow, device)
        if row is not None and row.holder == holder and row.busy != busy:
            row.busy = busy
            session.add(row)


def who_holds(device: str) -> str | None:
    """The holder of a device, a job's or an engine's name; none if it is free."""
    row = _claim(device)
    return row.holder if row is not None else None


def list_claims() -> list[ClaimRow]:
    """All claims, by device."""
    with read() as session:
        return list(session.exec(select(ClaimRow).order_by(ClaimRow.device)))


def watch_claim(device: str, holder: str, let_go: Callable[[], bool], every: float = 1.0) -> threading.Event:
    """Watch a claim in a background thread until it is gone or the returned event is set.

    When the device is wanted, ``let_go`` is called: it frees the model and answers True, or answers False
    while the engine is answering and is asked again. After True the device is released.
    """
    ended = threading.Event()

    def look() -> None:
        while not ended.wait(every):
            if who_holds(device) != holder:
                return
            if is_wanted(device, holder) and let_go():
                release_device(device, holder)
                return

    threading.Thread(target=look, name=f"watch-{device}", daemon=True).start()
    return ended


def _claim(device: str) -> ClaimRow | None:
    with read() as session:
        return session.get(ClaimRow, device)
