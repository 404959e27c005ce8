"""Models of the Hugging Face hub and of ModelScope in the cache of this machine: fetched, whole or not yet, removed.

Only safetensors and text files are fetched, and a folder's manifest is written last: without it nothing counts as whole.
What the hubs say is ``core.models.remote``'s. Knows nothing of loading.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from filelock import FileLock

from core.errors import ModelError
from core.models import download
from core.models.remote import RemoteFile, RemoteModel, describe, explained, headers_for
from core.records import ModelRef
from core.settings import get_settings
from core.store.files import MANIFEST, is_complete, write_json

SPARE_BYTES = 100 * 2**20
"""What a download leaves free."""
SETTLED_SECONDS = 2.0
"""Of downloading before a time left is told: the first bytes say nothing of the rate."""


def model_folder(ref: ModelRef) -> Path:
    """Where a model lies, or will lie. A folder a revision that was asked for; never changes once complete."""
    return (
        get_settings().model_cache.absolute()
        / ref.source
        / ref.name.replace("/", "--")
        / (ref.revision or "main").replace("/", "--")
    )


def fetch_model(ref: ModelRef, progress: Callable[[str], None] | None = None, pinned: str = "") -> Path:
    """The folder of a model, downloaded if it isn't there. An interrupted download goes on from where it was.

    ``pinned``: the commit to take instead of what the revision names today.
    """
    folder = model_folder(ref)
    if is_complete(folder):
        return folder
    if os.environ.get("HF_HUB_OFFLINE", "").lower() in ("1", "true", "yes", "on"):
        raise ModelError(f"{ref.name} isn't on this machine, and HF_HUB_OFFLINE forbids downloads", "Unset it to download.")
    try:
        with _locked(folder):
            if not is_complete(folder):
                found = describe(ref.model_copy(update={"revision": pinned}) if pinned else ref)
                _check_space(folder, found)
                with explained(ref):
                    _fetch_files(found, folder, headers_for(ref), progress)
                manifest = {"source": ref.source, "name": ref.name, "revision": found.revision, "license": found.license}
                write_json(folder / MANIFEST, manifest)
    except OSError as error:
        if download.is_full(error):
            raise download.full_disk(folder / MANIFEST) from error
        raise
    return folder


def remove_model(ref: ModelRef) -> int:
    """Take a model off this machine, whole or half; the bytes that are free now. ModelError where it isn't here."""
    folder = model_folder(ref)
    if ref.source not in ("hub", "modelscope") or not folder.is_dir():
        raise ModelError(
            f"{ref.name} was not downloaded to this machine",
            "`python -m core models` lists what was; give its --revision, if it has one.",
        )
    with _locked(folder):
        (folder / MANIFEST).unlink(missing_ok=True)  # first: what is left of it half-way doesn't count as whole
        size = sum(path.stat().st_size for path in folder.iterdir())
        shutil.rmtree(folder)
    return size


def _locked(folder: Path) -> FileLock:
    folder.parent.mkdir(parents=True, exist_ok=True)
    return FileLock(folder.parent / f".{folder.name}.lock")


def local_revision(ref: ModelRef) -> str:
    """The commit of a model's files on this machine; empty if it isn't here."""
    folder = model_folder(ref)
    return str(json.loads((folder / MANIFEST).read_text("utf-8")).get("revision") or "") if is_complete(folder) else ""


def _fetch_files(found: RemoteModel, folder: Path, headers: dict[str, str], progress: Callable[[str], None] | None) -> None:
    total = sum(f.size for f in found.wanted)
    before, started, told = 0, time.monotonic(), 0.0

    def tell(file: RemoteFile, have: int) -> None:
        nonlocal told
        passed = time.monotonic() - started
        if progress is None or time.monotonic() - told < 0.5:
            return
        told = time.monotonic()
        rate = (before + have) / max(passed, 1e-6)
        left = f", {(total - before - have) / max(rate, 1):,.0f} s left" if passed > SETTLED_SECONDS else ""
        done = f"{(before + have) / 1e6:,.0f} of {total / 1e6:,.0f} MB"
        progress(f"Downloading {found.name}: {done}, {rate / 1e6:.1f} MB/s{left} ({file.path})")

    for file in found.wanted:
        target = folder / file.path
        if not (target.is_file() and target.stat().st_size == file.size):
            download.fetch(
                file.url,
                target,
                size=file.size,
                sha256=file.sha256,
                git_sha1=file.git_sha1,
                headers=headers,
                on_bytes=lambda have, file=file: tell(file, have),  # type: ignore[misc]
            )
        before += file.size


def _check_space(folder: Path, found: RemoteModel) -> None:
    there = sum(p.stat().st_size for p in folder.iterdir()) if folder.is_dir() else 0
    needed = sum(f.size for f in found.wanted) - there
    free = shutil.disk_usage(folder.parent).free
    if needed + SPARE_BYTES > free:
        raise ModelError(
            f"{found.name} needs {(needed + SPARE_BYTES) / 1e6:,.0f} MB; {free / 1e6:,.0f} MB are free in {folder.parent}",
            "Free some space (`python -m core usage`, `python -m core models --remove MODEL`), or set TUNEWISE_MODEL_CACHE to a "
            "folder on a larger disk.",
        )


def downloaded() -> Iterator[tuple[ModelRef, Path]]:
    """Models in the cache that are whole."""
    return ((ref, folder) for ref, folder in _folders() if is_complete(folder))


def unfinished() -> Iterator[tuple[ModelRef, Path]]:
    """Models in the cache of which something is missing: being downloaded, cut off, or the disk was full."""
    return ((ref, folder) for ref, folder in _folders() if not is_complete(folder))


def _folders() -> Iterator[tuple[ModelRef, Path]]:
    for source in ("hub", "modelscope"):
        for folder in sorted((get_settings().model_cache.absolute() / source).glob("*/*/")):
            revision = None if folder.name == "main" else folder.name
            name = folder.parent.name.replace("--", "/", 1)
            yield ModelRef(source=source, name=name, revision=revision), folder
