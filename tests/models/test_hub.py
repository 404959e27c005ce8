"""Fetching models from a stand-in hub: whole, resumed, checked, refused with a way out."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from core.__main__ import main
from core.errors import ModelError
from core.models import download, hub
from core.models.catalogue import list_models, list_unfinished, model_text, parse_model, resolve
from tests.models.stand_in_hub import StandIn, stand_in

WEIGHTS = bytes(range(256)) * 4000  # 1 MB
FILES = {
    "config.json": b'{"model_type": "llama"}',
    "tokenizer.json": b"{}",
    "README.md": b"# read me",
    "LICENSE": b"MIT",
    "model.safetensors": WEIGHTS,
    "consolidated.safetensors": b"twice",
    "pytorch_model.bin": b"pickle",
    "modeling_own.py": b"raise SystemExit",
    "onnx/model.onnx": b"no",
}
KEPT = {"config.json", "tokenizer.json", "LICENSE", "model.safetensors", "manifest.json"}


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[StandIn]:
    with stand_in(FILES) as made:
        monkeypatch.setenv("TUNEWISE_HUB_ENDPOINT", made.url)
        monkeypatch.setenv("TUNEWISE_MODELSCOPE_ENDPOINT", made.url)
        monkeypatch.setenv("TUNEWISE_MODEL_CACHE", str(tmp_path / "models"))
        monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
        monkeypatch.delenv("HF_TOKEN", raising=False)
        yield made


@pytest.fixture(autouse=True)
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    taken: list[float] = []
    monkeypatch.setattr(download, "pause", taken.append)
    return taken


@pytest.mark.parametrize("source", ["hub", "modelscope"])
def test_only_safetensors_and_texts_are_fetched_once(server: StandIn, source: str) -> None:
    ref = parse_model(f"{source}:org/model")
    lines: list[str] = []
    folder = resolve(ref, lines.append)
    assert {p.name for p in folder.iterdir()} == KEPT
    assert (folder / "model.safetensors").read_bytes() == WEIGHTS
    asked = len(server.asked)
    assert resolve(ref) == folder
    assert len(server.asked) == asked
    assert any("MB/s" in line for line in lines)
    entry = next(m for m in list_models() if m.ref.source == source)
    assert (entry.text, entry.ready, entry.bytes) == (f"{source}:org/model", True, len(WEIGHTS))
    assert entry.license == ("mit" if source == "hub" else "apache-2.0")


@pytest.mark.parametrize("source", ["hub", "modelscope"])
def test_a_cut_connection_goes_on_from_where_it_was(server: StandIn, source: str, waits: list[float]) -> None:
    server.files = {"config.json": b"{}", "model.safetensors": WEIGHTS}
    server.cut_after = [2, 300_000, 1, 400_000]
    folder = resolve(parse_model(f"{source}:org/model"))
    assert (folder / "model.safetensors").read_bytes() == WEIGHTS
    ranges = [r for path, r, _ in server.asked if path.endswith(("model.safetensors", "/repo"))][-4:]
    assert ranges == ["", "bytes=300000-", "bytes=300001-", "bytes=700001-"]
    assert waits == [1.0, 1.0, 1.0]  # each try brought something: no growing wait


def test_a_server_that_cannot_continue_starts_over(server: StandIn) -> None:
    server.files = {"config.json": b"{}", "model.safetensors": WEIGHTS}
    server.ranges = False
    server.cut_after = [2, 300_000]
    assert (resolve(parse_model("hub:org/model")) / "model.safetensors").read_bytes() == WEIGHTS


def test_a_download_that_was_given_up_goes_on_next_time(server: StandIn) -> None:
    server.files = {"config.json": b"{}", "model.safetensors": WEIGHTS}
    server.cut_after = [2, 500_000, *[0] * 20]
    ref = parse_model("hub:org/model")
    with pytest.raises(ModelError, match="can't be reached"):
        resolve(ref)
    assert not (hub.model_folder(ref) / "manifest.json").exists()
    server.cut_after = []
    server.asked.clear()
    resolve(ref)
    assert [r for path, r, _ in server.asked if path.endswith("model.safetensors")] == ["bytes=500000-"]


@pytest.mark.parametrize("source", ["hub", "modelscope"])
def test_a_wrong_checksum_keeps_nothing(server: StandIn, source: str) -> None:
    server.damaged = True
    ref = parse_model(f"{source}:org/model")
    with pytest.raises(ModelError, match="damaged"):
        resolve(ref)
    assert [p.name for p in hub.model_folder(ref).iterdir()] == []


@pytest.mark.parametrize(("source", "key"), [("hub", "HF_TOKEN"), ("modelscope", "MODELSCOPE_API_TOKEN")])
@pytest.mark.parametrize(
    ("status", "message", "names_key"),
    [(401, "needs a login", True), (403, "gated", True), (404, "no model org/model", False), (418, "an error", False)],
)
def test_a_refusal_says_the_way_out(
    server: StandIn, source: str, key: str, status: int, message: str, names_key: bool, waits: list[float]
) -> None:
    server.statuses = [status]
    with pytest.raises(ModelError, match=message) as caught:
        resolve(parse_model(f"{source}:org/model"))
    assert caught.value.hint
    assert (key in caught.value.hint) == names_key
    assert waits == []


@pytest.mark.parametrize("status", [401, 403])
@pytest.mark.parametrize("source", ["hub", "modelscope"])
def test_a_file_that_is_refused_leaves_what_came_before(server: StandIn, source: str, status: int) -> None:
    """Gated models list their files to anybody, and refuse only the weights."""
    server.refused = {"model.safetensors": status}
    ref = parse_model(f"{source}:org/model")
    with pytest.raises(ModelError, match="needs a login" if status == 401 else "gated"):
        resolve(ref)
    server.refused = {}
    server.asked.clear()
    resolve(ref)
    fetched = [path for path, *_ in server.asked if "LICENSE" in path or "config.json" in path]
    assert fetched == []


@pytest.mark.parametrize("source", ["hub", "modelscope"])
def test_a_busy_server_is_given_time(server: StandIn, source: str, waits: list[float]) -> None:
    server.statuses = [429, 503, 429]
    resolve(parse_model(f"{source}:org/model"))
    assert waits == [1.0, 2.0, 4.0]
    server.statuses, server.retry_after = [429], "7"
    resolve(parse_model(f"{source}:org/model", revision="other"))
    assert waits[3:] == [7.0]
    server.statuses = [429] * 20
    with pytest.raises(ModelError, match="slow down"):
        resolve(parse_model(f"{source}:org/model", revision="third"))


def test_the_key_goes_to_the_hub_and_is_not_in_any_message(server: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "secret-key")
    server.statuses = [403]
    with pytest.raises(ModelError) as caught:
        resolve(parse_model("hub:org/model"))
    assert server.asked[0][2] == "Bearer secret-key"
    assert "secret-key" not in caught.value.message + caught.value.hint


def test_the_key_does_not_follow_a_redirect_to_another_server() -> None:
    import email.message
    import urllib.request

    request = urllib.request.Request("https://hub.example/a", headers={"Authorization": "Bearer k", "Range": "bytes=5-"})
    handler, headers = download._Redirects(), email.message.Message()
    elsewhere = handler.redirect_request(request, None, 302, "", headers, "https://storage.example/b")
    same = handler.redirect_request(request, None, 302, "", headers, "https://hub.example/b")
    assert (elsewhere.get_header("Authorization"), elsewhere.get_header("Range")) == (None, "bytes=5-")
    assert same.get_header("Authorization") == "Bearer k"


@pytest.mark.parametrize("source", ["hub", "modelscope"])
def test_pickled_weights_are_refused(server: StandIn, source: str) -> None:
    server.files = {"config.json": b"{}", "pytorch_model.bin": b"x"}
    with pytest.raises(ModelError, match="pickled"):
        resolve(parse_model(f"{source}:org/model"))


@pytest.mark.parametrize("source", ["hub", "modelscope"])
def test_offline_and_unreachable(server: StandIn, source: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(f"TUNEWISE_{source.upper()}_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(ModelError, match="can't be reached") as caught:
        resolve(parse_model(f"{source}:org/model"))
    assert "HTTPS_PROXY" in caught.value.hint
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(ModelError, match="forbids downloads"):
        resolve(parse_model(f"{source}:org/model"))


@pytest.mark.parametrize("source", ["hub", "modelscope"])
def test_a_disk_that_is_too_small_is_told_before_anything_is_fetched(
    server: StandIn, source: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = type("Usage", (), {"free": 1000})
    monkeypatch.setattr(hub.shutil, "disk_usage", lambda path: usage)
    with pytest.raises(ModelError, match="are free") as caught:
        resolve(parse_model(f"{source}:org/model"))
    assert "TUNEWISE_MODEL_CACHE" in caught.value.hint
    assert list_unfinished() == []


class Quota:
    """A disk with room for so many bytes more, for all files that are opened with it."""

    def __init__(self, free: int, code: int) -> None:
        self.free, self.code = free, code

    def open(self, path: Path, mode: str = "r") -> Any:
        handle = open(path, mode)  # noqa: SIM115 (closed by whom it is given to)
        write = handle.write

        def limited(data: bytes) -> int:
            if len(data) > self.free:
                write(data[: self.free])
                self.free = 0
                raise OSError(self.code, os.strerror(self.code))
            self.free -= len(data)
            return int(write(data))

        class Limited:
            def __enter__(self) -> Any:
                return self

            def __exit__(self, *_: object) -> None:
                handle.close()

            def __getattr__(self, name: str) -> Any:
                return limited if name == "write" else getattr(handle, name)

        return Limited() if "r" not in mode or "+" in mode else handle


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
@pytest.mark.parametrize("source", ["hub", "modelscope"])
def test_a_disk_that_fills_up_half_way_leaves_no_model_that_counts_as_whole(
    server: StandIn, source: str, code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    text = f"{source}:org/model"
    server.files = {"config.json": b"{}", "model.safetensors": WEIGHTS}
    monkeypatch.setattr(download, "CHUNK", 65_536)
    monkeypatch.setattr(download, "open", Quota(300_000, code).open, raising=False)
    with pytest.raises(ModelError, match=r"The disk is full: model\.safetensors") as caught:
        resolve(parse_model(text))
    folder = hub.model_folder(parse_model(text))
    assert str(folder) in caught.value.message
    assert "TUNEWISE_MODEL_CACHE" in caught.value.hint
    assert {path.name for path in folder.iterdir()} == {"config.json", "model.safetensors.part"}
    assert [entry.text for entry in list_models()] == ["default"]
    (half,) = list_unfinished()
    assert (half.text, half.ready, half.bytes) == (text, False, 300_000)
    assert hub.local_revision(half.ref) == ""
    with pytest.raises(ModelError, match="disk is full"):  # the disk is as full as before
        resolve(parse_model(text))
    assert main(["models", "--fetch", text]) == 2
    assert "Hint: Free some space" in capsys.readouterr().err
    monkeypatch.delattr(download, "open")
    server.asked.clear()
    assert (resolve(parse_model(text)) / "model.safetensors").read_bytes() == WEIGHTS
    assert [r for path, r, _ in server.asked if r] == ["bytes=299998-"]
    assert list_unfinished() == []


def test_a_disk_that_is_full_for_the_manifest_only(server: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    ref = parse_model("hub:org/model")
    with monkeypatch.context() as patched:
        patched.setattr(hub, "write_json", full)
        with pytest.raises(ModelError, match="disk is full"):
            resolve(ref)
    assert [half.ref for half in list_unfinished()] == [ref]
    server.asked.clear()
    resolve(ref)
    assert [path for path, *_ in server.asked if "resolve" in path] == []  # everything else was there


@pytest.mark.parametrize("half", [True, False], ids=["half", "whole"])
def test_a_model_is_removed_whole_or_half(server: StandIn, half: bool, capsys: pytest.CaptureFixture[str]) -> None:
    text = "hub:org/model@v1"
    ref = parse_model(text)
    assert (ref.revision, model_text(ref)) == ("v1", text)
    folder = resolve(ref)
    if half:
        (folder / "manifest.json").unlink()
    assert main(["models"]) == 0
    assert ("not whole" in capsys.readouterr().out) == half
    assert main(["models", "--remove", text, "--json"]) == 0
    assert [m["model"] for m in json.loads(capsys.readouterr().out)["models"]] == ["default"]
    assert not folder.exists()
    assert main(["models", "--remove", text]) == 2
    assert "was not downloaded" in capsys.readouterr().err
    assert main(["models", "--remove", "default"]) == 2


@pytest.mark.parametrize("name", ["model", "../../etc", "a/b/c", "org/mo del", "org/"])
def test_names_that_are_none(server: StandIn, name: str) -> None:
    with pytest.raises(ModelError, match="no model name"):
        resolve(parse_model(f"hub:{name}"))
    assert server.asked == []


def test_the_command(server: StandIn, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", "--fetch", "hub:org/model", "--json"]) == 0
    output = capsys.readouterr().out
    assert output.count("\n") == 1
    assert '"model": "hub:org/model", "ready": true' in output
    assert main(["models", "--fetch", "hub:nothing"]) == 2
    assert "Hint:" in capsys.readouterr().err


def test_endpoints_on_the_command_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", "--endpoint", "deep", "--url", "https://api.example/v1"]) == 2
    assert "--serves" in capsys.readouterr().err
    arguments = ["--url", "https://api.example/v1", "--serves", "m-large", "--price-in", "2", "--key-variable", "DEEP_KEY"]
    assert main(["models", "--endpoint", "deep", *arguments, "--json"]) == 0
    (known,) = json.loads(capsys.readouterr().out)["endpoints"]
    assert known == {
        "name": "deep", "url": "https://api.example/v1", "model": "m-large", "key_variable": "DEEP_KEY",
        "price_in": 2.0, "price_out": None,
    }  # fmt: skip
    assert main(["models"]) == 0
    assert "endpoint:deep" in capsys.readouterr().out
    assert main(["models", "--forget", "deep", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["endpoints"] == []
    assert main(["models", "--forget", "deep"]) == 2
