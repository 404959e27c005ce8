"""The store: whole or not there, and safe for many writers."""

from __future__ import annotations

import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pyarrow as pa
import pytest
from sqlalchemy.exc import OperationalError

from core.errors import NotFoundError, UserError
from core.records import Conversation, Dataset, Progress, Template, Turn, Version
from core.store import database, datasets, jobs, runs, schema
from core.store.files import area, atomic_file, atomic_folder, check_name, is_complete, tail


def rows(*inputs: str, split: str = "train") -> pa.Table:
    return pa.Table.from_pylist(
        [
            {
                "row_id": f"r{i}",
                "instruction": "",
                "input": text,
                "output": "{}",
                "messages": None,
                "split": split,
                "source": "f",
                "line": i + 1,
                "extra": None,
            }
            for i, text in enumerate(inputs)
        ],
        schema=schema.ROWS,
    )


def save(name: str, number: int, table: pa.Table) -> Version:
    return datasets.save_version(Dataset(name=name), Version(dataset=name, number=number, rows=table.num_rows), table)


def test_a_version_comes_back_as_it_was_written() -> None:
    table = rows("甲\r\n乙", " padded ", "")
    save("set", 1, table)
    assert datasets.read_rows("set").equals(table)
    assert datasets.read_rows("set", columns=["input"], split="train").column_names == ["input"]
    assert datasets.read_rows("set", split="test").num_rows == 0
    assert [v.number for v in datasets.list_versions("set")] == [1]


def test_a_version_number_is_written_once_and_the_first_stays() -> None:
    save("set", 1, rows("first"))
    with pytest.raises(UserError):
        save("set", 1, rows("second"))
    assert datasets.read_rows("set")["input"].to_pylist() == ["first"]
    assert [p.name for p in area("datasets", "set").iterdir()] == ["v0001"]


def test_what_is_not_there_is_named_with_a_way_out() -> None:
    save("set", 1, rows("a"))
    with pytest.raises(NotFoundError) as missing:
        datasets.get_dataset("other")
    assert "set" in missing.value.hint
    with pytest.raises(NotFoundError):
        datasets.get_version("set", 9)


def test_of_many_datasets_the_nearest_are_named() -> None:
    for number in range(12):
        save(f"d{number}", 1, rows("a"))
    save("receipts", 1, rows("a"))
    with pytest.raises(NotFoundError) as missing:
        datasets.get_dataset("reciepts")
    assert missing.value.hint.startswith("Datasets here: receipts, d0, d1, d10,")
    assert "and 3 more." in missing.value.hint


@pytest.mark.parametrize("name", ["../up", "", "a/b", ".hidden", "a" * 81, "ends.", "line\n"])
def test_names_that_could_leave_the_workspace_are_refused(name: str) -> None:
    with pytest.raises(UserError):
        check_name(name)


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("no url at all", "names no database"),
        ("nosuch://someone:secret@host/x", "names no database"),
        ("sqlite:////nowhere/at/all/x.db", "can't be opened: unable to open"),
    ],
)
def test_a_database_that_cannot_be_opened_is_the_users_to_mend(monkeypatch: pytest.MonkeyPatch, url: str, told: str) -> None:
    monkeypatch.setenv("TUNEWISE_DATABASE_URL", url)
    with pytest.raises(UserError, match=told) as fault:
        datasets.list_datasets()
    assert "secret" not in f"{fault.value.message} {fault.value.hint}"


@pytest.mark.parametrize(("free", "told"), [(0, "The disk is full"), (2**40, "can't be opened: disk I/O error")])
def test_a_disk_without_room_for_the_database_is_told_as_such(monkeypatch: pytest.MonkeyPatch, free: int, told: str) -> None:
    def fail(_connection: object) -> None:
        raise OperationalError("", {}, sqlite3.OperationalError("disk I/O error"))

    monkeypatch.setattr(database, "_be_the_writer", fail)
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: SimpleNamespace(free=free))
    with pytest.raises(UserError, match=told):
        datasets.list_datasets()


def test_a_driver_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)
    monkeypatch.setenv("TUNEWISE_DATABASE_URL", "postgresql+psycopg://someone:secret@127.0.0.1:1/x")
    with pytest.raises(UserError, match="psycopg"):
        datasets.list_datasets()


def test_chinese_names_are_names() -> None:
    assert check_name("合同-2024.v1") == "合同-2024.v1"


def test_a_failed_write_leaves_the_old_file_and_no_litter(tmp_path: Path) -> None:
    target = tmp_path / "file"
    target.write_text("old")
    with pytest.raises(RuntimeError), atomic_file(target) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    with pytest.raises(RuntimeError), atomic_folder(tmp_path / "folder") as temporary:
        (temporary / "x").write_text("half")
        raise RuntimeError
    assert target.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["file"]
    with atomic_folder(tmp_path / "folder") as temporary:
        (temporary / "x").write_text("whole")
    assert is_complete(tmp_path / "folder")


def test_a_template_in_use_is_immutable() -> None:
    template = runs.save_template(Template(name="mine", user="{{ input }}"))
    runs.save_template(template.model_copy(update={"user": "still free: {{ input }}"}))
    runs.mark_template_used(template)
    with pytest.raises(UserError):
        runs.save_template(template.model_copy(update={"user": "changed"}))
    runs.save_template(template.model_copy(update={"user": "changed", "version": 2}))
    assert [t.ref for t in runs.list_templates()] == ["mine@1", "mine@2"]


def test_a_conversation_is_kept_and_forgotten() -> None:
    talk = Conversation(conversation_id="c1", name="n", turns=(Turn(role="user", content="你好 😀"),))
    runs.save_conversation(talk)
    assert runs.get_conversation("c1").turns[0].content == "你好 😀"
    runs.delete_conversation("c1")
    with pytest.raises(NotFoundError):
        runs.get_conversation("c1")


def test_a_job_changes_state_only_from_where_it_is_expected() -> None:
    job = jobs.add_job("echo", {"a": "字"}, title="t")
    assert jobs.get_job(job.job_id).payload == {"a": "字"}
    assert jobs.change_job(job.job_id, state="running", expect=["queued"])
    assert not jobs.change_job(job.job_id, state="running", expect=["queued"])
    assert jobs.change_job(job.job_id, progress=Progress(done=3, total=4))
    assert not jobs.get_job(job.job_id).stop_requested
    assert jobs.change_job(job.job_id, stop_requested=True, progress=Progress(done=4, total=4))
    assert jobs.get_job(job.job_id).stop_requested
    jobs.change_job(job.job_id, state="failed", error="why")
    ended = jobs.get_job(job.job_id)
    assert (ended.state, ended.error, ended.progress.done, ended.ended_at is not None) == ("failed", "why", 4, True)


def test_metrics_of_a_repeated_step_are_replaced_not_doubled() -> None:
    jobs.add_metrics("j", [(1, {"loss": 2.0}), (2, {"loss": 1.0})])
    jobs.add_metrics("j", [(2, {"loss": 0.5, "lr": 0.1}), (3, {"loss": 0.4})])
    assert jobs.read_metrics("j") == [{"step": 1, "loss": 2.0}, {"step": 2, "loss": 0.5, "lr": 0.1}, {"step": 3, "loss": 0.4}]


def test_many_processes_write_at_once_and_nothing_is_lost(workspace: Path) -> None:
    code = "from core.store import jobs\nfor i in range(10): jobs.add_job('echo', {'i': i})"
    workers = [subprocess.Popen([sys.executable, "-c", code]) for _ in range(4)]
    assert [w.wait() for w in workers] == [0] * 4
    assert len(jobs.list_jobs()) == 40


def test_the_tail_of_a_log(tmp_path: Path) -> None:
    path = tmp_path / "log.txt"
    assert tail(path, 2) == ""
    path.write_text("".join(f"line {n}\n" for n in range(5000)), "utf-8")
    assert tail(path, 2) == "line 4998\nline 4999"
    path.write_bytes("一行\n半".encode()[:-1])  # written to the middle of a character
    assert tail(path, 9) == "一行\n\ufffd"
