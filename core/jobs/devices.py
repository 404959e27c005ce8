"""The devices of this machine, found without torch: ``cuda:N`` as nvidia-smi numbers them, else ``cpu``.

``TUNEWISE_DEVICES`` (``cpu``, or ``cuda:0,cuda:1``) says otherwise; workers get it from whoever starts them,
because their ``CUDA_VISIBLE_DEVICES`` shows them only their own.
"""

from __future__ import annotations

import os
import subprocess
from functools import lru_cache

from core.settings import get_settings

FILES = "files"
"""What jobs that read and count rows claim: one at a time, beside a training or an evaluation."""

NETWORK = "network"
"""What jobs claim whose model is behind an endpoint: one at a time, beside whatever runs here."""


@lru_cache(maxsize=1)
def _cuda_indices() -> tuple[int, ...]:
    try:
        answer = subprocess.run(
            ["nvidia-smi", "--query-gpu=index", "--format=csv,noheader"], capture_output=True, text=True, timeout=30, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return ()
    return tuple(int(line) for line in answer.stdout.split() if line.strip().isdigit())


def list_devices() -> tuple[str, ...]:
    """Devices that jobs may claim: all GPUs that this process may use, or ``("cpu",)``."""
    given = get_settings().devices
    if given:
        return tuple(part.strip() for part in given.split(",") if part.strip())
    indices = _cuda_indices()
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        wanted = [part.strip() for part in visible.split(",")]
        indices = tuple(int(part) for part in wanted if part.isdigit() and int(part) in indices)
    return tuple(f"cuda:{index}" for index in indices) or ("cpu",)


def gpu_count() -> int:
    """How many GPUs jobs may claim."""
    return sum(device.startswith("cuda") for device in list_devices())


def device_kind() -> str:
    """What a new job asks for: ``cuda`` (any GPU) where there is one, else ``cpu``."""
    return list_devices()[0].partition(":")[0]


def default_device() -> str:
    """The device that the chat engine and a single job use first."""
    return list_devices()[0]


def candidates(wanted: str) -> tuple[str, ...]:
    """Devices that serve a wish: ``cuda`` any GPU, ``cuda:1`` or ``cpu`` exactly that one."""
    if wanted == "cuda":
        return tuple(device for device in list_devices() if device.startswith("cuda"))
    return (wanted,)


def visible_devices(devices: tuple[str, ...]) -> str:
    """``CUDA_VISIBLE_DEVICES`` for a worker on these devices; empty for the CPU."""
    return ",".join(device.partition(":")[2] for device in devices if device.startswith("cuda:"))
