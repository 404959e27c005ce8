"""How busy the device of a training is: a GPU's utilisation, or this process's share of the processor.

torch asks the driver where nvidia-ml-py is installed; else ``nvidia-smi`` is asked in a thread of its own, so that no
step waits for it. Knows nothing of trainings. No torch at import.
"""

from __future__ import annotations

import os
import subprocess
import threading
import time
from collections.abc import Callable

import psutil

EVERY_SECONDS = 2.0
"""Between two looks: a program start each where nvidia-smi is asked (about 20 ms of one core)."""


class UsageMeter:
    """Measures one device (``cpu``, ``cuda:0``) from its making to ``close``; ``read`` gives the mean since it was last asked."""

    def __init__(self, device: str, every: float = EVERY_SECONDS) -> None:
        self._every, self._lock, self._ended = every, threading.Lock(), threading.Event()
        self._found: list[float] = []
        self._last: dict[str, float] = {}
        self._read_at = 0.0
        kind, _, number = device.partition(":")
        self._process = psutil.Process() if kind != "cuda" else None
        if self._process is not None:
            self._process.cpu_percent()  # the first call only begins the measuring
            self._read_at = time.monotonic()
            return
        source = gpu_source(int(number or 0))
        if source is not None:
            threading.Thread(target=self._look_on, args=(source,), name="usage", daemon=True).start()

    def read(self) -> dict[str, float]:
        """``gpu_percent`` (share of time in which a kernel ran) or ``cpu_percent`` (of all cores); empty where unknown."""
        if self._process is not None:
            moment = time.monotonic()
            if moment - self._read_at >= self._every:
                self._last = {"cpu_percent": self._process.cpu_percent() / (psutil.cpu_count() or 1)}
                self._read_at = moment
            return self._last
        with self._lock:
            if self._found:
                self._last = {"gpu_percent": sum(self._found) / len(self._found)}
                self._found = []
        return self._last

    def close(self) -> None:
        """End the looking."""
        self._ended.set()

    def _look_on(self, source: Callable[[], float | None]) -> None:
        while not self._ended.wait(self._every):
            value = source()
            if value is None:
                return
            with self._lock:
                self._found.append(value)


def gpu_source(index: int) -> Callable[[], float | None] | None:
    """A way to ask for the utilisation of this process's GPU ``index`` in percent; none where nothing answers."""
    ways: tuple[Callable[[], float | None], ...] = (lambda: _from_torch(index), lambda: _from_smi(_physical(index)))
    return next((way for way in ways if way() is not None), None)


def _physical(index: int) -> str:
    """The driver's name of a GPU that this process sees as ``index`` (a number or a UUID)."""
    visible = [part.strip() for part in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if part.strip()]
    return visible[index] if index < len(visible) else str(index)


def _from_torch(index: int) -> float | None:
    import torch

    try:
        return float(torch.cuda.utilization(index))
    except (ImportError, RuntimeError, AssertionError, AttributeError):  # no nvidia-ml-py, or a driver that doesn't tell (MIG)
        return None


def _from_smi(name: str) -> float | None:
    command = ["nvidia-smi", "-i", name, "--query-gpu=utilization.gpu", "--format=csv,noheader,nounits"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None
    return float(answer) if answer.isdigit() else None
