"""Where rows can come from: a file, a folder, a dataset on a hub. Each as documents, named as rows will name their source.

Knows nothing of what is in a document.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from core.data.readers.base import Document, Limits
from core.data.readers.folders import folder_documents, path_hash
from core.data.readers.hub import fetched, parse_address
from core.data.readers.sources import documents


@dataclass(frozen=True, slots=True)
class Place:
    """Documents with the local path that they lie at and the name for the whole."""

    name: str
    path: Path
    documents: list[Document]

    def sha256(self) -> str:
        """The hash (hex) of all that lies there."""
        return path_hash(self.path)


@contextmanager
def opened(where: str | Path, limits: Limits) -> Iterator[Place]:
    """A path, ``hub:org/name`` or ``modelscope:org/name``; what was fetched is removed when the block ends."""
    address = parse_address(str(where))
    if address is not None:
        with fetched(address, limits) as folder:
            yield Place(address.shown, folder, folder_documents(folder, limits, address.shown))
        return
    path = Path(where)
    if path.is_dir():
        yield Place(path.resolve().name, path, folder_documents(path, limits))
    else:
        yield Place(path.name, path, documents(path, limits))
