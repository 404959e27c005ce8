"""Paths as documents: plain files, ``.gz`` and ``.zip``, each bounded before and while it is read.

Knows nothing of what is in a document.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import zipfile
import zlib
from collections.abc import Iterator
from functools import partial
from pathlib import Path, PurePosixPath
from typing import BinaryIO, cast

from core.data.encoding import BLOCK
from core.data.readers.base import Document, Limits
from core.data.readers.names import is_data_file, place_of, split_of_path
from core.errors import InputFileError

_SKIPPED_MEMBERS = ("__MACOSX/", ".")


def documents(path: Path, limits: Limits) -> list[Document]:
    """What a path holds: one document, or one a member of a ``.zip`` (folders and hidden files left out).

    Members are in the split that their name tells, train before dev before test; where some are data files by their
    name, the others, which tell about them, are left out.

    InputFileError if it isn't there, isn't a file, is empty, or is larger than allowed.
    """
    size = _checked_size(path, limits)
    with open(path, "rb") as handle:
        magic = handle.read(4)
    if magic[:2] == b"\x1f\x8b":
        name = path.name[:-3] if path.suffix.lower() == ".gz" else path.name
        return [Document(name, lambda: _bounded(gzip.open(path, "rb"), path.name, limits))]
    if magic in (b"PK\x03\x04", b"PK\x05\x06") and path.suffix.lower() not in (".xlsx", ".xlsm"):
        return _members(path, limits)
    return [Document(path.name, lambda: open(path, "rb"), size)]


def _checked_size(path: Path, limits: Limits) -> int:
    if not path.exists():
        raise InputFileError(f"There is no file {path}", "Check the path; it is taken from the folder that you are in.")
    if not path.is_file():
        raise InputFileError(f"{path} is not a file", "Give a file, or a folder made by the datasets library's save_to_disk.")
    try:
        with open(path, "rb"):
            size = path.stat().st_size
    except OSError as error:
        raise InputFileError(f"{path.name} can't be read: {error.strerror}", "Check the file's permissions.") from error
    if size == 0:
        raise InputFileError(f"{path.name} is empty", "Choose a file with rows in it.")
    if size > limits.file_bytes:
        raise InputFileError(
            f"{path.name} is {size / 2**20:,.0f} MiB; the limit is {limits.file_bytes / 2**20:,.0f} MiB",
            "Split the file, or set TUNEWISE_MAX_FILE_MB.",
        )
    return size


def _members(path: Path, limits: Limits) -> list[Document]:
    try:
        with zipfile.ZipFile(path) as archive:
            infos = [
                info
                for info in archive.infolist()
                if not info.is_dir()
                and not any(part.startswith(_SKIPPED_MEMBERS) for part in info.filename.split("/"))
                and not info.filename.startswith("__MACOSX/")
            ]
    except zipfile.BadZipFile as error:
        raise InputFileError(f"{path.name} is not a whole .zip file", "Copy or download it again.") from error
    infos = [info for info in infos if is_data_file(info.filename)] or infos
    if not infos:
        raise InputFileError(f"{path.name} holds no file", "Put the data file into the archive.")
    if any(info.flag_bits & 1 for info in infos):
        raise InputFileError(f"{path.name} is encrypted", "Unpack it with its password first.")
    if sum(info.file_size for info in infos) > limits.expanded_bytes:
        raise _too_large(path.name, limits)

    def opener(member: str) -> BinaryIO:
        return _bounded(cast(BinaryIO, zipfile.ZipFile(path).open(member)), path.name, limits)

    found = [
        Document(
            f"{path.name}/{info.filename}",
            partial(opener, info.filename),
            info.file_size,
            split_of_path(PurePosixPath(info.filename)),
        )
        for info in infos
    ]
    return sorted(found, key=lambda document: place_of(document.split))


def _too_large(name: str, limits: Limits) -> InputFileError:
    return InputFileError(
        f"{name} expands to more than {limits.expanded_bytes / 2**20:,.0f} MiB",
        "If it is meant to be that large, set TUNEWISE_MAX_EXPANDED_MB.",
    )


class _Bounded(io.RawIOBase):
    """A decompressed stream that stops with InputFileError beyond the limit, or when the archive is broken."""

    def __init__(self, inner: BinaryIO, name: str, limits: Limits) -> None:
        self._inner, self._name, self._limits, self._seen = inner, name, limits, 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: object) -> int:
        view = memoryview(buffer)  # type: ignore[arg-type]
        try:
            data = self._inner.read(len(view))
        except (EOFError, zlib.error, zipfile.BadZipFile, gzip.BadGzipFile) as error:
            raise InputFileError(f"{self._name} is damaged: {error}", "Copy or download it again.") from error
        self._seen += len(data)
        if self._seen > self._limits.expanded_bytes:
            raise _too_large(self._name, self._limits)
        view[: len(data)] = data
        return len(data)

    def close(self) -> None:
        self._inner.close()
        super().close()


def _bounded(inner: object, name: str, limits: Limits) -> BinaryIO:
    return cast(BinaryIO, io.BufferedReader(_Bounded(cast(BinaryIO, inner), name, limits), BLOCK))


def blocks(document: Document, limit: int | None = None) -> Iterator[bytes]:
    """A document's bytes, a few MiB at a time; the first ``limit`` bytes when given."""
    with document.open() as handle:
        left = limit
        while left is None or left > 0:
            block = handle.read(BLOCK if left is None else min(BLOCK, left))
            if not block:
                return
            left = None if left is None else left - len(block)
            yield block


def file_hash(path: Path) -> str:
    """SHA-256 (hex) of a file as it lies on disk."""
    with open(path, "rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()
