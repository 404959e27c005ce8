"""Runs a server in this process until it is told to end: its socket, its model, its log.

Knows nothing of the command line and of pages.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from core.errors import SpecError
from core.jobs.devices import default_device
from core.jobs.processes import process_start
from core.serving.backends import EngineName, choose
from core.serving.holder import Holder
from core.serving.registry import Server, forget, note
from core.serving.served import Plan

END_SECONDS = 5
LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})


@dataclass(frozen=True)
class Ready:
    """A server that is about to answer. ``waits``: why its model isn't in memory yet, empty if it is."""

    server: Server
    engine: str
    waits: str


def serve(
    plan: Plan,
    key: str,
    *,
    host: str = "127.0.0.1",
    port: int = 8000,
    device: str | None = None,
    engine: EngineName = "auto",
    most_answers: int = 64,
    on_ready: Callable[[Ready], None] = lambda _: None,
) -> None:
    """Serve until SIGINT or SIGTERM. ``port`` 0 takes a free one. UserError: the port is taken, or the model can't be loaded.

    While a job holds the device it answers 503 and says why, and loads the model once the device is free.
    """
    import uvicorn

    from core.serving.app import make_app

    where = device or default_device()
    open_, engine_text = choose(plan, where, engine)
    sock = listen(host, port)
    holder = Holder(plan, where, open_)
    server = Server.here(host, sock.getsockname()[1], plan, process_start(os.getpid()) or 0.0)
    with suppress(ValueError):  # not the main thread: then whoever runs us ends us
        signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        _log_to_stderr()
        waits = holder.warm()
        note(server)
        on_ready(Ready(server, engine_text, waits))
        app = make_app(holder, key, most_answers=most_answers)
        config = uvicorn.Config(
            app, log_config=None, access_log=False, server_header=False, timeout_graceful_shutdown=END_SECONDS, lifespan="on"
        )
        uvicorn.Server(config).run(sockets=[sock])
    except KeyboardInterrupt:  # how a server is ended
        pass
    finally:
        forget(server)
        holder.close()
        sock.close()


def listen(host: str, port: int) -> socket.socket:
    """A bound socket; SpecError where the port is taken or the address isn't this machine's."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        sock = socket.socket(family, kind, protocol)
    except OSError as error:
        raise SpecError(f"{host} is no address of this machine: {error.strerror or error}", "127.0.0.1 always is.") from error
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        sock.bind(address)
        sock.listen(128)
    except OSError as error:
        sock.close()
        raise SpecError(
            f"{host}:{port} can't be listened on: {error.strerror or error}", "Give another --port; 0 takes a free one."
        ) from error
    return sock


def _log_to_stderr() -> None:
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
    for name in ("tunewise.serving", "uvicorn.error"):
        logger = logging.getLogger(name)
        logger.handlers, logger.propagate = [handler], False
        logger.setLevel(logging.INFO if name.startswith("tunewise") else logging.WARNING)
