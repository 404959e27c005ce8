"""What is served for a run, who gets the device, and a server as a process: command, registry, key, end."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import openai
import pytest

from core.errors import NotFoundError, SpecError, UserError
from core.evaluation.metrics.generation import has_han
from core.jobs.claims import claim_device, release_device, watch_claim, who_holds
from core.jobs.processes import is_living
from core.prompts.templates import find_template
from core.records import DatasetUse, ModelRef, Run, TrainSpec
from core.serving import clients, registry
from core.serving.faults import UnavailableError
from core.serving.holder import Holder, take_device
from core.serving.keys import VARIABLE, key_from
from core.serving.served import Plan, plan_serving
from core.serving.server import listen
from core.store.database import write
from core.store.files import area, write_json
from core.store.jobs import add_job
from core.store.runs import run_folder, save_run
from core.store.tables import ClaimRow


def make_run(name: str, folder: Path, adapter: Path | None = None, *, template: str = "chat", **spec: Any) -> Run:
    """A finished run with an adapter's files."""
    model = ModelRef(source="path", name=str(folder), dtype="float32")
    made = Run(
        run_id=f"run-{name}",
        name=name,
        spec=TrainSpec(model=model, data=(DatasetUse(dataset="gone"),), **({"method": "lora"} | spec)),
        template=find_template(template),
        complete=True,
    )
    if adapter is not None:
        shutil.copytree(adapter, run_folder(made.run_id) / "adapter")
        write_json(run_folder(made.run_id) / "adapter" / "manifest.json", {})
    return save_run(made)


def test_a_plan_names_runs_and_their_base(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    make_run("first", tmp_path, tmp_path / "a", template="instruct")
    make_run("second", tmp_path, tmp_path / "a")
    plan = plan_serving("first", ["run-second", "first"])
    assert [m.name for m in plan.models] == ["first", "second", tmp_path.name]
    assert [m.template.name for m in plan.models] == ["instruct", "chat", "instruct"]
    assert plan.find("base") is plan.models[-1]
    assert plan.find("run-second").adapter == "run-second"
    with pytest.raises(NotFoundError, match="none"):
        plan.find("none")


def test_a_plan_refuses_what_does_not_go_together(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    make_run("first", tmp_path, tmp_path / "a")
    make_run("other", tmp_path / "elsewhere", tmp_path / "a")
    make_run("four-bit", tmp_path, tmp_path / "a", method="qlora")
    make_run("unfinished", tmp_path)
    for name, said in {"other": "trained on", "four-bit": "nf4", "unfinished": "no finished result"}.items():
        with pytest.raises(SpecError, match=said):
            plan_serving("first", [name])


def test_whole_weights_are_served_by_themselves(tmp_path: Path) -> None:
    make_run("whole", tmp_path, method="full")
    folder = run_folder("run-whole") / "model"
    write_json(folder / "manifest.json", {})
    plan = plan_serving("whole")
    assert plan.model.name == str(folder)
    assert [(m.name, m.adapter) for m in plan.models] == [("whole", None)]


class FakeBackend:
    """A model that takes no time."""

    opened = 0

    def __init__(self, plan: Plan, device: str) -> None:
        FakeBackend.opened += 1
        self.closed = False

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def holder() -> Any:
    FakeBackend.opened = 0
    made = Holder(Plan(ModelRef(), ()), "cpu", FakeBackend, patience=2, watch_every=0.05)
    yield made
    made.close()


def until(true: Any) -> bool:
    deadline = time.monotonic() + 60
    while not true() and time.monotonic() < deadline:
        time.sleep(0.02)
    return bool(true())


def want(device: str) -> None:
    with write() as session:
        row = session.get_one(ClaimRow, device)
        row.wanted = True
        session.add(row)


def test_the_holder_lets_go_when_it_is_wanted_but_not_while_it_answers(holder: Holder) -> None:
    with holder.using() as backend:
        want("cpu")
        time.sleep(0.2)
        assert holder.ready
        assert not backend.closed
    assert until(lambda: not holder.ready)
    assert backend.closed
    assert until(lambda: who_holds("cpu") is None)
    with holder.using():
        assert FakeBackend.opened == 2


def test_a_job_that_has_the_device_is_named_and_nobody_waits_twice(holder: Holder) -> None:
    job = add_job("sleep", {"device": "cpu"}, title="Train x", device="cpu")
    with write() as session:
        from core.records import now

        session.add(ClaimRow(device="cpu", holder=f"job-{job.job_id}", pid=os.getpid(), pid_started=0, since=now()))
    assert "Train x" in holder.warm()
    started = time.monotonic()
    with pytest.raises(UnavailableError, match="Train x"), holder.using():
        pass
    assert time.monotonic() - started < 1.5


def test_an_idle_chat_gives_way(holder: Holder) -> None:
    assert claim_device("cpu", "chat-1")
    assert not take_device("cpu", "serve-x", 0.2)  # it doesn't look
    watch_claim("cpu", "chat-1", lambda: True, every=0.05)
    assert holder.warm() == ""
    assert (who_holds("cpu") or "").startswith("serve-")
    release_device("cpu", who_holds("cpu") or "")


def test_a_model_that_cannot_be_loaded_frees_the_device() -> None:
    def broken(plan: Plan, device: str) -> Any:
        raise UserError("no such model")

    holder = Holder(Plan(ModelRef(), ()), "cpu", broken)
    with pytest.raises(UserError, match="no such model"):
        holder.warm()
    with pytest.raises(UnavailableError, match="no such model"), holder.using():
        pass
    assert who_holds("cpu") is None


def test_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    made, told = key_from(None)
    assert told
    assert made != key_from(None)[0]
    monkeypatch.setenv(VARIABLE, "from-the-environment")
    assert key_from(None) == ("from-the-environment", False)
    assert VARIABLE not in os.environ
    assert key_from("given") == ("given", False)
    for bad in ("", "two words", "钥匙", "line\n"):
        with pytest.raises(SpecError):
            key_from(bad)


def test_a_port_that_is_taken_is_a_fault() -> None:
    with listen("127.0.0.1", 0) as sock, pytest.raises(SpecError, match="can't be listened on"):
        listen("127.0.0.1", sock.getsockname()[1])
    with pytest.raises(SpecError, match=r"no address|can't be listened on"):
        listen("203.0.113.7", 0)


def test_the_clients_can_be_copied(tmp_path: Path) -> None:
    odd = """it's "quoted" $HOME 抽取\n要素"""
    code = clients.python("http://127.0.0.1:1/v1", "name'\"", odd, odd)
    compile(code, "client", "exec")
    assert VARIABLE in code
    script = clients.curl("http://127.0.0.1:1/v1", "name'\"", odd, odd).replace("curl ", "printf '%s\\n' ", 1)
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True, env={VARIABLE: "the-key"})
    assert "Authorization: Bearer the-key" in done.stdout
    body = json.loads(done.stdout.partition("-d\n")[2])
    assert [message["content"] for message in body["messages"]] == [odd, odd]
    assert body["model"] == "name'\""


@pytest.mark.parametrize(
    ("template", "instruction", "language"),
    [("json-en", "抽取要素", "en"), ("json-zh", "Extract", "zh"), ("", "抽取要素", "zh"), ("", "Extract", "en"), ("", "", "en")],
)
def test_the_example_is_in_the_language_of_the_runs_template(
    folder: Path, adapters: dict[str, Path], template: str, instruction: str, language: str
) -> None:
    make_run("one", folder, adapters["one"])
    plan = plan_serving("one")
    own = plan.models[0].template.model_copy(update={"language": find_template(template).language if template else ""})
    server = registry.Server.here("127.0.0.1", 1, replace(plan, models=(replace(plan.models[0], template=own),)), 0.0)
    asked = clients.curl(server.url, "one", instruction, clients.example(server.language, instruction))
    assert has_han(asked.replace(instruction, "")) == (language == "zh")


def test_a_server_as_a_process(folder: Path, adapters: dict[str, Path], workspace: Path) -> None:
    make_run("one", folder, adapters["one"])
    launched = registry.launch("one")
    assert until(lambda: is_living(launched.pid, launched.started))
    deadline = time.monotonic() + 60
    while (server := launched.server) is None and time.monotonic() < deadline:
        time.sleep(0.1)
    assert server is not None, registry.log_tail(launched.pid)
    try:
        assert until(lambda: registry.health(server) == "ok")
        assert server.models == ("one", folder.name)
        assert registry.list_servers() == [server]
        assert (who_holds("cpu") or "").startswith(f"serve-{server.pid}")
        client = openai.OpenAI(base_url=server.url, api_key=launched.key, max_retries=0)
        messages: Any = [{"role": "user", "content": "Anna Berg"}]
        assert client.chat.completions.create(model="one", messages=messages, max_tokens=4).usage.completion_tokens <= 4
        with pytest.raises(openai.AuthenticationError):
            openai.OpenAI(base_url=server.url, api_key="x", max_retries=0).models.list()
        kept = b"".join(path.read_bytes() for path in workspace.rglob("*") if path.is_file())
        assert b"/v1/chat/completions" in kept
        assert launched.key.encode() not in kept
        assert b"FutureWarning" not in kept
    finally:
        registry.stop_server(server)
    assert not is_living(server.pid, server.started)
    assert registry.list_servers() == []
    assert who_holds("cpu") is None
    assert not list(area("serving").glob("*.json"))


def test_a_server_that_cannot_start_says_why(workspace: Path) -> None:
    launched = registry.launch("none")
    with pytest.raises(UserError, match="There is no run 'none'") as caught:
        assert until(lambda: launched.server)
    assert "runs" in caught.value.hint


def test_the_command_is_there() -> None:
    done = subprocess.run([sys.executable, "-m", "core", "serve", "--help"], capture_output=True, text=True, check=True)
    assert "--also" in done.stdout
