"""Converts a GGUF file into a folder of the model cache, once, however many processes ask for it.

The work is done in a process of its own, so that a page that only counts tokens never imports torch, and its
memory is free afterwards. Knows nothing of which models there are.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from filelock import FileLock
from pydantic import BaseModel

from core.errors import ModelError
from core.store.files import atomic_folder, is_complete


class Conversion(BaseModel):
    """What becomes what. ``sha256`` is checked where it is given, with ``damaged_hint`` for the way out."""

    source: Path
    folder: Path
    name: str
    needed_bytes: int
    sha256: str = ""
    pad_token: str | None = None
    damaged_hint: str = "Copy or download the file again."
    manifest: dict[str, str | int] = {}


def converted(job: Conversion, progress: Callable[[str], None] | None = None) -> Path:
    """The folder, complete; converts first if need be. ModelError: damaged file, no space, cache can't be written."""
    if is_complete(job.folder):
        return job.folder
    check_space(job)
    if progress is not None:
        progress(f"Converting {job.name} once into {job.folder}")
    command = [sys.executable, "-m", "core.models.conversion"]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        command,
        input=job.model_dump_json(),
        env=environment,
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        encoding="utf-8",
        check=False,
    )
    if done.returncode == 2:
        fault = json.loads(done.stdout.strip().splitlines()[-1])
        raise ModelError(fault["message"], fault["hint"])
    if done.returncode != 0 or not is_complete(job.folder):
        raise RuntimeError(f"the conversion of {job.name} failed ({done.returncode}):\n{done.stderr[-4000:]}")
    return job.folder


def convert_here(job: Conversion) -> Path:
    """Convert in this process. Two at once: the second waits for the first and finds it done."""
    folder = job.folder
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(folder.parent / f".{folder.name}.lock"):
            for leftover in folder.parent.glob(f".{folder.name}.*.tmp"):  # of a process that was killed
                shutil.rmtree(leftover, ignore_errors=True)
            if not is_complete(folder):
                _convert(job)
    except OSError as error:
        raise _storage_fault(job, error) from error
    return folder


def check_space(job: Conversion) -> None:
    """ModelError where the disk of the cache is too full for it."""
    existing = next(p for p in job.folder.parents if p.exists())
    free = shutil.disk_usage(existing).free
    if free < job.needed_bytes:
        raise ModelError(
            f"{free / 2**20:,.0f} MB are free in {existing}; {job.name} needs {job.needed_bytes / 2**20:,.0f} MB",
            "Free some space, or set TUNEWISE_MODEL_CACHE to a folder on a larger disk.",
        )


def _convert(job: Conversion) -> None:
    from core.models.gguf import convert

    if job.sha256 and _sha256(job.source) != job.sha256:
        raise ModelError(f"{job.source} is damaged: its checksum is not that of {job.name}", job.damaged_hint)
    check_space(job)
    manifest: dict[str, object] = {"name": job.name, **job.manifest}
    with atomic_folder(job.folder, manifest) as temporary:
        try:
            manifest |= convert(job.source, temporary, name=job.name, pad_token=job.pad_token)
        except ModelError:
            raise
        except Exception as error:  # safetensors wraps the system's error in its own
            if "No space left" in str(error) or "os error 28" in str(error):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)) from error
            raise


def _storage_fault(job: Conversion, error: OSError) -> ModelError:
    if error.errno == errno.ENOSPC:
        return ModelError(
            f"The disk is full: {job.folder} could not be written",
            f"It needs {job.needed_bytes / 2**20:,.0f} MB. Free some space, or set TUNEWISE_MODEL_CACHE to another disk.",
        )
    return ModelError(
        f"The model cache {job.folder.parent} can't be written: {error.strerror or error}",
        "Set TUNEWISE_MODEL_CACHE to a folder that can be written.",
    )


def _sha256(path: Path) -> str:
    with open(path, "rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def main() -> int:
    """A Conversion as JSON on stdin; faults as JSON on stdout, with exit 2."""
    try:
        convert_here(Conversion.model_validate_json(sys.stdin.buffer.read()))
    except ModelError as error:
        print(json.dumps({"message": error.message, "hint": error.hint}))
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
