"""What lies in a model folder: weight files, their size, and what is refused. Knows nothing of loading."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from core.errors import ModelError
from core.records import Quantisation

PICKLED = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle", ".msgpack", ".h5")
_SHARE: dict[Quantisation, float] = {"none": 1.0, "int8": 0.55, "nf4": 0.33}
"""Memory of the loaded weights as a share of the bf16 files: embeddings and norms stay as they are."""
_HARMLESS = ("training_args.bin", "optimizer.pt", "scheduler.pt", "rng_state.pth", "tokenizer.bin")


def is_pickled(name: str) -> bool:
    """Whether a file by its name holds weights in a format that can run code when it is loaded (or isn't read here)."""
    return name.lower().endswith(PICKLED) and Path(name).name not in _HARMLESS


def weight_files(folder: Path) -> list[Path]:
    """The safetensors files of a model folder; ModelError says what is wrong with a folder that isn't one."""
    if not folder.is_dir():
        raise ModelError(
            f"There is no folder {folder}",
            "Give a model folder, 'default', 'hub:org/name' or 'modelscope:org/name'. If it was moved, put it, or a link to it, "
            "there again: runs and evaluations know it by that path.",
        )
    if not (folder / "config.json").is_file():
        hint = "Give the folder that holds config.json, tokenizer.json and *.safetensors."
        if (folder / "adapter_config.json").is_file():
            hint = "This is an adapter: give its base model here, and choose the adapter as a run."
        raise ModelError(f"{folder} is no model folder: it has no config.json", hint)
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        pickled = [p.name for p in folder.iterdir() if is_pickled(p.name)]
        if pickled:
            raise ModelError(
                f"{folder} has pickled weights ({pickled[0]}), which can run any code when they are loaded",
                "Use the model's safetensors files, or convert it once on a machine that you can lose.",
            )
        raise ModelError(f"{folder} has no weights (*.safetensors)", "Download or copy the model again.")
    return files


def model_config(folder: Path) -> dict[str, Any]:
    """A folder's config.json; ModelError where there is none that can be read."""
    weight_files(folder)
    try:
        found = json.loads((folder / "config.json").read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"{folder / 'config.json'} can't be read: {error}", "Download or copy the model again.") from error
    return found if isinstance(found, dict) else {}


def weight_bytes(folder: Path) -> int:
    """Size of the weights on disk, in bytes."""
    return sum(path.stat().st_size for path in weight_files(folder))


def loaded_bytes(folder: Path, quantisation: Quantisation) -> int:
    """About how much memory the weights take once loaded, in bytes (for files in bf16, as most are)."""
    return int(weight_bytes(folder) * _SHARE[quantisation])
