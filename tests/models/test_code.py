"""A model's own code runs only once somebody has seen exactly these files and trusted them."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from core.__main__ import main
from core.errors import ModelError
from core.models import code
from core.models.catalogue import parse_model, resolve
from core.models.load import load_model
from tests.models.stand_in_hub import StandIn, stand_in
from tests.tiny import make_tiny_model

CONFIGURATION = b"""from transformers import LlamaConfig


class OwnConfig(LlamaConfig):
    model_type = "own-of-the-tests"
"""
MODELLING = b"""from transformers import LlamaForCausalLM

from .configuration_own import OwnConfig


class OwnForCausalLM(LlamaForCausalLM):
    config_class = OwnConfig
"""
MAP = {"AutoConfig": "configuration_own.OwnConfig", "AutoModelForCausalLM": "modeling_own.OwnForCausalLM"}


@pytest.fixture(scope="module")
def modules(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where transformers copies code to; one for the process, since it is imported from there."""
    return tmp_path_factory.mktemp("modules")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, modules: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUNEWISE_MODEL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(modules))


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_model(tmp_path_factory.mktemp("plain"))


@pytest.fixture
def folder(plain: Path, tmp_path: Path) -> Path:
    """A model that transformers can't load without its code."""
    made = tmp_path / "own"
    made.mkdir()
    for file in plain.iterdir():
        (made / file.name).write_bytes(file.read_bytes())
    config = json.loads((made / "config.json").read_text())
    (made / "config.json").write_text(json.dumps({**config, "model_type": "own-of-the-tests", "auto_map": MAP}))
    (made / "configuration_own.py").write_bytes(CONFIGURATION)
    (made / "modeling_own.py").write_bytes(MODELLING)
    return made


@pytest.fixture
def server(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[StandIn]:
    with stand_in({path.name: path.read_bytes() for path in folder.iterdir()}) as made:
        monkeypatch.setenv("TUNEWISE_HUB_ENDPOINT", made.url)
        monkeypatch.setenv("TUNEWISE_MODELSCOPE_ENDPOINT", made.url)
        monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
        yield made


def test_a_folders_code_is_refused_shown_trusted_and_refused_again_when_it_changes(folder: Path) -> None:
    ref = parse_model(str(folder))
    with pytest.raises(ModelError, match="can't be loaded") as caught:
        load_model(ref, device="cpu")
    assert f"models --code {folder}" in caught.value.hint
    found = code.code_of(ref)
    assert [(f.path, f.entry, f.content) for f in found.files] == [
        ("configuration_own.py", True, CONFIGURATION),
        ("modeling_own.py", True, MODELLING),
    ]
    with pytest.raises(ModelError, match="is not the one of"):
        code.trust(ref, "0" * 16)
    assert code.trusted(ref) is None
    code.trust(ref, found.digest)
    assert type(load_model(ref, device="cpu").model).__name__ == "OwnForCausalLM"
    (folder / "modeling_own.py").write_bytes(MODELLING + b"# changed\n")
    with pytest.raises(ModelError, match="has changed since"):
        load_model(ref, device="cpu")
    (folder / "modeling_own.py").write_bytes(MODELLING)
    (folder / "another.py").write_bytes(b"import os\n")  # a file that could be imported by the others
    with pytest.raises(ModelError, match="has changed since"):
        load_model(ref, device="cpu")
    (folder / "another.py").unlink()
    code.distrust(ref)
    with pytest.raises(ModelError, match="can't be loaded"):
        load_model(ref, device="cpu")


@pytest.mark.parametrize("source", ["hub", "modelscope"])
def test_a_hubs_code_is_fetched_only_to_be_looked_at_and_its_revision_is_pinned(server: StandIn, source: str) -> None:
    ref = parse_model(f"{source}:org/model")
    assert not list(resolve(ref).glob("*.py"))
    with pytest.raises(ModelError, match="can't be loaded"):
        load_model(ref, device="cpu")
    found = code.code_of(ref)
    assert found.revision == ("c0ffee" if source == "hub" else "master")
    code.trust(ref, found.digest)
    server.commit, server.files["modeling_own.py"] = "decaf", b"raise SystemExit"
    assert type(load_model(ref, device="cpu").model).__name__ == "OwnForCausalLM"
    other = parse_model(f"{source}:org/model", revision="decaf")
    assert code.trusted(other) is None
    with pytest.raises(ModelError, match="can't be loaded"):
        load_model(other, device="cpu")


def test_trusting_one_version_says_nothing_of_the_next_and_each_runs_its_own(folder: Path, tmp_path: Path) -> None:
    """transformers keeps classes by the folder's name until the process ends; here both folders have the same name."""
    ref = parse_model(str(folder))
    code.trust(ref, code.code_of(ref).digest)
    first = load_model(ref, device="cpu").model
    other = tmp_path / "next" / folder.name
    shutil.copytree(folder, other)
    (other / "modeling_own.py").write_bytes(MODELLING + b"    version = 2\n")
    newer = parse_model(str(other))
    with pytest.raises(ModelError, match="can't be loaded") as caught:
        load_model(newer, device="cpu")
    assert f"models --code {other}" in caught.value.hint
    code.trust(newer, code.code_of(newer).digest)
    assert load_model(newer, device="cpu").model.version == 2
    assert not hasattr(load_model(ref, device="cpu").model, "version")
    assert type(load_model(ref, device="cpu").model) is type(first)
    code.distrust(ref)
    with pytest.raises(ModelError, match="can't be loaded"):  # though its classes are still in this process
        load_model(ref, device="cpu")
    assert load_model(newer, device="cpu").model.version == 2


def test_code_that_makes_itself_known_to_the_process_is_run_for_no_other_model(folder: Path, tmp_path: Path) -> None:
    def write(where: Path, version: int) -> None:
        known = CONFIGURATION.replace(b"own-of-the-tests", b"own-that-registers") + f"    version = {version}\n\n\n".encode()
        known += b"from transformers import AutoConfig\n\nAutoConfig.register('own-that-registers', OwnConfig, exist_ok=True)\n"
        (where / "configuration_own.py").write_bytes(known)

    write(folder, 1)
    (folder / "config.json").write_text((folder / "config.json").read_text().replace("own-of-the-tests", "own-that-registers"))
    ref = parse_model(str(folder))
    code.trust(ref, code.code_of(ref).digest)
    load_model(ref, device="cpu")
    other = tmp_path / "next"
    shutil.copytree(folder, other)
    write(other, 2)
    newer = parse_model(str(other))
    code.trust(newer, code.code_of(newer).digest)
    with pytest.raises(ModelError, match="this process has loaded another") as caught:
        load_model(newer, device="cpu")
    assert "Restart the server" in caught.value.hint
    fresh = "import sys; from core.models.catalogue import parse_model; from core.models.load import load_model\n"
    fresh += "print(load_model(parse_model(sys.argv[1]), device='cpu').model.config.version)"
    done = subprocess.run([sys.executable, "-c", fresh, str(other)], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "2", done.stderr
    code.distrust(ref)
    with pytest.raises(ModelError, match=r"this process has loaded another|can't be loaded"):
        load_model(ref, device="cpu")


def test_weights_that_come_after_the_trust_are_of_its_revision(server: StandIn) -> None:
    ref = parse_model("hub:org/model")
    code.trust(ref, code.code_of(ref).digest)
    server.asked.clear()
    resolve(ref)
    assert server.asked[0][0].endswith("/revision/c0ffee")


def test_what_there_is_nothing_to_trust_of(plain: Path, folder: Path) -> None:
    for text in (str(plain), "default"):
        with pytest.raises(ModelError, match="no code of its own"):
            code.code_of(parse_model(text))
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "auto_map": {"AutoModel": "other/place--modeling.Own"}}))
    with pytest.raises(ModelError, match=r"another repository \(other/place\)"):
        code.code_of(parse_model(str(folder)))


def test_code_that_fails_is_no_bug_of_ours(folder: Path) -> None:
    for name in ("config.json", "configuration_own.py"):  # a process keeps the classes of a kind it has loaded
        path = folder / name
        path.write_bytes(path.read_bytes().replace(b"own-of-the-tests", b"own-that-fails").replace(b"OwnConfig", b"FailsConfig"))
    (folder / "modeling_own.py").write_bytes(b"import nothing_of_this_name_is_installed\n")
    ref = parse_model(str(folder))
    code.trust(ref, code.code_of(ref).digest)
    with pytest.raises(ModelError, match=r"can't be loaded|own code fails"):
        load_model(ref, device="cpu")


def test_the_command_shows_and_trusts(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", "--code", str(folder)]) == 0
    output = capsys.readouterr().out
    digest = code.code_of(parse_model(str(folder))).digest
    assert "class OwnForCausalLM(LlamaForCausalLM):" in output
    assert f"--trust {digest}" in output
    assert main(["models", "--code", str(folder), "--trust", "1" * 16]) == 2
    assert "is not the one of" in capsys.readouterr().err
    assert main(["models", "--code", str(folder), "--trust", digest, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["digest"], found["trusted"], len(found["files"])) == (digest, True, 2)
    assert found["files"][1]["text"] == MODELLING.decode()
    assert code.trusted(parse_model(str(folder))) is not None
