"""The set-up says in one line what is wrong and what to do, and a second call does nothing."""

from __future__ import annotations

import importlib.util
import shutil
import sys
from collections import namedtuple
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture
def setup(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """scripts/setup.py on a project of its own, whose pip only notes what it is asked."""
    spec = importlib.util.spec_from_file_location("setup_script", ROOT / "scripts" / "setup.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "ROOT", str(tmp_path))
    monkeypatch.setattr(module, "VENV", str(tmp_path / ".venv"))
    (tmp_path / "requirements.txt").write_text("nothing==1\n")
    (tmp_path / "requirements-dev.txt").write_text("-r requirements.txt\nless==1\n")
    module.asked = []

    def pip(*arguments: str) -> tuple[int, list[str]]:
        module.asked.append(arguments)
        return 0, []

    monkeypatch.setattr(module, "pip", pip)
    monkeypatch.setattr(module, "works", lambda: (tmp_path / ".venv").exists())
    monkeypatch.setattr(module.subprocess, "call", lambda *_, **__: (tmp_path / ".venv").mkdir() or 0)
    return module


def run(setup: ModuleType, monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["setup.py", *arguments])
    return setup.main()


def test_a_second_call_installs_nothing(setup: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run(setup, monkeypatch, "--dev") == 0
    installs = [asked for asked in setup.asked if asked[0] == "install"]
    assert any("requirements-dev.txt" in part for part in installs[0])
    assert installs[1][-2:] == ("--no-deps", setup.MODEL_PACKAGE)
    setup.asked.clear()
    assert run(setup, monkeypatch, "--dev") == 0
    assert run(setup, monkeypatch) == 0
    assert setup.asked == []


def test_changed_requirements_are_installed(setup: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    run(setup, monkeypatch)
    setup.asked.clear()
    (tmp_path / "requirements.txt").write_text("nothing==2\n")
    assert run(setup, monkeypatch) == 0
    assert [asked[0] for asked in setup.asked] == ["download", "install", "install"]


def test_an_old_python(setup: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(setup.sys, "version_info", (3, 9, 2))
    assert run(setup, monkeypatch) == 2
    message, hint = capsys.readouterr().err.splitlines()
    assert "3.11 or newer" in message
    assert "3.9.2" in message
    assert "PYTHON=python3.11" in hint


def test_a_full_disk(setup: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(10**10, 9 * 10**9, 10**9))
    assert run(setup, monkeypatch) == 2
    message, hint = capsys.readouterr().err.splitlines()
    assert message.startswith("Error: 1.0 GB are free")
    assert "Free some space" in hint


def test_no_network(setup: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(setup, "pip", lambda *_: (1, ["WARNING: Retrying", "ERROR: No matching distribution found"]))
    assert run(setup, monkeypatch) == 2
    message, hint = capsys.readouterr().err.splitlines()
    assert message == "Error: The package registry doesn't answer: No matching distribution found"
    assert "PIP_INDEX_URL" in hint


def test_a_failed_install_leaves_no_stamp(
    setup: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def pip(*arguments: str) -> tuple[int, list[str]]:
        return (1, ["ERROR: Could not install: [Errno 28] No space left on device"]) if arguments[0] == "install" else (0, [])

    monkeypatch.setattr(setup, "pip", pip)
    assert run(setup, monkeypatch) == 2
    assert "the disk is full" in capsys.readouterr().err
    assert not setup.is_done(False)


def test_the_scripts_syntax_is_old_enough_to_complain() -> None:
    """Python 3.7 can still parse the script, so that it gets to say that 3.11 is needed."""
    import ast

    ast.parse((ROOT / "scripts" / "setup.py").read_text(), feature_version=(3, 7))


def test_the_model_package_is_the_one_that_core_expects(setup: ModuleType) -> None:
    from core.models.default import PACKAGE, PACKAGE_VERSION

    assert f"{PACKAGE}=={PACKAGE_VERSION}" == setup.MODEL_PACKAGE
