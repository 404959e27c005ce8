"""What doctor sees, and that looking costs nothing."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from core.__main__ import main
from core.doctor import examination, hardware, libraries, trial
from core.errors import SpecError
from core.models.default import is_converted
from core.records import ModelRef
from tests.prompts.toys import byte_level

H100 = "0, NVIDIA H100 80GB HBM3, 81559, 1024, 570.86.15, 9.0, 3\n1, NVIDIA H100 80GB HBM3, 81559, 81559, 570.86.15, 9.0, [N/A]\n"


def test_gpus_are_read_from_nvidia_smi() -> None:
    first, second = hardware.parse_gpus(H100)
    assert first.name == "NVIDIA H100 80GB HBM3"
    assert (first.memory_gb, first.free_gb, first.busy_percent) == (85.5, 84.4, 3)
    assert (second.free_gb, second.busy_percent) == (0.0, None)


@pytest.mark.parametrize("text", ["", "No devices were found\n", "0, Card, [N/A], [N/A], 1, 9.0, 1\n"])
def test_no_gpu_where_nvidia_smi_says_nothing_useful(text: str) -> None:
    assert hardware.parse_gpus(text) == ()


def test_capabilities_grow_with_the_free_memory() -> None:
    gpus = hardware.parse_gpus(H100)
    (with_gpu, several) = hardware.capabilities(gpus, 16, torch_for_gpu=True)
    assert "up to about 31.3 billion" in with_gpu
    assert "2 GPUs" in several
    (unusable,) = hardware.capabilities(gpus, 16, torch_for_gpu=False)
    assert "this torch can't use it" in unusable
    (without,) = hardware.capabilities((), 16, torch_for_gpu=True)
    assert without.startswith("No GPU")


def test_versions_are_held_against_the_pins(monkeypatch: pytest.MonkeyPatch) -> None:
    found = {"torch": "2.13.0+cpu", "transformers": "4.0.0"}
    monkeypatch.setattr(libraries, "version_of", found.get)
    findings = {finding.name: finding for finding in libraries.needed_libraries(has_gpu=True)}
    assert findings["torch"].state == "warning"
    assert "CUDA build" in findings["torch"].remedy
    assert findings["transformers"].state == "warning"
    assert libraries.pins()["transformers"] in findings["transformers"].remedy
    assert findings["peft"].state == "missing"
    assert {f.name: f.state for f in libraries.needed_libraries(has_gpu=False)}["torch"] == "ok"


def test_every_needed_library_is_pinned() -> None:
    assert set(libraries.NEEDED) <= set(libraries.pins())


def test_a_workspace_that_cannot_be_made_is_a_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blocker = tmp_path / "file"
    blocker.write_text("")
    monkeypatch.setenv("TUNEWISE_WORKSPACE", str(blocker / "workspace"))
    finding = examination.storage()[0]
    assert finding.state == "fault"
    assert "TUNEWISE_WORKSPACE" in finding.remedy


def test_doctor_makes_no_workspace(workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor"]) in (0, 1)
    assert not workspace.exists()
    text = capsys.readouterr().out
    assert "flash-attn" in text
    assert "None" not in text


def test_json_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    main(["doctor", "--json"])
    (line,) = capsys.readouterr().out.splitlines()
    report = json.loads(line)
    assert {"machine", "gpus", "libraries", "optional", "storage", "model", "can", "faults"} <= set(report)
    assert {"bitsandbytes"} <= {library["name"] for library in report["libraries"]}


def test_looking_does_not_import_torch() -> None:
    code = "import sys; from core.doctor.examination import examine; examine(); print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=Path(__file__).parents[2])
    assert done.stdout.strip() == "False"


@pytest.mark.model
@pytest.mark.skipif(not is_converted(), reason="the default model is not in the cache")
def test_a_tiny_generation() -> None:
    said = trial.try_generation()
    assert 0 < said.tokens <= 16
    assert said.tokens_per_second > 0
    assert (said.device, said.decoding) != ("", "")


def test_a_trial_runs_a_chat_template_under_a_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    tokenizer = byte_level("{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}")

    @contextmanager
    def using(_: ModelRef) -> Iterator[Any]:
        yield SimpleNamespace(tokenizer=tokenizer)

    def unbounded(*_: object, **__: object) -> str:
        raise AssertionError("a foreign template is run without a budget")

    monkeypatch.setattr(type(tokenizer), "apply_chat_template", unbounded)
    monkeypatch.setattr("core.prompts.budget.SECONDS", 0.2)
    with pytest.raises(SpecError, match="takes too much"):
        trial.try_generation(using)


@pytest.mark.parametrize("arguments", [["docter"], ["doctor", "--generat"], ["import"], ["show", "a", "--limit", "many"]])
def test_a_wrong_command_line_ends_with_2_and_a_hint(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("Error: ")
    assert "--help" in printed.err
