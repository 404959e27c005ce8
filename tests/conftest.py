"""Each test gets its own empty workspace, and none reaches the network.

``TUNEWISE_TEST_POSTGRES=postgresql+psycopg://user:password@host/database`` runs them on PostgreSQL, a schema each.
"""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

import pytest
from hypothesis import settings
from sqlalchemy import create_engine, text

from core.store.database import forget_engines

# What a test file reads while it is collected must not touch the user's workspace, nor that of the other test processes.
os.environ["TUNEWISE_WORKSPACE"] = tempfile.mkdtemp(prefix="tunewise-collecting-")
atexit.register(shutil.rmtree, os.environ["TUNEWISE_WORKSPACE"], ignore_errors=True)

settings.register_profile("tunewise", deadline=None)  # a busy machine is no fault of the code
settings.load_profile("tunewise")


@contextmanager
def own_database() -> Iterator[str]:
    """URL of the test's database; empty: the one in its workspace."""
    server = os.environ.get("TUNEWISE_TEST_POSTGRES", "")
    if not server:
        yield ""
        return
    engine, schema = create_engine(server, isolation_level="AUTOCOMMIT"), f"test_{uuid4().hex[:12]}"
    with engine.connect() as connection:
        connection.execute(text(f"CREATE SCHEMA {schema}"))
        yield f"{server}?options=-csearch_path%3D{schema}"
        connection.execute(text(f"DROP SCHEMA {schema} CASCADE"))
    engine.dispose()


@pytest.fixture(autouse=True)
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty workspace of the test's own."""
    folder = tmp_path / "workspace"
    monkeypatch.setenv("TUNEWISE_WORKSPACE", str(folder))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_DATASETS_OFFLINE", "1")
    with own_database() as url:
        monkeypatch.setenv("TUNEWISE_DATABASE_URL", url)
        yield folder
        forget_engines()
