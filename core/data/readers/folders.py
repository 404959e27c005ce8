"""Folders as documents: what ``save_to_disk`` wrote, or data files beside each other as hubs keep them.

Splits are told by the names of files and folders (``train-00000-of-00002.parquet``, ``validation/``). Knows nothing of
what is in a file.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

from core.data.readers.base import Document, Limits
from core.data.readers.names import DATA_SUFFIXES, is_data_file, place_of, split_of_path
from core.data.readers.sources import documents, file_hash
from core.errors import InputFileError


def folder_documents(folder: Path, limits: Limits, name: str | None = None) -> list[Document]:
    """The data files in a folder, by path, train before dev before test. InputFileError if there are none."""
    shown = name or folder.name
    files = list(_saved_files(folder)) or [path for path in sorted(folder.rglob("*")) if path.is_file() and _wanted(path, folder)]
    if not files:
        raise InputFileError(f"The folder {shown} holds no data file", f"Data files end in {', '.join(sorted(DATA_SUFFIXES))}.")
    total = sum(path.stat().st_size for path in files)
    if total > limits.file_bytes:
        raise InputFileError(
            f"The folder {shown} holds {total / 2**20:,.0f} MiB; the limit is {limits.file_bytes / 2**20:,.0f} MiB",
            "Give one file of it, or set TUNEWISE_MAX_FILE_MB.",
        )
    found: list[Document] = []
    for path in sorted(files, key=lambda p: (place_of(split_of_path(p.relative_to(folder))), str(p))):
        relative = path.relative_to(folder).as_posix()
        split = split_of_path(path.relative_to(folder))
        prefix = f"{shown}/{relative.rsplit('/', 1)[0]}" if "/" in relative else shown
        found += [Document(f"{prefix}/{d.name}", d.open, d.size, d.split or split) for d in documents(path, limits)]
    return found


def _wanted(path: Path, folder: Path) -> bool:
    parts = path.relative_to(folder).parts
    return is_data_file(path.name) and not any(part.startswith(".") for part in parts)


def _saved_files(folder: Path) -> Iterator[Path]:
    """The files of a dataset saved by ``save_to_disk``, or of each split of a saved dictionary of datasets."""
    try:
        if (folder / "dataset_dict.json").is_file():
            for split in json.loads((folder / "dataset_dict.json").read_text("utf-8"))["splits"]:
                yield from _saved_files(folder / split)
        elif (folder / "state.json").is_file():
            for entry in json.loads((folder / "state.json").read_text("utf-8"))["_data_files"]:
                yield folder / entry["filename"]
    except (ValueError, KeyError, TypeError) as error:
        raise InputFileError(
            f"{folder.name} is not a whole folder of save_to_disk: {error}", "Save the dataset again."
        ) from error


def path_hash(path: Path) -> str:
    """SHA-256 (hex) of a file, or of the names and contents of a folder's files."""
    if path.is_file():
        return file_hash(path)
    whole = hashlib.sha256()
    for file in sorted(p for p in path.rglob("*") if p.is_file()):
        whole.update(f"{file.relative_to(path).as_posix()}\0{file_hash(file)}\n".encode())
    return whole.hexdigest()
