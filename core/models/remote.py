"""What the Hugging Face hub and ModelScope say of a model: its files, sizes, checksums, licence, or why they don't say.

Both are reached over their plain HTTP protocols, so that resuming, checksums and messages are the same.
Knows nothing of where models are kept.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

from core.errors import ModelError
from core.models import download
from core.models.weights import is_pickled
from core.records import ModelRef
from core.settings import get_settings

_TEXTS = (".json", ".jinja", ".txt", ".model", ".md")
_UNWANTED = ("README.md", "training_args.json", "trainer_state.json")


@dataclass(frozen=True)
class RemoteFile:
    """A file of a model on a hub. Size in bytes; empty checksums where the hub names none."""

    path: str
    url: str
    size: int
    sha256: str = ""
    git_sha1: str = ""


@dataclass(frozen=True)
class RemoteModel:
    """What a hub says of a model at a revision."""

    name: str
    revision: str
    license: str
    files: tuple[RemoteFile, ...]

    @property
    def wanted(self) -> tuple[RemoteFile, ...]:
        """The files that are fetched: weights as safetensors, configuration, tokenizer, licence."""
        top = [f for f in self.files if "/" not in f.path]
        weights = [f for f in top if f.path.endswith(".safetensors")]
        if any(not f.path.startswith("consolidated") for f in weights):  # the same weights in the vendor's own layout
            weights = [f for f in weights if not f.path.startswith("consolidated")]
        texts = [
            f
            for f in top
            if f.path not in _UNWANTED and (f.path.endswith(_TEXTS) or f.path.upper().startswith(("LICENSE", "NOTICE")))
        ]
        return (*texts, *weights)


def describe(ref: ModelRef) -> RemoteModel:
    """Ask the hub: files, sizes, licence. ModelError: missing, gated, offline, busy; or only pickled weights."""
    _check_name(ref)
    with explained(ref):
        found = _describe_hub(ref) if ref.source == "hub" else _describe_modelscope(ref)
    if not any(f.path.endswith(".safetensors") for f in found.wanted):
        pickled = [f.path for f in found.files if is_pickled(f.path)]
        raise ModelError(
            f"{ref.name} has "
            + (
                f"only pickled weights ({pickled[0]}), which can run any code when loaded"
                if pickled
                else "no safetensors weights"
            ),
            "Choose a version of it with safetensors; many authors offer one.",
        )
    return found


def fetch_texts(ref: ModelRef, wanted: Callable[[str], bool], most_bytes: int) -> tuple[dict[str, bytes], str]:
    """The small files at the top of a model whose names are wanted, checked against the hub's checksums, and its commit."""
    found = describe(ref)
    texts = {}
    with explained(ref), tempfile.TemporaryDirectory() as folder:
        for file in found.files:
            if "/" in file.path or not wanted(file.path):
                continue
            if file.size > most_bytes:
                raise ModelError(f"{file.path} of {ref.name} is no text ({file.size:,} bytes)", "Choose another model.")
            target = Path(folder) / file.path
            download.fetch(file.url, target, size=file.size, sha256=file.sha256, git_sha1=file.git_sha1, headers=headers_for(ref))
            texts[file.path] = target.read_bytes()
    return texts, found.revision


def _describe_hub(ref: ModelRef) -> RemoteModel:
    base = get_settings().hub_endpoint.rstrip("/")
    answer = download.get_json(
        f"{base}/api/models/{ref.name}/revision/{quote(ref.revision or 'main', safe='')}?blobs=true", headers_for(ref)
    )
    commit = str(answer.get("sha") or ref.revision or "main")
    files = []
    for entry in answer.get("siblings") or []:
        large = entry.get("lfs") or {}
        path = str(entry["rfilename"])
        files.append(
            RemoteFile(
                path,
                f"{base}/{ref.name}/resolve/{commit}/{quote(path)}",
                int(large.get("size") or entry.get("size") or 0),
                sha256=str(large.get("sha256") or ""),
                git_sha1="" if large else str(entry.get("blobId") or ""),
            )
        )
    card = answer.get("cardData") or {}
    return RemoteModel(ref.name, commit, str(card.get("license") or ""), tuple(files))


def _describe_modelscope(ref: ModelRef) -> RemoteModel:
    base = f"{get_settings().modelscope_endpoint.rstrip('/')}/api/v1/models/{ref.name}"
    revision = ref.revision or "master"
    listing = download.get_json(f"{base}/repo/files?{urlencode({'Revision': revision, 'Recursive': 'true'})}", headers_for(ref))
    files = [
        RemoteFile(
            str(entry["Path"]),
            f"{base}/repo?{urlencode({'Revision': revision, 'FilePath': entry['Path']})}",
            int(entry.get("Size") or 0),
            sha256=str(entry.get("Sha256") or ""),
        )
        for entry in (listing.get("Data") or {}).get("Files") or []
        if entry.get("Type") != "tree"
    ]
    about: dict[str, Any] = (download.get_json(base, headers_for(ref)).get("Data")) or {}
    return RemoteModel(ref.name, revision, str(about.get("License") or ""), tuple(files))


def headers_for(ref: ModelRef) -> dict[str, str]:
    """What to send along: the key of that hub, where there is one in the environment."""
    key = os.environ.get("HF_TOKEN" if ref.source == "hub" else "MODELSCOPE_API_TOKEN", "")
    return {"User-Agent": "tunewise", **({"Authorization": f"Bearer {key}"} if key else {})}


def _check_name(ref: ModelRef) -> None:
    parts = ref.name.split("/")
    if len(parts) != 2 or not all(p and p.replace("-", "").replace("_", "").replace(".", "").isalnum() for p in parts):
        raise ModelError(f"{ref.name!r} is no model name of a hub", "Write it as organisation/name, e.g. hub:Qwen/Qwen3-0.6B.")


@contextmanager
def explained(ref: ModelRef) -> Iterator[None]:
    """Turns what a server says into what the user can do about it."""
    try:
        yield
    except download.HttpFault as error:
        raise _fault(ref, error) from error
    except download.Unreachable as error:
        raise ModelError(
            f"The hub can't be reached ({error})",
            "Check the network, HTTPS_PROXY, or set TUNEWISE_HUB_ENDPOINT or TUNEWISE_MODELSCOPE_ENDPOINT to a mirror.",
        ) from error


def _fault(ref: ModelRef, error: download.HttpFault) -> ModelError:
    settings = get_settings()
    hub = ref.source == "hub"
    page = f"{settings.hub_endpoint}/{ref.name}" if hub else f"{settings.modelscope_endpoint}/models/{ref.name}"
    key = "HF_TOKEN" if hub else "MODELSCOPE_API_TOKEN"
    if error.status == 401:
        return ModelError(f"{ref.name} needs a login: it is private, gated, or misspelt", f"See {page}; set {key} to your key.")
    if error.status == 403:
        return ModelError(f"{ref.name} is gated, and your key may not read it", f"Accept its terms at {page}, then set {key}.")
    if error.status == 404:
        at = f" at revision {ref.revision}" if ref.revision else ""
        return ModelError(f"There is no model {ref.name}{at} on this hub", f"Look for its exact name: {page}")
    if error.status == 429:
        return ModelError("The hub asks to slow down (429)", f"Wait some minutes and go on; with {key} set the limits are wider.")
    return ModelError(f"The hub answered with an error ({error.status})", "Try again later; what has arrived is kept.")
