"""What takes up disk, and deleting with everything that hangs on it, which is told before.

A record is forgotten in one transaction before its files go, so that a crash in between leaves files that
nothing names (counted as ``leftovers``), never a record without its files. Knows nothing of pages.
"""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from sqlalchemy import delete, make_url
from sqlmodel import Session, col

from core.errors import SpecError, UserError
from core.records import LIVE_STATES, Arm, Evaluation, Run
from core.settings import get_settings
from core.store.database import write
from core.store.datasets import get_dataset, get_version, list_datasets, list_versions, version_folder
from core.store.files import area, workspace
from core.store.jobs import list_jobs
from core.store.runs import (
    evaluation_folder,
    get_conversation,
    get_evaluation,
    get_run,
    list_conversations,
    list_evaluations,
    list_runs,
    run_folder,
)
from core.store.tables import ConversationRow, DatasetRow, EvaluationRow, JobRow, MetricRow, RunRow, VersionRow

Kind = Literal["dataset", "version", "run", "evaluation", "conversation"]
KINDS: tuple[Kind, ...] = ("dataset", "version", "run", "evaluation", "conversation")


@dataclass(frozen=True, slots=True)
class Item:
    """Something on disk with its size in bytes."""

    kind: str
    name: str
    bytes: int


@dataclass(frozen=True, slots=True)
class Deletion:
    """What a deletion takes with it (``goes``, the thing itself first), and what stays but refers to it (``stays``)."""

    goes: tuple[Item, ...]
    stays: tuple[str, ...] = ()

    @property
    def bytes(self) -> int:
        """Disk space that it frees."""
        return sum(item.bytes for item in self.goes)


def size_of(path: Path) -> int:
    """Bytes of a file or of all files under a folder; 0 if there is none. Links aren't followed."""
    if path.is_file():
        return path.lstat().st_size
    total = 0
    for folder, _, files in os.walk(path):
        for name in files:
            try:
                total += os.lstat(os.path.join(folder, name)).st_size
            except FileNotFoundError:
                continue  # written or removed by another process meanwhile
    return total


def usage() -> list[Item]:
    """Disk use of everything, the largest first: datasets, runs, evaluations, jobs, caches, the database, the model cache."""
    root = workspace()
    known = {"datasets": {d.name for d in list_datasets()}, "runs": {r.run_id for r in list_runs()}}
    known |= {"evaluations": {e.evaluation_id for e in list_evaluations()}, "jobs": {j.job_id for j in list_jobs()}}
    items = [Item("database", path.name, size_of(path)) for path in _database_files()]
    for folder in sorted(path for path in root.iterdir() if path.is_dir()):
        if folder.name not in known:
            items.append(Item("cache" if folder.name == "cache" else "other", folder.name, size_of(folder)))
            continue
        kind = folder.name.removesuffix("s")
        for entry in sorted(folder.iterdir()):
            items.append(Item(kind if entry.name in known[folder.name] else "leftovers", entry.name, size_of(entry)))
    cache = get_settings().model_cache
    items.append(Item("models", str(cache), size_of(cache)))
    return sorted(items, key=lambda item: -item.bytes)


def _database_files() -> list[Path]:
    """SQLite's file and what it keeps beside it, wherever that lies; none of another database."""
    url = make_url(get_settings().database)
    if url.get_backend_name() != "sqlite" or not url.database:
        return []
    path = Path(url.database)
    return sorted(found for end in ("", "-wal", "-shm") if (found := path.with_name(path.name + end)).is_file())


# ---------------------------------------------------------------- what hangs on what


def what_goes(kind: str, name: str) -> Deletion:
    """What deleting would take with it. ``name``: a dataset, ``dataset@number``, a run, evaluation or conversation.

    NotFoundError for what isn't there; UserError for what can't be deleted now.
    """
    if kind == "dataset":
        return _of_dataset(name)
    if kind == "version":
        return _of_version(*_version_named(name))
    if kind == "run":
        return _of_run(get_run(name))
    if kind == "evaluation":
        return Deletion(_evaluation_items([get_evaluation(name)]))
    if kind == "conversation":
        return Deletion((Item("conversation", get_conversation(name).conversation_id, 0),))
    raise SpecError(f"Nothing of kind {kind!r} can be deleted", f"Kinds: {', '.join(KINDS)}.")


def _version_named(name: str) -> tuple[str, int]:
    dataset, sign, number = name.rpartition("@")
    if not sign or not number.removeprefix("v").isdigit():
        raise SpecError(f"{name!r} names no version", "Write dataset@number, for example samples@2.")
    return dataset, int(number.removeprefix("v"))


def _evaluation_items(evaluations: list[Evaluation]) -> tuple[Item, ...]:
    for evaluation in evaluations:
        _check_ended(evaluation.job_id, f"evaluation {evaluation.evaluation_id}")
    return tuple(
        Item("evaluation", e.evaluation_id, size_of(evaluation_folder(e.evaluation_id)) + _job_bytes(e.job_id))
        for e in evaluations
    )


def _job_bytes(job_id: str) -> int:
    return size_of(area("jobs", job_id)) if job_id else 0


def _check_ended(job_id: str, what: str) -> None:
    if job_id in {job.job_id for job in list_jobs({"queued", *LIVE_STATES})}:
        raise UserError(f"The job of {what} hasn't ended", f"Stop it first: `python -m core stop {job_id}`.")


def _of_dataset(name: str) -> Deletion:
    get_dataset(name)
    versions = list_versions(name)
    items = [Item("dataset", name, size_of(area("datasets", name)))]
    items += [Item("version", f"{name}@{version.number}", 0) for version in versions]
    runs = [run for run in list_runs() if _uses(run, name)]
    for run in runs:
        _check_ended(run.job_id, f"run {run.name or run.run_id}")
    return Deletion((*items, *_evaluation_items(list_evaluations(name))), _told_runs(runs))


def _uses(run: Run, dataset: str, number: int | None = None) -> bool:
    uses = [*run.spec.data, *([run.spec.dev] if run.spec.dev else [])]
    if all(use.dataset != dataset for use in uses):
        return False
    used = {*run.data_versions.get(dataset, ()), *(use.version for use in uses if use.dataset == dataset)}
    return number is None or number in used


def _told_runs(runs: list[Run]) -> tuple[str, ...]:
    return tuple(f"run {run.name or run.run_id} stays usable, but can't be trained again on these rows" for run in runs)


def _of_version(name: str, number: int) -> Deletion:
    version = get_version(name, number)
    if number == list_versions(name)[-1].number:
        raise UserError(
            f"Version {number} of {name!r} is the latest and can't be deleted", "Undo its last step, or delete the dataset."
        )
    runs = [run for run in list_runs() if _uses(run, name, number)]
    evaluations = [e for e in list_evaluations(name) if e.version == version.number]
    for run in runs:
        _check_ended(run.job_id, f"run {run.name or run.run_id}")
    item = Item("version", f"{name}@{number}", size_of(version_folder(name, number)))
    return Deletion((item, *_evaluation_items(evaluations)), _told_runs(runs))


def _asks(arm: Arm, run: Run) -> bool:
    """Whether an arm answers with a run: with its adapter, or with the model of its own that a full tuning made."""
    if arm.run is not None:
        return arm.run == run.run_id or (arm.run == run.name and get_run(run.name).run_id == run.run_id)
    return arm.model.source == "path" and Path(arm.model.name).absolute().is_relative_to(run_folder(run.run_id))


def _of_run(run: Run) -> Deletion:
    _check_ended(run.job_id, f"run {run.name or run.run_id}")
    evaluations = [e for e in list_evaluations() if _asks(e.spec.arm, run)]
    item = Item("run", run.run_id, size_of(run_folder(run.run_id)) + _job_bytes(run.job_id))
    talks = [c for c in list_conversations() if any(_asks(arm, run) for arm in c.arms)]
    return Deletion(
        (item, *_evaluation_items(evaluations)), tuple(f"conversation {c.name} stays, but can't be continued" for c in talks)
    )


# ---------------------------------------------------------------- deleting


def delete_with_all(kind: str, name: str) -> Deletion:
    """Delete something with what hangs on it (see ``what_goes``); returns what went."""
    deletion = what_goes(kind, name)
    folders: list[Path] = []
    with write() as session:
        for item in deletion.goes:
            folders += _forget(session, item)
    for folder in folders:
        _remove(folder)
    return deletion


def _forget(session: Session, item: Item) -> list[Path]:
    if item.kind == "dataset":
        session.execute(delete(VersionRow).where(col(VersionRow.dataset) == item.name))
        session.execute(delete(DatasetRow).where(col(DatasetRow.name) == item.name))
        return [area("datasets", item.name), area("cache", "lengths", item.name)]
    if item.kind == "version":
        dataset, number = _version_named(item.name)
        session.execute(delete(VersionRow).where(col(VersionRow.dataset) == dataset, col(VersionRow.number) == number))
        return [version_folder(dataset, number), area("cache", "lengths", dataset, f"v{number:04d}")]
    if item.kind == "run":
        row = session.get(RunRow, item.name)
        job = row.job_id if row else ""
        session.execute(delete(RunRow).where(col(RunRow.run_id) == item.name))
        return [run_folder(item.name), *_forget_job(session, job)]
    if item.kind == "evaluation":
        found = session.get(EvaluationRow, item.name)
        job = found.job_id if found else ""
        session.execute(delete(EvaluationRow).where(col(EvaluationRow.evaluation_id) == item.name))
        return [evaluation_folder(item.name), *_forget_job(session, job)]
    session.execute(delete(ConversationRow).where(col(ConversationRow.conversation_id) == item.name))
    return []


def _forget_job(session: Session, job_id: str) -> list[Path]:
    if not job_id:
        return []
    session.execute(delete(MetricRow).where(col(MetricRow.job_id) == job_id))
    session.execute(delete(JobRow).where(col(JobRow.job_id) == job_id))
    return [area("jobs", job_id)]


def _remove(folder: Path) -> None:
    """Take a folder out of sight at once, then remove it, so that a reader never sees half of it."""
    if folder.is_symlink():
        folder.unlink()
    if not folder.exists():
        return
    aside = folder.with_name(f".{folder.name}.{os.getpid()}.deleted")
    try:
        os.replace(folder, aside)
    except OSError:
        aside = folder
    shutil.rmtree(aside, ignore_errors=True)
