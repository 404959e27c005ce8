"""Paths inside the workspace, and writes that are whole or not there.

Large artefacts are written to a temporary name, flushed and renamed; a folder's manifest is
written last, so its presence means that the folder is complete.
"""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import pyarrow as pa
import pyarrow.parquet as pq
from filelock import FileLock

from core.errors import UserError
from core.settings import get_settings

MANIFEST = "manifest.json"
NEARLY_FULL = 64 * 2**20
"""Free bytes below which a failed write is put down to a full disk."""
_NAME = re.compile(r"[^\W_][\w.\-]{0,79}")


def check_name(name: str, what: str = "name") -> str:
    """``name`` if it can be a folder's name on every system (letters of any script, digits, ``. _ -``)."""
    if not _NAME.fullmatch(name) or name.endswith("."):
        raise UserError(
            f"{name!r} can't be used as a {what}",
            "Use letters, digits, '.', '_' and '-', starting with a letter or digit, 80 characters at most.",
        )
    return name


def workspace() -> Path:
    """The workspace folder, made if it isn't there."""
    folder = get_settings().workspace.absolute()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"The workspace {folder} can't be made: {error.strerror or error}",
            "Set TUNEWISE_WORKSPACE to a folder that can be written.",
        ) from error
    return folder


def alone(what: str) -> AbstractContextManager[Any]:
    """While the block runs no other process of this workspace runs one of the same name; waits for it."""
    return FileLock(workspace() / f".{what}.lock")


def area(kind: str, *parts: str) -> Path:
    """Path of an artefact folder, e.g. ``area("runs", run_id)``; not made."""
    return workspace().joinpath(kind, *parts)


@contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """A temporary path beside ``path``; renamed over it when the block ends without an error."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{uuid4().hex[:8]}.tmp")
    try:
        yield temporary
        with open(temporary, "rb") as handle:
            os.fsync(handle.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def atomic_folder(path: Path, manifest: dict[str, Any] | None = None) -> Iterator[Path]:
    """A temporary folder that becomes ``path`` when the block ends; its manifest is written last."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{uuid4().hex[:8]}.tmp")
    temporary.mkdir()
    try:
        yield temporary
        write_json(temporary / MANIFEST, manifest or {})
        if path.exists():
            if is_complete(path):
                raise FileExistsError(path)
            shutil.rmtree(path)
        try:
            os.replace(temporary, path)
        except OSError as error:  # another process made it between these lines
            if error.errno in (errno.ENOTEMPTY, errno.EEXIST):
                raise FileExistsError(path) from error
            raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


@contextmanager
def replaced_folder(path: Path) -> Iterator[Path]:
    """A temporary folder that takes the place of ``path``, and of all that stands there, when the block ends without an error."""
    path.parent.mkdir(parents=True, exist_ok=True)
    sign = uuid4().hex[:8]
    temporary, old = path.with_name(f".{path.name}.{sign}.tmp"), path.with_name(f".{path.name}.{sign}.old")
    temporary.mkdir()
    try:
        yield temporary
        if path.exists():
            os.replace(path, old)
        try:
            os.replace(temporary, path)
        except OSError:
            if old.exists():
                os.replace(old, path)
            raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)


def is_complete(folder: Path) -> bool:
    """Whether a folder was written to its end."""
    return (folder / MANIFEST).is_file()


def write_text(path: Path, text: str) -> None:
    """Write a text file atomically, UTF-8, line ends as given."""
    with atomic_file(path) as temporary:
        temporary.write_bytes(text.encode("utf-8"))


def write_json(path: Path, value: Any) -> None:
    """Write JSON atomically."""
    write_text(path, json.dumps(value, ensure_ascii=False, indent=1, default=str))


def write_parquet(path: Path, table: pa.Table) -> None:
    """Write a Parquet file atomically (zstd, row groups of 65,536 so that a window can be read)."""
    with atomic_file(path) as temporary:
        pq.write_table(table, temporary, compression="zstd", row_group_size=65_536)


def tail(path: Path, lines: int) -> str:
    """The last lines of a text file, of 400 bytes on the mean at most; empty if there is no such file."""
    if not path.is_file():
        return ""
    with path.open("rb") as handle:
        handle.seek(0, 2)
        handle.seek(max(0, handle.tell() - 400 * lines))
        return "\n".join(handle.read().decode("utf-8", "replace").splitlines()[-lines:])


def full_disk() -> UserError:
    """What to say when the disk is full."""
    hint = f"Free some space where {workspace()} lies, then resume: it goes on from the last checkpoint."
    return UserError("The disk is full, so what was made could not be written", hint)


def disk_is_full(error: BaseException) -> bool:
    """Whether something could not be written for want of space: every library says it in its own way, torch not at all."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, OSError) and seen.errno in (errno.ENOSPC, errno.EDQUOT):
            return True
        if "No space left" in str(seen) or "disk is full" in str(seen):
            return True
        seen = seen.__cause__ or seen.__context__
    failed = any(word in str(error) for word in ("write", "unexpected pos", "disk I/O"))  # as torch and SQLite say it
    return failed and shutil.disk_usage(workspace()).free < NEARLY_FULL
