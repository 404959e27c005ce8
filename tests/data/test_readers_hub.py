"""Datasets on hubs, against a stand-in for both hosts on this machine."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from core.__main__ import main
from core.data.importing import guess, import_file
from core.errors import InputFileError
from core.store import datasets as store


def lines(*texts: str) -> bytes:
    return "".join(json.dumps({"question": text, "answer": "y"}) + "\n" for text in texts).encode()


FILES = {
    "README.md": b"about",
    "dataset_infos.json": b"{}",
    "data/train.jsonl": lines("a", "b"),
    "data/test.jsonl": lines("c"),
    "other/extra.jsonl": lines("d"),
}


class Host(BaseHTTPRequestHandler):
    """Answers as the Hugging Face hub and ModelScope do, two entries a page, files behind a redirect."""

    seen: list[tuple[str, str | None]] = []  # noqa: RUF012  (cleared by the fixture)
    truncate = False

    def log_message(self, *_: object) -> None: ...

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        query = {key: values[0] for key, values in parse_qs(url.query).items()}
        Host.seen.append((self.path, self.headers.get("Authorization")))
        if url.path == "/api/datasets/org/name/tree/main":
            self._hub_page(int(query.get("cursor", 0)))
        elif url.path.startswith("/datasets/org/name/resolve/main/"):
            self.send_response(302)
            name = self.headers["Host"].replace("127.0.0.1", "localhost")
            self.send_header("Location", f"http://{name}/blob/{url.path.removeprefix('/datasets/org/name/resolve/main/')}")
            self.end_headers()
        elif url.path.startswith("/blob/"):
            self._send(FILES[url.path.removeprefix("/blob/")])
        elif url.path == "/api/v1/datasets/org/name/repo/tree":
            self._modelscope_page(query.get("Root", ""))
        elif url.path == "/api/v1/datasets/org/name/repo":
            self._send(FILES[query["FilePath"]])
        elif "private" in url.path:
            self.send_error(401)
        else:
            self.send_error(404)

    def _hub_page(self, start: int) -> None:
        entries = [
            {"type": "directory", "path": "data"},
            *({"type": "file", "path": p, "size": len(c)} for p, c in FILES.items()),
        ]
        following = f'</api/datasets/org/name/tree/main?recursive=true&cursor={start + 2}>; rel="next"'
        more = following if start + 2 < len(entries) else None
        self._send(json.dumps(entries[start : start + 2]).encode(), more)

    def _modelscope_page(self, root: str) -> None:
        folders = sorted({p.split("/")[0] for p in FILES if "/" in p}) if not root else []
        here = [p for p in FILES if (p.startswith(f"{root}/") if root else "/" not in p)]
        entries: list[dict[str, object]] = [{"Type": "tree", "Path": f} for f in folders] + [
            {"Type": "blob", "Path": p, "Size": len(FILES[p])} for p in here
        ]
        self._send(json.dumps({"Code": 200, "Data": {"Files": entries}}).encode())

    def _send(self, content: bytes, link: str | None = None) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        if link:
            self.send_header("Link", link)
        self.end_headers()
        self.wfile.write(content[: len(content) // 2] if Host.truncate and not content.startswith((b"[", b'{"Code')) else content)


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Host]]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Host)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    for name in ("TUNEWISE_HUB_ENDPOINT", "TUNEWISE_MODELSCOPE_ENDPOINT"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{server.server_port}/")
    for name in ("HF_TOKEN", "MODELSCOPE_API_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    Host.seen, Host.truncate = [], False
    yield Host
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize("where", ["hub", "modelscope"])
def test_a_dataset_is_fetched_with_its_splits(host: type[Host], where: str) -> None:
    made = import_file(f"{where}:org/name", "d")
    assert (made.rows, made.quarantined) == (4, 0)
    assert made.version.split_sizes == {"train": 2, "test": 1, "": 1}
    rows = store.read_rows("d").to_pylist()
    assert [row["input"] for row in rows] == ["a", "b", "c", "d"]
    assert rows[0]["source"] == f"{where}:org/name/data/train.jsonl"
    assert made.version.recipe[0].params["file"] == f"{where}:org/name"
    assert not any("README" in path and "blob" in path for path, _ in host.seen)


@pytest.mark.parametrize("where", ["hub", "modelscope"])
def test_one_file_or_folder_of_it(host: type[Host], where: str) -> None:
    assert import_file(f"{where}:org/name/data/test.jsonl", "d").rows == 1
    assert len(guess(f"{where}:org/name/data").files) == 2


def test_the_token_stays_with_its_host(host: type[Host], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "made-up-for-this-test")
    import_file("hub:org/name", "d")
    assert {bool(token) for path, token in host.seen if path.startswith("/blob/")} == {False}
    assert {token for path, token in host.seen if not path.startswith("/blob/")} == {"Bearer made-up-for-this-test"}


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("hub:org/missing", "HTTP 404"),
        ("modelscope:org/private", "HTTP 401"),
        ("hub:org/name/nowhere", "no data file under nowhere"),
        ("hub:name", "names no dataset"),
        ("hub:org/../name", "names no dataset"),
    ],
)
def test_what_cannot_be_had_is_said(host: type[Host], workspace: Path, address: str, message: str) -> None:
    with pytest.raises(InputFileError, match=message) as caught:
        import_file(address, "d")
    assert caught.value.hint
    assert not workspace.exists()


def test_a_download_that_breaks_off_is_noticed(host: type[Host]) -> None:
    host.truncate = True
    with pytest.raises(InputFileError, match=r"broke off|can't be reached"):
        import_file("hub:org/name", "d")


def test_a_dataset_that_is_too_large_is_refused(host: type[Host], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUNEWISE_MAX_FILE_MB", "1")
    monkeypatch.setitem(FILES, "data/train.jsonl", b" " * 1_200_000)
    with pytest.raises(InputFileError, match="larger than 1 MiB"):
        import_file("hub:org/name", "d")


def test_no_network_is_said(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("TUNEWISE_HUB_ENDPOINT", "http://127.0.0.1:9")
    assert main(["import", "hub:org/name", "--name", "d"]) == 2
    assert "can't be reached" in capsys.readouterr().err
