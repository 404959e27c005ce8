"""The commands ``tokens`` and ``templates``: fixed keys, one line of JSON, exit codes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from core.__main__ import main
from core.prompts.parity import USES
from core.records import Dataset, Version
from core.store.datasets import save_version
from tests.prompts.toys import byte_level
from tests.test_lengths_simulated import rows


@pytest.fixture
def dataset(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    """40 extraction rows, counted by a toy tokenizer; the default model is a folder with sizes alone."""
    monkeypatch.setattr("core.models.catalogue.default_model_path", lambda progress=None: tmp_path)
    (tmp_path / "config.json").write_text(
        '{"hidden_size": 64, "num_attention_heads": 4, "num_hidden_layers": 2, "intermediate_size": 128, "vocab_size": 512}'
    )
    for module in ("measuring", "places", "compare"):
        monkeypatch.setattr(f"core.lengths.{module}.load_tokenizer", lambda ref: byte_level())
    monkeypatch.setattr("core.parity.load_tokenizer", lambda ref: byte_level())
    data = rows(40)
    save_version(Dataset(name="d", elements=("person", "place")), Version(dataset="d", number=1, rows=40, content_hash="h"), data)
    return "d"


def ran(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 0) -> Any:
    assert main([*arguments, "--json"]) == code
    out = capsys.readouterr().out
    assert out.count("\n") == 1
    return json.loads(out)


def test_tokens(dataset: str, capsys: pytest.CaptureFixture[str]) -> None:
    found = ran(capsys, "tokens", dataset, "--max-length", "150", "--template", "instruct")
    assert found["rows"] == 40
    for part in ("prompt", "answer", "whole"):
        assert {"p50", "p95", "max", "total"} <= found[part].keys()
    assert found["prompt"]["total"] + found["answer"]["total"] == found["whole"]["total"]
    assert 0 < found["over_max_length"] < 40
    assert found["splits"]["train"]["rows"] == 40


def test_side_by_side_and_simulated(dataset: str, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--template", "chat", "--template", "json-en", "--simulate", "--max-length", "150"]
    found = ran(capsys, "tokens", dataset, *options)
    assert [one["template"] for one in found["beside"]] == ["chat@1", "json-en@1"]
    assert found["beside"][1]["figures"]["whole"]["p50"] > found["beside"][0]["figures"]["whole"]["p50"]
    policies = {one["policy"]: one for one in found["policies"]}
    assert policies["drop"]["dropped"] == policies["drop"]["over"] == found["over_max_length"]
    assert policies["cut"]["end_lost"] == found["over_max_length"]
    assert found["recommended"]["max_length"] >= found["whole"]["max"]
    assert found["batching"]["grouped"]["waste"] <= found["batching"]["random"]["waste"]
    assert main(["tokens", dataset, *options]) == 0
    assert "Recommended" in capsys.readouterr().out


def test_an_epoch_is_estimated_with_its_basis(dataset: str, capsys: pytest.CaptureFixture[str]) -> None:
    found = ran(capsys, "tokens", dataset, "--simulate", "--method", "lora", "--max-length", "4096")
    epoch = found["epoch"]
    assert (epoch["method"], epoch["steps"]) == ("lora", 5)
    assert epoch["seconds"] > 0
    assert epoch["peak_gb"] > 0
    assert "measured runs" in epoch["basis"]
    assert ran(capsys, "tokens", dataset, "--simulate", "--max-length", "1")["epoch"]["problem"] == "No row fits."


def test_parity(dataset: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    found = ran(capsys, "tokens", dataset, "--parity")
    assert found["equal"]
    assert len(found["parity"]) == 11
    monkeypatch.setitem(USES, "serving", lambda asked: [1])
    assert not ran(capsys, "tokens", dataset, "--parity", "--template", "chat", code=1)["equal"]


def test_templates(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert {"template", "kind", "language", "description"} == ran(capsys, "templates")["templates"][0].keys()
    assert main(["templates", "--show", "json-zh"]) == 0
    shown = capsys.readouterr().out
    path = tmp_path / "t.yaml"
    path.write_text(shown.replace("name: json-zh", "name: mine"), "utf-8")
    assert ran(capsys, "templates", "--add", str(path)) == {"template": "mine@1"}
    assert ran(capsys, "templates", "--show", "mine")["template"]["language"] == "zh"


@pytest.mark.parametrize("arguments", [["tokens", "nope"], ["templates", "--show", "nope"], ["templates", "--add", "nope.yaml"]])
def test_wrong_input_exits_with_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 2
    assert "Hint" in capsys.readouterr().err
