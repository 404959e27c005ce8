"""Memory of this machine's devices, and giving it back. Imports torch only where it is loaded already."""

from __future__ import annotations

import ctypes
import gc
import shutil
import subprocess
import sys
from dataclasses import dataclass

import psutil


@dataclass(frozen=True)
class Device:
    """A device that a model can run on. Sizes in bytes."""

    name: str
    description: str
    total: int
    free: int


def devices() -> list[Device]:
    """GPUs first, then the CPU; the first one is what is used when nothing else is asked for."""
    memory = psutil.virtual_memory()
    cpu = Device("cpu", f"{psutil.cpu_count(logical=True)} cores", memory.total, memory.available)
    return [*_gpus(), cpu]


def free_memory(device: str) -> int:
    """Bytes that this process could still get on a device (``cpu``, ``cuda:0``)."""
    kind, _, number = device.partition(":")
    if kind != "cuda":
        return int(psutil.virtual_memory().available)
    import torch

    index = int(number or 0)
    kept = torch.cuda.memory_reserved(index) - torch.cuda.memory_allocated(index)  # torch holds it, but it is free
    return int(torch.cuda.mem_get_info(index)[0]) + int(kept)


def allocated_memory(device: str) -> int:
    """Bytes that this process has on a device: tensors on a GPU, the resident set on the CPU."""
    kind, _, number = device.partition(":")
    if kind == "cuda":
        import torch

        return int(torch.cuda.memory_allocated(int(number or 0)))
    return int(psutil.Process().memory_info().rss)


def release_memory() -> None:
    """Give what nobody holds any more back to the system and the driver."""
    gc.collect()
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available() and torch.cuda.is_initialized():
        torch.cuda.empty_cache()
    if sys.platform == "linux":
        try:
            ctypes.CDLL("libc.so.6").malloc_trim(0)
        except (OSError, AttributeError):  # no glibc
            return


def out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory ran out, on a GPU or on the CPU."""
    torch, text = sys.modules.get("torch"), str(error)
    kinds = (MemoryError,) if torch is None else (MemoryError, torch.OutOfMemoryError)
    return isinstance(error, kinds) or "out of memory" in text or "can't allocate memory" in text


def _gpus() -> list[Device]:
    """From nvidia-smi, so that a page can show them without a CUDA context of its own."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return []
    query = [program, "--query-gpu=index,name,memory.total,memory.free", "--format=csv,noheader,nounits"]
    try:
        lines = subprocess.run(query, capture_output=True, text=True, timeout=10, check=True).stdout.splitlines()
    except (subprocess.SubprocessError, OSError):
        return []
    found = []
    for line in lines:
        index, name, total, free = (part.strip() for part in line.split(","))
        if total.isdigit() and free.isdigit():
            found.append(Device(f"cuda:{index}", name, int(total) * 2**20, int(free) * 2**20))
    return found
