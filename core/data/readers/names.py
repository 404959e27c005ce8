"""What the name of a file, or its path in a folder or an archive, tells: whether it holds rows, and of which split.

Knows nothing of what is in a file.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import PurePath

from core.data.mapping import check_split, split_named
from core.data.readers.base import Document
from core.errors import InputFileError

DATA_SUFFIXES = frozenset(
    {".json", ".jsonl", ".ndjson", ".csv", ".tsv", ".xlsx", ".parquet", ".arrow", ".conll", ".bio", ".bioes", ".bmes", ".txt"}
)
_ABOUT = frozenset(
    {"dataset_info.json", "dataset_infos.json", "dataset_dict.json", "state.json", "configuration.json", "config.json"}
)
_ABOUT_TEXTS = frozenset({"readme.txt", "license.txt", "requirements.txt"})
_ORDER = {"train": 0, "dev": 1, "test": 2}


def is_data_file(name: str) -> bool:
    """Whether a file of this name holds rows, by its ending, and isn't one that only tells about them."""
    base = name.rsplit("/", 1)[-1].lower()
    if base.startswith(".") or base in _ABOUT or base in _ABOUT_TEXTS:
        return False
    inner = base.removesuffix(".gz")
    return any(inner.endswith(suffix) for suffix in DATA_SUFFIXES) or base.endswith(".zip")


def split_of_path(path: PurePath) -> str:
    """The split that a path's file name or folders tell, or ``""``; a word of the file's name counts first, whole or a part."""
    for part in reversed((*path.parts[:-1], path.name.split(".", 1)[0])):
        for word in (part, *re.split(r"[-_. ]", part)):
            split = split_named(word)
            if split:
                return split
    return ""


def place_of(split: str) -> int:
    """Where rows of a split come among those of others: train, dev, test, none."""
    return _ORDER.get(split, len(_ORDER))


def with_splits(documents: Sequence[Document], splits: Mapping[str, str]) -> list[Document]:
    """Documents with the splits that are given for some of them, by the name or the name inside the folder or archive.

    InputFileError for a name that none has, or a split that there isn't.
    """
    given: dict[str, str] = {}
    for name, split in splits.items():
        check_split(split)
        found = [document.name for document in documents if name in (document.name, document.name.partition("/")[2])]
        if not found:
            told = ", ".join(document.name.partition("/")[2] or document.name for document in documents[:12])
            raise InputFileError(f"There is no file {name!r} in it", f"Its files: {told}.")
        given[found[0]] = split
    return [replace(document, split=given.get(document.name, document.split)) for document in documents]
