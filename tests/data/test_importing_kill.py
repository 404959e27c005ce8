"""kill -9 in the midst of an import: the old version stays whole, the new one is whole or absent."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

from core.data.importing import import_file
from core.records import Version
from core.store import datasets as store
from core.store.content import content_hash

ROOT = Path(__file__).resolve().parents[2]
ROWS, MOMENTS = 10_000, 12
SERVER = """
import os, sys
from core.data.importing import import_file
for line in sys.stdin:
    child = os.fork()
    if not child:
        import_file(line.strip(), "d")
        os._exit(0)
    print(child, flush=True)
    sys.stdin.readline()  # until then the child's number stays its own
    print(os.waitpid(child, 0)[1], flush=True)
"""


class Importer:
    """A process that imports in a fresh child for each file that it is told; the child can be killed."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", SERVER],
            cwd=ROOT,
            env=os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), *os.environ.get("PYTHONPATH", "").split(os.pathsep)])},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def run(self, path: Path, kill_after: float | None) -> float:
        """Import a file, killed after some seconds if given; returns how long it took."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(path, file=self._process.stdin, flush=True)
        child = int(self._process.stdout.readline())
        began = time.perf_counter()
        if kill_after is not None:
            time.sleep(kill_after)
            os.kill(child, signal.SIGKILL)
        print("reap", file=self._process.stdin, flush=True)
        status = int(self._process.stdout.readline())
        assert kill_after is not None or status == 0
        return time.perf_counter() - began

    def close(self) -> None:
        """End the process."""
        self._process.communicate()


def test_a_killed_import_leaves_the_old_version_whole(tmp_path: Path, workspace: Path) -> None:
    small, large = tmp_path / "small.jsonl", tmp_path / "large.jsonl"
    small.write_text("".join(json.dumps({"input": f"{n}", "output": "{}"}) + "\n" for n in range(100)))
    large.write_text("".join(json.dumps({"input": f"text {n}", "output": '{"a":["b"]}'}) + "\n" for n in range(ROWS)))
    importer = Importer()
    importer.run(small, None)
    seconds = importer.run(large, None)
    pick, killed = random.Random(3), 0
    for moment in range(MOMENTS):
        before = store.list_versions("d")
        importer.run(large, seconds * (moment + pick.random()) / MOMENTS)
        versions = store.list_versions("d")
        assert versions[: len(before)] == before
        killed += len(versions) == len(before)
        if len(versions) > len(before):  # it had ended: the machine is quicker now than when the time was taken
            seconds *= 0.7
        check_whole(versions[-1])
    importer.close()
    for version in store.list_versions("d"):
        check_whole(version)
    assert killed >= MOMENTS // 3, "the moments were not in the midst of it"
    store.remove_leftovers("d", older_than=-60.0)
    folder, versions = workspace / "datasets" / "d", store.list_versions("d")
    assert sorted(path.name for path in folder.iterdir()) == ["steps", *(f"v{v.number:04d}" for v in versions)]
    named = {step.step_id for version in versions for step in version.recipe}
    assert {path.name for path in (folder / "steps").iterdir()} == named
    rows = store.get_version("d").rows
    assert import_file(small, "d").version.rows == rows + 100, "and the dataset still takes imports"


def check_whole(version: Version) -> None:
    """A version's rows, quarantine and imports are all there, as its record says."""
    rows = store.read_rows("d", version.number)
    assert (rows.num_rows, content_hash(rows)) == (version.rows, version.content_hash)
    assert store.read_quarantine("d", version.number).num_rows == version.quarantined
    for step in version.recipe:
        assert store.read_step("d", step.step_id)[0].num_rows == step.params["rows"]
