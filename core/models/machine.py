"""What computes here, in words: the processor, a device, the machine. Imports torch only where a GPU is asked about."""

from __future__ import annotations

import contextlib
import platform
import re
from functools import lru_cache
from pathlib import Path

import psutil


@lru_cache(maxsize=1)
def processor() -> str:
    """This machine's processor: its name, and whether it multiplies bf16 in hardware."""
    text = ""
    with contextlib.suppress(OSError):
        text = Path("/proc/cpuinfo").read_text("utf-8")
    found = re.search(r"^model name\s*:\s*(.+)$", text, re.MULTILINE)
    name = found[1].strip() if found else platform.processor() or platform.machine()
    short = " with AVX512-BF16" if "avx512_bf16" in text else ""
    return name + short


def where(device: str) -> str:
    """A device (``cpu``, ``cuda:0``) with its machine: equal words mean that times measured there can be held together."""
    kind, _, number = device.partition(":")
    if kind != "cuda":
        return f"{processor()}, {psutil.cpu_count(logical=True)} cores, {platform.node()}"
    import torch

    return f"{torch.cuda.get_device_name(int(number or 0))}, {platform.node()}"
