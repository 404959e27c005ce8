"""Which models there are, and where a model's files lie on this machine.

``resolve`` turns a ModelRef into a folder, downloading if it is asked for by name. Imports
neither torch nor transformers; knows nothing of loading.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from core.models.default import NAME as DEFAULT_NAME
from core.models.default import default_model_path
from core.models.weights import weight_files
from core.records import ModelRef, Quantisation


def parse_model(text: str, *, quantisation: Quantisation = "none", revision: str | None = None) -> ModelRef:
    """The ModelRef of ``default``, a folder's path, ``hub:org/name`` or ``modelscope:org/name``."""
    text = text.strip()
    if text in ("default", DEFAULT_NAME):
        return ModelRef(quantisation=quantisation)
    for source in ("hub", "modelscope", "endpoint"):
        if text.startswith(f"{source}:"):
            name = text.removeprefix(f"{source}:").strip("/ ")
            return ModelRef(source=source, name=name, revision=revision, quantisation=quantisation)
    return ModelRef(source="path", name=str(Path(text).expanduser().absolute()), quantisation=quantisation)


def resolve(ref: ModelRef, progress: Callable[[str], None] | None = None) -> Path:
    """The local folder of a model; ModelError where there is none."""
    if ref.source == "default":
        return default_model_path(progress)
    folder = Path(ref.name)
    weight_files(folder)
    return folder
