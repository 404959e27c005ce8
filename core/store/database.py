"""One SQLAlchemy engine per database URL, and short transactions on it.

SQLite runs in WAL mode with a busy timeout, so that workers and pages don't lock each other out;
``write()`` takes the write lock at its start, so that what is read inside it stays true until its end.
PostgreSQL has no such lock of its own: one advisory lock of the database stands for it.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from sqlalchemy import Connection, Engine, event, make_url, text
from sqlalchemy.exc import ArgumentError, NoSuchModuleError, OperationalError
from sqlmodel import Session, SQLModel, create_engine

from core.errors import UserError
from core.settings import get_settings
from core.store import tables as _tables  # noqa: F401  (registers the tables)
from core.store.files import disk_is_full, full_disk, workspace

_WRITING = 0x74756E65
"""Number of the advisory lock that a writer holds on PostgreSQL."""
_PACKAGES = {"psycopg": "psycopg[binary]", "psycopg2": "psycopg2-binary"}
"""What to install for a driver, where its plain package would need a compiler or a library of the system."""
_engines: dict[str, Engine] = {}
_lock = threading.Lock()


def _prepare_sqlite(connection: Any, _record: Any) -> None:
    connection.isolation_level = None  # transactions are begun by us (SQLAlchemy's documented pysqlite recipe)
    cursor = connection.cursor()
    for pragma in ("busy_timeout=30000", "journal_mode=WAL", "synchronous=NORMAL", "foreign_keys=ON"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def engine() -> Engine:
    """The engine of the configured database, with its tables made. UserError if that database can't be opened."""
    url = get_settings().database
    with _lock:
        if url not in _engines:
            _engines[url] = _opened(url)
        return _engines[url]


def _opened(url: str) -> Engine:
    sqlite = url.startswith("sqlite")
    if sqlite:
        workspace()
    try:
        made = create_engine(url, connect_args={"check_same_thread": False} if sqlite else {}, pool_pre_ping=not sqlite)
    except (ArgumentError, NoSuchModuleError) as error:  # the text itself may hold a password: it is not repeated
        raise UserError("TUNEWISE_DATABASE_URL names no database", "For example sqlite:////data/tunewise.db.") from error
    except ModuleNotFoundError as error:
        package = _PACKAGES.get(error.name or "", error.name)
        hint = f"Install it in this environment: .venv/bin/pip install '{package}'"
        raise UserError(f"The database driver {error.name} is not installed", hint) from error
    if sqlite:
        event.listen(made, "connect", _prepare_sqlite)
    try:
        with _alone(made), made.connect() as connection:
            _be_the_writer(connection)
            SQLModel.metadata.create_all(connection)
            connection.commit()
    except (OperationalError, OSError, Timeout) as error:
        if sqlite and disk_is_full(error):
            raise full_disk() from error
        shown = make_url(url).render_as_string(hide_password=True)
        raise UserError(
            f"The database {shown} can't be opened: {str(getattr(error, 'orig', error)).splitlines()[0]}",
            "Check that its folder or server is there and can be written; TUNEWISE_DATABASE_URL names it.",
        ) from error
    return made


def _alone(made: Engine) -> AbstractContextManager[Any]:
    """No other process opens this database meanwhile: SQLite's switch to WAL does not wait for others by itself."""
    file = made.url.database if made.dialect.name == "sqlite" else None
    lockable = file and file != ":memory:" and Path(file).parent.is_dir()
    return FileLock(f"{file}.lock", timeout=60) if lockable else nullcontext()


def _be_the_writer(connection: Connection) -> None:
    """Begin a transaction that no other writer's overlaps; waits for the one that is at work."""
    if connection.dialect.name == "sqlite":
        connection.execute(text("BEGIN IMMEDIATE"))
    elif connection.dialect.name == "postgresql":
        connection.execute(text("SELECT pg_advisory_xact_lock(:number)"), {"number": _WRITING})


@contextmanager
def read() -> Iterator[Session]:
    """A session for reading; all that its block reads is of one moment."""
    with Session(engine()) as session:
        if session.get_bind().dialect.name == "sqlite":
            session.execute(text("BEGIN"))
        else:
            session.connection(execution_options={"isolation_level": "REPEATABLE READ"})
        yield session


@contextmanager
def write() -> Iterator[Session]:
    """A session whose block is one transaction; one writer at a time, from its first read on."""
    with Session(engine(), expire_on_commit=False) as session:
        _be_the_writer(session.connection())
        yield session
        session.commit()


def forget_engines() -> None:
    """Close all connections (tests, and before a fork)."""
    with _lock:
        for made in _engines.values():
            made.dispose()
        _engines.clear()
