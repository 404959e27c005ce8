"""Datasets and their versions: records in the database, rows, ledger and quarantine in Parquet.

A version's folder is complete or absent; the database names it only after its folder is complete,
so a crash at any moment leaves the old versions whole.
"""

from __future__ import annotations

import difflib
import os
import re
import shutil
import threading
import time
from bisect import bisect_right
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from sqlmodel import col, select

from core.errors import ConflictError, NotFoundError
from core.records import Dataset, Version
from core.store import schema
from core.store.database import read, write
from core.store.files import area, atomic_folder, check_name, is_complete, write_parquet
from core.store.tables import DatasetRow, VersionRow

_NAMED = 10
"""Names that a message lists at most, those like the one asked for first."""
_VERSION_LIKE = re.compile(r"^\.?v\d{4,}(\.|$)")


def list_datasets() -> list[Dataset]:
    """All datasets, by name."""
    with read() as session:
        return [Dataset.model_validate_json(r.record) for r in session.exec(select(DatasetRow).order_by(DatasetRow.name))]


def find_dataset(name: str) -> Dataset | None:
    """A dataset, or nothing."""
    with read() as session:
        row = session.get(DatasetRow, name)
    return Dataset.model_validate_json(row.record) if row else None


def get_dataset(name: str) -> Dataset:
    """A dataset; NotFoundError if there is none of that name."""
    found = find_dataset(name)
    if found is None:
        names = [d.name for d in list_datasets()]
        near = list(dict.fromkeys([*difflib.get_close_matches(name, names), *names]))[:_NAMED]
        told = (", ".join(near) or "none yet") + (f" and {len(names) - len(near):,} more" if len(names) > len(near) else "")
        raise NotFoundError(f"There is no dataset {name!r}", f"Datasets here: {told}. `python -m core import` adds one.")
    return found


def list_versions(name: str) -> list[Version]:
    """All versions of a dataset, the first one first."""
    get_dataset(name)
    with read() as session:
        rows = session.exec(select(VersionRow).where(VersionRow.dataset == name).order_by(col(VersionRow.number)))
        return [Version.model_validate_json(r.record) for r in rows]


def get_version(name: str, number: int | None = None) -> Version:
    """A version of a dataset; the latest when no number is given."""
    versions = list_versions(name)
    if number is None and versions:
        return versions[-1]
    for version in versions:
        if version.number == number:
            return version
    raise NotFoundError(
        f"Dataset {name!r} has no version {number}", f"Its versions: {', '.join(str(v.number) for v in versions)}."
    )


def save_version(
    dataset: Dataset, version: Version, rows: pa.Table, ledger: pa.Table | None = None, quarantine: pa.Table | None = None
) -> Version:
    """Write a new version whole, then name it in the database (and the dataset, if new or changed).

    ``rows``, ``ledger`` and ``quarantine`` have the columns of ``core.store.schema``. ``version.number``
    must be the next one; two writers at once: the second gets a ConflictError and nothing of it stays.
    """
    check_name(dataset.name, "dataset name")
    folder = version_folder(dataset.name, version.number)
    with read() as session:
        taken = session.get(VersionRow, (dataset.name, version.number)) is not None
    if taken:
        raise _taken(dataset, version)
    own = folder.with_name(f"{folder.name}.{os.getpid()}.{threading.get_ident()}")  # two sessions of a server may both write
    with atomic_folder(own, version.model_dump(mode="json")) as temporary:
        write_parquet(temporary / "rows.parquet", rows.cast(schema.ROWS))
        write_parquet(
            temporary / "ledger.parquet", (schema.LEDGER.empty_table() if ledger is None else ledger).cast(schema.LEDGER)
        )
        write_parquet(
            temporary / "quarantine.parquet",
            (schema.QUARANTINE.empty_table() if quarantine is None else quarantine).cast(schema.QUARANTINE),
        )
    with write() as session:
        if session.get(VersionRow, (dataset.name, version.number)) is not None:
            shutil.rmtree(own, ignore_errors=True)
            raise _taken(dataset, version)
        if folder.exists():  # left by a crash between rename and commit; named by nothing
            os.replace(folder, folder.with_name(f".{folder.name}.{os.getpid()}.orphan"))
        os.replace(own, folder)
        session.merge(DatasetRow(name=dataset.name, record=dataset.model_dump_json()))
        session.add(VersionRow(dataset=dataset.name, number=version.number, record=version.model_dump_json()))
    return version


def _taken(dataset: Dataset, version: Version) -> ConflictError:
    return ConflictError(f"Version {version.number} of {dataset.name!r} exists already", "Somebody else changed it: try again.")


def version_folder(name: str, number: int) -> Path:
    """Where a version's files lie."""
    return area("datasets", name, f"v{number:04d}")


def step_folder(name: str, step_id: str) -> Path:
    """Where the parsed rows of an import step lie, from which a recipe is replayed."""
    return area("datasets", name, "steps", step_id)


def save_step(name: str, step_id: str, rows: pa.Table, quarantine: pa.Table) -> Path:
    """Keep what an import step brought, ``rows.parquet`` and ``quarantine.parquet``, whole or not at all."""
    folder = step_folder(check_name(name, "dataset name"), step_id)
    with atomic_folder(folder, {"step_id": step_id, "rows": rows.num_rows, "quarantined": quarantine.num_rows}) as temporary:
        write_parquet(temporary / "rows.parquet", rows.cast(schema.ROWS))
        write_parquet(temporary / "quarantine.parquet", quarantine.cast(schema.QUARANTINE))
    return folder


def read_step(name: str, step_id: str) -> tuple[pa.Table, pa.Table]:
    """Rows and quarantine that an import step brought, as they were parsed."""
    folder = step_folder(name, step_id)
    if not is_complete(folder):
        raise NotFoundError(f"The rows of import step {step_id} of {name!r} are gone", "Import the file again.")
    rows = pq.read_table(folder / "rows.parquet", memory_map=True)
    return rows, pq.read_table(folder / "quarantine.parquet", memory_map=True)


def discard_step(name: str, step_id: str) -> None:
    """Remove an import step's rows (its version was not written)."""
    shutil.rmtree(step_folder(name, step_id), ignore_errors=True)


def remove_leftovers(name: str, older_than: float = 3600.0) -> list[Path]:
    """Remove what killed writers left in a dataset's folder: versions and steps that no record names.

    Younger ones (seconds since their last change) may belong to a writer at work and stay. Returns what was removed.
    """
    folder, versions = area("datasets", name), list_versions(name)
    known = {version_folder(name, version.number) for version in versions}
    known |= {step_folder(name, step.step_id) for version in versions for step in version.recipe}
    candidates = [path for path in folder.glob("*") if _VERSION_LIKE.match(path.name)]
    candidates += folder.glob("steps/*")
    oldest = time.time() - older_than
    removed = [path for path in candidates if path not in known and path.stat().st_mtime < oldest]
    for path in removed:
        shutil.rmtree(path, ignore_errors=True)
    return removed


def read_rows(
    name: str,
    number: int | None = None,
    *,
    columns: Sequence[str] | None = None,
    split: str | None = None,
    limit: int | None = None,
) -> pa.Table:
    """Rows of a version (the latest by default) in their order, columns as in ``schema.ROWS``.

    ``split`` keeps one split ("" are the rows that are in none); ``limit`` keeps the first rows after that.
    """
    version = get_version(name, number)
    path = version_folder(name, version.number) / "rows.parquet"
    wanted = list(dict.fromkeys([*columns, "split"])) if columns is not None and split is not None else columns
    table = pq.read_table(path, columns=list(wanted) if wanted is not None else None, memory_map=True)
    if split is not None:
        table = table.filter(pc.equal(table["split"], split))
        if columns is not None:
            table = table.select(list(columns))
    return table if limit is None else table.slice(0, limit)


def read_rows_at(name: str, number: int | None, positions: Sequence[int]) -> pa.Table:
    """The rows at some positions (from 0) of a version, in the order asked for; reads only the row groups they lie in."""
    version = get_version(name, number)
    with pq.ParquetFile(version_folder(name, version.number) / "rows.parquet", memory_map=True) as file:
        sizes = [file.metadata.row_group(group).num_rows for group in range(file.num_row_groups)]
        starts = [sum(sizes[:group]) for group in range(len(sizes))]
        wanted = sorted({bisect_right(starts, place) - 1 for place in positions})
        if not wanted:
            return schema.ROWS.empty_table()
        table = file.read_row_groups(wanted)
    before = {group: sum(sizes[earlier] for earlier in wanted[:rank]) for rank, group in enumerate(wanted)}
    places = [before[group := bisect_right(starts, place) - 1] + place - starts[group] for place in positions]
    return table.take(pa.array(places, pa.int64()))


def read_ledger(name: str, number: int | None = None, *, columns: Sequence[str] | None = None) -> pa.Table:
    """The ledger entries that made one version out of its parent; all columns of ``schema.LEDGER``, or some."""
    path = version_folder(name, get_version(name, number).number) / "ledger.parquet"
    return pq.read_table(path, columns=list(columns) if columns is not None else None, memory_map=True)


def read_quarantine(name: str, number: int | None = None) -> pa.Table:
    """What was kept aside up to a version."""
    return pq.read_table(version_folder(name, get_version(name, number).number) / "quarantine.parquet", memory_map=True)
