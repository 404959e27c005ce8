"""How busy a device is: through torch, through nvidia-smi, of a processor, and where nobody can tell."""

from __future__ import annotations

import stat
import time
from pathlib import Path

import pytest

from core.training import usage


def smi(folder: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> Path:
    """An ``nvidia-smi`` in the path that writes down how it was called."""
    program = folder / "nvidia-smi"
    program.write_text(f'#!/bin/sh\necho "$@" >> {folder}/calls\n{script}\n', encoding="utf-8")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    return folder / "calls"


def until_read(meter: usage.UsageMeter) -> dict[str, float]:
    end = time.monotonic() + 60
    while not (found := meter.read()) and time.monotonic() < end:
        time.sleep(0.02)
    return found


def test_nvidia_smi_is_asked_for_the_gpu_that_this_process_sees(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = smi(tmp_path, monkeypatch, "echo 73")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,GPU-ab12")
    meter = usage.UsageMeter("cuda:1", every=0.02)
    assert until_read(meter) == {"gpu_percent": 73.0}
    meter.close()
    assert "-i GPU-ab12 --query-gpu=utilization.gpu" in calls.read_text("utf-8")


def test_the_mean_since_the_last_look_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    values, looks = iter([None, 10.0, 20.0, 60.0]), []
    monkeypatch.setattr(usage, "_from_torch", lambda index: None)
    monkeypatch.setattr(usage, "_from_smi", lambda name: looks.append(name) or next(values, None))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert usage.gpu_source(0) is None
    meter = usage.UsageMeter("cuda", every=0.01)  # its making looks once
    end = time.monotonic() + 60
    while len(looks) < 5 and time.monotonic() < end:  # by the fifth the fourth one's value is kept
        time.sleep(0.01)
    assert meter.read() == {"gpu_percent": 40.0}
    assert meter.read() == {"gpu_percent": 40.0}  # nothing new: the last value stands


@pytest.mark.parametrize("script", ["echo '[N/A]'", "exit 9"])
def test_a_driver_that_does_not_tell_gives_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    smi(tmp_path, monkeypatch, script)
    meter = usage.UsageMeter("cuda:0", every=0.01)
    time.sleep(0.1)
    assert meter.read() == {}


def test_a_processor_is_measured_by_this_process() -> None:
    meter = usage.UsageMeter("cpu", every=0.1)
    assert meter.read() == {}
    end = time.process_time() + 0.2
    while time.process_time() < end:
        pass
    found = meter.read()
    assert 0 < found["cpu_percent"] <= 100
    assert meter.read() == found
