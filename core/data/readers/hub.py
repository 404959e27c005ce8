"""Datasets on the Hugging Face hub and on ModelScope, fetched file by file over their HTTP interfaces.

``hub:org/name``, ``modelscope:org/name``, either with a file or folder behind (``hub:org/name/data/train.jsonl``) and a
revision (``@main``). A token is taken from ``HF_TOKEN`` or ``MODELSCOPE_API_TOKEN``, and goes to that host only.
Knows nothing of what is in a file.
"""

from __future__ import annotations

import json
import os
import re
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO, Any

from core.data.encoding import BLOCK
from core.data.readers.base import Limits
from core.data.readers.names import is_data_file
from core.errors import InputFileError
from core.settings import get_settings

TIMEOUT_SECONDS = 30
_ADDRESS = re.compile(r"^(hub|modelscope):([\w.\-]+/[\w.\-]+)((?:/[^@]+)?)(?:@([\w./\-]+))?$")
_PAGE = 200


@dataclass(frozen=True, slots=True)
class Address:
    """A dataset on a hub: where, its name, the file or folder wanted of it (``""``: all), its revision."""

    host: str
    name: str
    inside: str
    revision: str

    @property
    def shown(self) -> str:
        """As it is named in rows and messages."""
        return f"{self.host}:{self.name}"


def parse_address(text: str) -> Address | None:
    """The address that a text is, or None when it is a path. InputFileError for one that is written wrongly."""
    if not text.startswith(("hub:", "modelscope:")):
        return None
    match = _ADDRESS.match(text)
    if match is None or ".." in text.split("/"):
        raise InputFileError(f"{text!r} names no dataset", "Write hub:org/name or modelscope:org/name.")
    return Address(match[1], match[2], match[3].strip("/"), match[4] or ("main" if match[1] == "hub" else "master"))


@contextmanager
def fetched(address: Address, limits: Limits) -> Iterator[Path]:
    """A temporary folder with the data files of a dataset. InputFileError if it can't be had or is too large."""
    files = [(path, size) for path, size in _listing(address) if is_data_file(path) and _inside(path, address.inside)]
    if not files:
        raise InputFileError(
            f"{address.shown} has no data file{f' under {address.inside}' if address.inside else ''}",
            "Look at its page for the names of its files.",
        )
    if sum(size for _, size in files) > limits.file_bytes:
        raise InputFileError(
            f"{address.shown} is larger than {limits.file_bytes / 2**20:,.0f} MiB",
            f"Name one file of it, for example {address.shown}/{files[0][0]}, or set TUNEWISE_MAX_FILE_MB.",
        )
    with TemporaryDirectory(prefix="tunewise-hub-") as temporary:
        folder, left = Path(temporary), limits.file_bytes
        for path, _ in files:
            left -= _download(address, path, folder / path, left)
        yield folder


def _inside(path: str, wanted: str) -> bool:
    return not wanted or path == wanted or path.startswith(f"{wanted}/")


def _listing(address: Address) -> list[tuple[str, int]]:
    """Path and size of each file of a dataset."""
    entries = _hub_entries(address) if address.host == "hub" else _modelscope_entries(address, "")
    return sorted((path, size) for path, size in entries if ".." not in path.split("/") and not path.startswith("/"))


def _hub_entries(address: Address) -> Iterator[tuple[str, int]]:
    url = f"{_endpoint(address)}/api/datasets/{address.name}/tree/{urllib.parse.quote(address.revision, safe='')}?recursive=true"
    while url:
        with _open(address, url) as answer:
            for entry in _json(address, answer):
                if entry.get("type") == "file":
                    yield entry["path"], int(entry.get("size") or 0)
            following = re.search(r'<([^>]+)>;\s*rel="next"', answer.headers.get("Link") or "")
        url = urllib.parse.urljoin(url, following[1]) if following else ""


def _modelscope_entries(address: Address, root: str) -> Iterator[tuple[str, int]]:
    page = 1
    while True:
        query = {"Revision": address.revision, "Root": root, "PageNumber": page, "PageSize": _PAGE}
        with _open(
            address, f"{_endpoint(address)}/api/v1/datasets/{address.name}/repo/tree?{urllib.parse.urlencode(query)}"
        ) as answer:
            entries = (_json(address, answer).get("Data") or {}).get("Files") or []
        for entry in entries:
            if entry.get("Type") == "tree":
                yield from _modelscope_entries(address, entry["Path"])
            else:
                yield entry["Path"], int(entry.get("Size") or 0)
        if len(entries) < _PAGE:
            return
        page += 1


def _download(address: Address, path: str, target: Path, left: int) -> int:
    """Fetch one file; returns its size in bytes. InputFileError beyond ``left`` bytes."""
    quoted = urllib.parse.quote(path)
    if address.host == "hub":
        url = f"{_endpoint(address)}/datasets/{address.name}/resolve/{urllib.parse.quote(address.revision, safe='')}/{quoted}"
    else:
        query = urllib.parse.urlencode({"Revision": address.revision, "FilePath": path})
        url = f"{_endpoint(address)}/api/v1/datasets/{address.name}/repo?{query}"
    target.parent.mkdir(parents=True, exist_ok=True)
    size = 0
    with _open(address, url) as answer, open(target, "wb") as out:
        expected = answer.headers.get("Content-Length")
        while block := _patient(address, lambda: answer.read(BLOCK)):
            size += len(block)
            if size > left:
                raise InputFileError(
                    f"{address.shown} is larger than is allowed", "Name one file of it, or set TUNEWISE_MAX_FILE_MB."
                )
            out.write(block)
    if expected is not None and int(expected) != size:
        raise InputFileError(f"{address.shown}/{path} broke off after {size:,} of {int(expected):,} bytes", "Try again.")
    return size


def _endpoint(address: Address) -> str:
    settings = get_settings()
    return (settings.hub_endpoint if address.host == "hub" else settings.modelscope_endpoint).rstrip("/")


class _KeepTokenHome(urllib.request.HTTPRedirectHandler):
    """Follows redirects, without the token where they lead to another host."""

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: Any, newurl: str
    ) -> urllib.request.Request | None:
        made = super().redirect_request(req, fp, code, msg, headers, newurl)
        if made is not None and urllib.parse.urlsplit(newurl).netloc != urllib.parse.urlsplit(req.full_url).netloc:
            made.remove_header("Authorization")
        return made


def _open(address: Address, url: str) -> Any:
    if not url.startswith(("http://", "https://")):
        raise InputFileError(f"{url} is no web address", "Check TUNEWISE_HUB_ENDPOINT and TUNEWISE_MODELSCOPE_ENDPOINT.")
    request = urllib.request.Request(url, headers={"User-Agent": "tunewise"})
    token = os.environ.get("HF_TOKEN" if address.host == "hub" else "MODELSCOPE_API_TOKEN")
    if token:
        request.add_header("Authorization", f"Bearer {token}")
    opener = urllib.request.build_opener(_KeepTokenHome)
    return _patient(address, lambda: opener.open(request, timeout=TIMEOUT_SECONDS))


def _patient(address: Address, action: Callable[[], Any]) -> Any:
    """Do something on the network, its faults in words."""
    try:
        return action()
    except urllib.error.HTTPError as error:
        if error.code in (401, 403):
            hint = "Is the name right? A private or gated dataset needs a token in HF_TOKEN or MODELSCOPE_API_TOKEN."
        else:
            hint = "Check the name and the revision." if error.code == 404 else "Try again later, or download it by hand."
        raise InputFileError(f"{address.shown} can't be had: HTTP {error.code}", hint) from error
    except (OSError, urllib.error.URLError) as error:
        raise InputFileError(
            f"{address.shown} can't be reached: {getattr(error, 'reason', None) or error}",
            "Check the network, or set TUNEWISE_HUB_ENDPOINT / TUNEWISE_MODELSCOPE_ENDPOINT to a mirror.",
        ) from error


def _json(address: Address, answer: Any) -> Any:
    try:
        return json.loads(_patient(address, answer.read))
    except ValueError as error:
        raise InputFileError(f"{address.shown}: the answer of its host can't be read", "Check the endpoint.") from error


__all__ = ["Address", "fetched", "parse_address"]
