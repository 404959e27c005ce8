"""Several processes may be the first to open a workspace at the same moment: workers, pages, test processes."""

from __future__ import annotations

import multiprocessing
from multiprocessing.synchronize import Barrier
from pathlib import Path

import pytest

ROUNDS = 25


def open_each(folder: Path, together: Barrier) -> None:
    """Open one new database after the other, each at the same moment as the other processes."""
    with pytest.MonkeyPatch.context() as patch:
        from core.store.database import engine

        for number in range(ROUNDS):
            patch.setenv("TUNEWISE_WORKSPACE", str(folder / str(number)))
            together.wait(60)
            engine()


def test_a_new_database_is_opened_by_several_at_once(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    together = context.Barrier(3)
    processes = [context.Process(target=open_each, args=(tmp_path, together)) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
    assert [process.exitcode for process in processes] == [0, 0, 0]
    assert len(list(tmp_path.iterdir())) == ROUNDS
