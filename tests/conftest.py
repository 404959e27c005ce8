"""Each test gets its own empty workspace, and none reaches the network."""

from __future__ import annotations

from pathlib import Path

import pytest

from core.store.database import forget_engines


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
