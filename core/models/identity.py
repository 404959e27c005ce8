"""What tells whether the weights in a folder are still those that something was trained on. No torch.

Names, shapes and formats of all tensors, out of the files' headers, and a few bytes of some of them: milliseconds at any
size, and nothing changes when the same weights are written in other shards. config.json is left out: newer versions of
transformers write the same model's in other words.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from core.errors import ModelError
from core.store.files import MANIFEST

SAMPLED, SAMPLE_BYTES = 256, 1024
"""Of so many tensors, spread over all, so many bytes from the middle: every finetuning changes most of them."""
KEPT = "base_identity"
"""The key of an adapter's manifest under which its base's identity stands, and the attribute of a model in memory."""
_Place = tuple[str, str, list[int], int, int]


def identity(folder: Path) -> dict[str, str]:
    """``folder`` (absolute), ``layers`` and ``weights`` (hashes) of a model folder; empty where no safetensors can be read."""
    tensors: dict[str, _Place] = {}
    try:
        for path in sorted(folder.glob("*.safetensors")):
            tensors |= _tensors(path)
        names = sorted(tensors)
        shapes = json.dumps([(name, *tensors[name][1:3]) for name in names])
        digest = hashlib.sha256()
        for name in names[:: max(1, len(names) // SAMPLED)]:
            digest.update(_middle(*tensors[name]))
    except (OSError, ValueError, KeyError, TypeError):  # what is wrong with it, loading says
        return {}
    if not names:
        return {}
    layers = hashlib.sha256(shapes.encode()).hexdigest()[:16]
    return {"folder": str(folder.absolute()), "layers": layers, "weights": digest.hexdigest()[:16]}


def kept_identity(adapter: Path) -> dict[str, str]:
    """The identity of the base that an adapter was trained on; empty where its folder keeps none."""
    try:
        found = json.loads((adapter / MANIFEST).read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return dict(found.get(KEPT) or {}) if isinstance(found, dict) else {}


def check_same(kept: Mapping[str, str], here: Mapping[str, str], what: str) -> None:
    """ModelError where the folder that ``what`` was trained on holds another model by now.

    Nothing where either isn't known, or ``here`` is another folder: then another model was asked for.
    """
    if not kept or not here or kept["folder"] != here["folder"]:
        return
    if (kept["layers"], kept["weights"]) == (here["layers"], here["weights"]):
        return
    how = "other layers" if kept["layers"] != here["layers"] else "other weights in the same layers"
    raise ModelError(
        f"{what} was trained on another model than the one in {here['folder']} now, which has {how}",
        "Put the model that it was trained on there again (and free the memory or start anew what had this one loaded), or train "
        "anew on this one.",
    )


def _tensors(path: Path) -> dict[str, _Place]:
    """Of each tensor its file, format, shape, and where its bytes lie in it (https://huggingface.co/docs/safetensors)."""
    with path.open("rb") as handle:
        length = int.from_bytes(handle.read(8), "little")
        if length > os.path.getsize(path):
            raise ValueError(path)
        header: Any = json.loads(handle.read(length))
    if not isinstance(header, dict):
        raise ValueError(path)
    found = {}
    for name, said in header.items():
        if name != "__metadata__":
            begin, end = said["data_offsets"]
            found[name] = (str(path), said["dtype"], said["shape"], 8 + length + begin, 8 + length + end)
    return found


def _middle(path: str, _format: str, _shape: list[int], begin: int, end: int) -> bytes:
    size = min(SAMPLE_BYTES, end - begin)
    with open(path, "rb") as handle:
        handle.seek(begin + (end - begin - size) // 2)
        return handle.read(size)
