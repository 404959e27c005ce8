"""Which models there are, and where a model's files lie on this machine.

``resolve`` turns a ModelRef into a folder, downloading if it is asked for by name. Imports
neither torch nor transformers; knows nothing of loading.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from core.errors import ModelError
from core.models.code import trusted
from core.models.conversion import Conversion, converted
from core.models.default import CONVERSION, default_model_folder, default_model_path, is_converted
from core.models.default import NAME as DEFAULT_NAME
from core.models.hub import downloaded, fetch_model, unfinished
from core.models.weights import weight_bytes, weight_files
from core.records import ModelRef, Quantisation
from core.settings import get_settings
from core.store.files import MANIFEST


@dataclass(frozen=True)
class ModelEntry:
    """A model that can be chosen. ``ready``: its files are on this machine; ``bytes``: size of its weights."""

    ref: ModelRef
    folder: Path
    ready: bool
    bytes: int
    license: str

    @property
    def text(self) -> str:
        """How it is written on the command line (``parse_model``)."""
        return model_text(self.ref)


def model_text(ref: ModelRef) -> str:
    """How a model is written, for ``parse_model`` to read; number format and quantisation aren't in it."""
    if ref.source in ("default", "path"):
        return "default" if ref.source == "default" else ref.name
    return f"{ref.source}:{ref.name}" + (f"@{ref.revision}" if ref.revision else "")


def parse_model(text: str, *, quantisation: Quantisation = "none", revision: str | None = None) -> ModelRef:
    """The ModelRef of ``default``, the path of a folder or GGUF file, ``hub:org/name`` or ``modelscope:org/name``.

    A hub's name may end with ``@revision`` (a commit, branch or tag); ``revision`` goes before it.
    """
    text = text.strip()
    if not text:
        raise ModelError("No model is named", "Give 'default', a model folder, 'hub:org/name' or 'modelscope:org/name'.")
    if text in ("default", DEFAULT_NAME):
        return ModelRef(quantisation=quantisation)
    for source in ("hub", "modelscope", "endpoint"):
        if text.startswith(f"{source}:"):
            name, _, pinned = text.removeprefix(f"{source}:").strip("/ ").partition("@")
            return ModelRef(source=source, name=name, revision=revision or pinned or None, quantisation=quantisation)
    return ModelRef(source="path", name=str(Path(text).expanduser().absolute()), quantisation=quantisation)


def resolve(ref: ModelRef, progress: Callable[[str], None] | None = None) -> Path:
    """The local folder of a model; downloads or converts it first if need be, with lines for ``progress``.

    ModelError: no such folder or model, pickled weights, gated, offline, disk full, or an endpoint.
    """
    if ref.source == "default":
        return default_model_path(progress)
    if ref.source in ("hub", "modelscope"):
        said = trusted(ref)  # code that was looked at belongs to the weights of its revision
        return fetch_model(ref, progress, pinned=said.revision if said else "")
    if ref.source == "endpoint":
        raise ModelError(f"{ref.name} is an endpoint: it has no files here", "Choose a model that lies on this machine.")
    path = Path(ref.name)
    if path.suffix.lower() == ".gguf" and not path.is_dir():
        return _converted_gguf(path, progress)
    weight_files(path)
    return path


def list_models() -> list[ModelEntry]:
    """The default model, and all that were downloaded, by name."""
    folder = default_model_folder()
    ready = is_converted()
    default = ModelEntry(ModelRef(), folder, ready, weight_bytes(folder) if ready else 0, "apache-2.0")
    others = [ModelEntry(ref, folder, True, weight_bytes(folder), _license(folder)) for ref, folder in downloaded()]
    return [default, *sorted(others, key=lambda entry: entry.ref.name)]


def list_unfinished() -> list[ModelEntry]:
    """Models of which only a part was downloaded, by name; ``bytes``: what is here of them. They can't be loaded."""
    found = [
        ModelEntry(ref, folder, False, sum(path.stat().st_size for path in folder.iterdir()), "") for ref, folder in unfinished()
    ]
    return sorted(found, key=lambda entry: entry.ref.name)


def _converted_gguf(file: Path, progress: Callable[[str], None] | None) -> Path:
    """A GGUF file as a model folder in the cache; another file under the same name becomes another folder."""
    if not file.is_file():
        raise ModelError(f"There is no file {file}", "Give the path of a .gguf file or of a model folder.")
    state = file.stat()
    mark = hashlib.sha256(f"{file.resolve()} {state.st_size} {state.st_mtime_ns} {CONVERSION}".encode()).hexdigest()[:12]
    folder = get_settings().model_cache.absolute() / "gguf" / f"{file.stem}-{mark}"
    job = Conversion(source=file.resolve(), folder=folder, name=file.stem, needed_bytes=5 * state.st_size + 200 * 2**20)
    return converted(job, progress)


def _license(folder: Path) -> str:
    manifest = json.loads((folder / MANIFEST).read_text("utf-8"))
    return str(manifest.get("license") or "")
