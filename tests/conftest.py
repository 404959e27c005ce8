"""Each test gets its own empty workspace, and none reaches the network."""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from pathlib import Path

import pytest

from core.store.database import forget_engines

# What a test file reads while it is collected must not touch the user's workspace, nor that of the other test processes.
os.environ["TUNEWISE_WORKSPACE"] = tempfile.mkdtemp(prefix="tunewise-collecting-")
atexit.register(shutil.rmtree, os.environ["TUNEWISE_WORKSPACE"], ignore_errors=True)


@pytest.fixture(autouse=True)
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty workspace of the test's own."""
    folder = tmp_path / "workspace"
    monkeypatch.setenv("TUNEWISE_WORKSPACE", str(folder))
    monkeypatch.delenv("TUNEWISE_DATABASE_URL", raising=False)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_DATASETS_OFFLINE", "1")
    yield folder
    forget_engines()
