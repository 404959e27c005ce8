"""Several processes may be the first to open a workspace at the same moment: workers, pages, test processes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from core.data.profile import is_kept
from core.demo import SAMPLE_FILES
from core.settings import get_settings
from core.store.datasets import list_versions, read_rows
from core.store.files import area
from tests.data.make import rows_of, save_rows

ROUNDS = 25
TOGETHER = """
import multiprocessing, os, sys
{imports}

def work(together, number):
{body}

context = multiprocessing.get_context("fork")
together = context.Barrier(3)
processes = [context.Process(target=work, args=(together, number)) for number in range(3)]
for process in processes:
    process.start()
for process in processes:
    process.join(240)
sys.exit(sum(process.exitcode != 0 for process in processes))
"""
OPEN_EACH = """
    for place in range(int(sys.argv[2])):
        os.environ["TUNEWISE_WORKSPACE"] = os.path.join(sys.argv[1], str(place))
        together.wait(120)
        engine()
"""
IMPORT_EACH = """
    together.wait(120)
    for again in range(2):
        import_file(os.path.join(sys.argv[1], f"{number}.jsonl"), "d")
"""
LOAD_SAMPLES = """
    together.wait(120)
    load_samples()
"""
PROFILE = """
    for name in ("a", "b", "c"):
        together.wait(120)
        assert profile(name).rows == 20
"""


def three(imports: str, body: str, *arguments: object) -> None:
    """Run a body in three processes that begin together; they all must end well."""
    code = TOGETHER.format(imports=imports, body=body)
    done = subprocess.run([sys.executable, "-c", code, *map(str, arguments)], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]


def test_a_new_database_is_opened_by_several_at_once(tmp_path: Path) -> None:
    new = tmp_path / "new"
    three("from core.store.database import engine", OPEN_EACH, new, ROUNDS)
    assert get_settings().database.startswith("postgresql") or len(list(new.glob("*/tunewise.db"))) == ROUNDS


def test_imports_into_one_dataset_at_once_come_one_behind_the_other(tmp_path: Path) -> None:
    for number in range(3):
        (tmp_path / f"{number}.jsonl").write_text("".join(f'{{"input": "{number} {n}", "output": "x"}}\n' for n in range(20)))
    three("from core.data.importing import import_file", IMPORT_EACH, tmp_path)
    versions = list_versions("d")
    assert [version.number for version in versions] == [1, 2, 3, 4, 5, 6]
    assert [version.rows for version in versions] == [20, 40, 60, 80, 100, 120]
    rows = read_rows("d")
    assert len(set(rows["row_id"].to_pylist())) == 120
    assert [path.name for path in area("datasets", "d").glob(".*")] == []
    assert len(list(area("datasets", "d", "steps").iterdir())) == 6


def test_the_samples_come_in_once_however_many_open_them(tmp_path: Path) -> None:
    three("from core.demo import load_samples", LOAD_SAMPLES)
    assert {name: len(list_versions(name)) for name, _, _ in SAMPLE_FILES} == dict.fromkeys([f[0] for f in SAMPLE_FILES], 1)


def test_a_version_is_looked_through_by_several_at_once() -> None:
    for name in ("a", "b", "c"):
        save_rows(name, rows_of(*({"input": f"text {n} of {name}", "output": '{"n": ["text"]}'} for n in range(20))))
    three("from core.data.profile import profile", PROFILE)
    assert is_kept("a", 1)
