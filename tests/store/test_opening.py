"""Several processes may be the first to open a workspace at the same moment: workers, pages, test processes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from core.settings import get_settings

ROUNDS = 25
THREE_PROCESSES = """
import multiprocessing, os, sys
from core.store.database import engine

def open_each(together):
    for number in range(int(sys.argv[2])):
        os.environ["TUNEWISE_WORKSPACE"] = os.path.join(sys.argv[1], str(number))
        together.wait(60)
        engine()

context = multiprocessing.get_context("fork")
together = context.Barrier(3)
processes = [context.Process(target=open_each, args=(together,)) for _ in range(3)]
for process in processes:
    process.start()
for process in processes:
    process.join(120)
sys.exit(sum(process.exitcode != 0 for process in processes))
"""


def test_a_new_database_is_opened_by_several_at_once(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", THREE_PROCESSES, str(tmp_path), str(ROUNDS)], capture_output=True, text=True, timeout=200
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert get_settings().database.startswith("postgresql") or len(list(tmp_path.glob("*/tunewise.db"))) == ROUNDS
