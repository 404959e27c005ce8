"""Processor, memory and GPUs, and what models they are good for. Asks ``nvidia-smi`` and ``psutil``; never imports torch."""

from __future__ import annotations

import os
import platform
import re
import subprocess
from pathlib import Path

import psutil

from core.doctor.report import Finding, Gpu

LOW_MEMORY_GB = 4.0
_GPU_FIELDS = "index,name,memory.total,memory.used,driver_version,compute_cap,utilization.gpu"


def machine() -> tuple[Finding, ...]:
    """Python, processor and memory."""
    memory = psutil.virtual_memory()
    low = memory.available / 1e9 < LOW_MEMORY_GB
    flags = cpu_flags()
    wide = [name for name in ("avx2", "avx512f", "avx512_bf16", "amx_bf16") if name in flags]
    return (
        Finding(name="python", state="ok", value=f"{platform.python_version()} on {platform.system()} {platform.machine()}"),
        Finding(
            name="processor",
            state="ok",
            value=f"{os.cpu_count()} cores" + (f", {', '.join(wide)}" if wide else ""),
            adds="bfloat16 in hardware" if "avx512_bf16" in flags or "amx_bf16" in flags else "",
        ),
        Finding(
            name="memory",
            state="warning" if low else "ok",
            value=f"{memory.available / 1e9:.1f} GB free of {memory.total / 1e9:.1f} GB",
            remedy=f"Training the default model wants {LOW_MEMORY_GB:.0f} GB: close other programs." if low else "",
        ),
    )


def cpu_flags() -> frozenset[str]:
    """What the processor says it can, on Linux; empty elsewhere."""
    try:
        found = re.search(r"^flags\s*:\s*(.*)$", Path("/proc/cpuinfo").read_text(encoding="utf-8"), re.M)
    except OSError:
        return frozenset()
    return frozenset(found.group(1).split()) if found else frozenset()


def list_gpus() -> tuple[Gpu, ...]:
    """All NVIDIA GPUs; empty where there is no driver."""
    command = ["nvidia-smi", f"--query-gpu={_GPU_FIELDS}", "--format=csv,noheader,nounits"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True)
    except (OSError, subprocess.SubprocessError):
        return ()
    return parse_gpus(done.stdout)


def parse_gpus(text: str) -> tuple[Gpu, ...]:
    """GPUs out of nvidia-smi's CSV (memory there is in MiB); a line it can't make sense of is left out."""
    gpus = []
    for line in text.splitlines():
        parts = [part.strip() for part in line.split(",")]
        if len(parts) != 7 or not all(part.isdigit() for part in (parts[0], parts[2], parts[3])):
            continue
        total, used = (int(part) * 2**20 / 1e9 for part in parts[2:4])
        busy = int(parts[6]) if parts[6].isdigit() else None
        gpus.append(
            Gpu(
                index=int(parts[0]),
                name=parts[1],
                memory_gb=round(total, 1),
                free_gb=round(total - used, 1),
                driver=parts[4],
                compute=parts[5],
                busy_percent=busy,
            )
        )
    return tuple(gpus)


def capabilities(gpus: tuple[Gpu, ...], memory_gb: float, *, torch_for_gpu: bool) -> tuple[str, ...]:
    """What the machine is good for. ``memory_gb`` is the free main memory.

    Sizes are arithmetic, not measurements: weights take 2 bytes a parameter in bfloat16 and about
    0.6 in NF4 with double quantisation (QLoRA, Dettmers et al. 2023, section 3); a quarter of the
    memory is left for activations, adapters and the key-value cache, and 1 GB for the libraries.
    """
    if gpus and torch_for_gpu:
        best = max(gpus, key=lambda gpu: gpu.free_gb)
        room = max(0.0, (best.free_gb - 1.0) * 0.75)
        sentences = [
            f"On {best.name}: answers and LoRA (bfloat16) for models up to about {room / 2:.1f} billion parameters, "
            f"QLoRA (NF4) up to about {room / 0.6:.0f} billion."
        ]
        if len(gpus) > 1:
            sentences.append(f"{len(gpus)} GPUs: training can use several at once, jobs can run side by side.")
        return tuple(sentences)
    room = max(0.0, (memory_gb - 1.0) * 0.75)
    return (
        ("There is a GPU, but this torch can't use it: everything runs on the processor. " if gpus else "No GPU: ")
        + "the default model (135 million parameters) trains in minutes; "
        f"memory would hold answers of models up to about {room / 2:.1f} billion parameters, slowly.",
    )
