"""Looks at everything and says what follows. Quick, and changes nothing: no torch, no workspace is made."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import psutil

from core.doctor.hardware import capabilities, list_gpus, machine
from core.doctor.libraries import needed_libraries, optional_libraries, version_of
from core.doctor.report import Finding, Report
from core.doctor.trial import try_generation
from core.errors import UserError
from core.models.default import NAME, default_model_folder, is_converted, packaged_file
from core.settings import get_settings

LOW_DISK_GB = 5.0


def examine(*, generate: bool = False) -> Report:
    """Look at everything; about a tenth of a second, more where nvidia-smi is slow.

    ``generate`` also lets the default model say something (imports torch; converts the model if need be).
    """
    gpus = list_gpus()
    libraries = needed_libraries(bool(gpus))
    generation = try_generation() if generate else None
    memory = psutil.virtual_memory()
    return Report(
        machine=machine(),
        gpus=gpus,
        libraries=libraries,
        optional=optional_libraries(),
        storage=storage(),
        model=default_model(),
        generation=generation,
        can=capabilities(gpus, memory.available / 1e9, torch_for_gpu=not (version_of("torch") or "").endswith("+cpu")),
    )


def storage() -> tuple[Finding, ...]:
    """Where data and models go, and how much room there is; nothing is made."""
    settings = get_settings()
    return (
        _folder("workspace", settings.workspace.absolute(), "TUNEWISE_WORKSPACE"),
        _folder("model cache", settings.model_cache.absolute(), "TUNEWISE_MODEL_CACHE"),
        Finding(name="database", state="ok", value=(settings.database_url or "sqlite").partition(":")[0].partition("+")[0]),
    )


def _folder(name: str, path: Path, variable: str) -> Finding:
    existing = next(p for p in (path, *path.parents) if p.exists())
    free = shutil.disk_usage(existing).free / 1e9
    value = f"{path}, {free:.0f} GB free"
    if not existing.is_dir() or not os.access(existing, os.W_OK):
        return Finding(name=name, state="fault", value=f"{path} can't be written", remedy=f"Set {variable} to a folder that can.")
    if free < LOW_DISK_GB:
        return Finding(name=name, state="warning", value=value, remedy=f"Free some space, or set {variable} to a larger disk.")
    return Finding(name=name, state="ok", value=value)


def default_model() -> Finding:
    """Whether the default model is converted, or can be."""
    if is_converted():
        return Finding(name=NAME, state="ok", value=str(default_model_folder()))
    try:
        packaged_file()
    except UserError as error:
        return Finding(name=NAME, state="missing", value=error.message, remedy=error.hint)
    return Finding(name=NAME, state="ok", value="its package is here; the first command that needs it converts it (about 15 s)")
