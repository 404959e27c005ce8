"""Checkpoints of a run: which are whole, which is the last, which may go.

A checkpoint's manifest is written last, after everything in it is on disk, so one that a crash cut short is
never resumed from. Knows nothing of what is in a checkpoint.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from pathlib import Path

from core.store.files import MANIFEST, is_complete, write_json

_NAME = re.compile(r"^checkpoint-(\d+)$")


def step_of(folder: Path) -> int:
    """The step after which a checkpoint was saved."""
    match = _NAME.match(folder.name)
    if match is None:
        raise ValueError(folder)
    return int(match.group(1))


def seconds_of(checkpoint: Path) -> float:
    """How long its run had worked when a whole checkpoint was saved; 0 where an older one doesn't say."""
    return float(json.loads((checkpoint / MANIFEST).read_text("utf-8")).get("seconds", 0.0))


def all_checkpoints(folder: Path) -> list[Path]:
    """Checkpoints of a run, whole or not, the oldest first."""
    return sorted((path for path in folder.glob("checkpoint-*") if _NAME.match(path.name)), key=step_of)


def last_checkpoint(folder: Path) -> Path | None:
    """The newest whole checkpoint; none if there is none."""
    return next((path for path in reversed(all_checkpoints(folder)) if is_complete(path)), None)


def seal(checkpoint: Path, values: dict[str, object]) -> None:
    """Put a checkpoint on disk for good and mark it as whole."""
    for path in checkpoint.rglob("*"):
        if path.is_file():
            with path.open("rb") as handle:
                os.fsync(handle.fileno())
    write_json(checkpoint / MANIFEST, {"step": step_of(checkpoint), **values})


def rotate(folder: Path, keep: int, best: int | None = None) -> None:
    """Remove all but the newest ``keep`` whole checkpoints and the one of step ``best``; incomplete older ones go too."""
    whole = [path for path in all_checkpoints(folder) if is_complete(path)]
    kept = {*whole[-keep:], *(path for path in whole if step_of(path) == best)}
    newest = step_of(whole[-1]) if whole else -1
    for path in all_checkpoints(folder):
        if path not in kept and step_of(path) <= newest:
            (path / MANIFEST).unlink(missing_ok=True)
            shutil.rmtree(path, ignore_errors=True)


def discard_incomplete(folder: Path) -> None:
    """Remove what a crash left half written."""
    for path in all_checkpoints(folder):
        if not is_complete(path):
            shutil.rmtree(path, ignore_errors=True)
