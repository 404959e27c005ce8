"""The whole profile of 100,000 rows, and import and exact duplicates of 1,000,000: seconds and peak memory.

    python bench/profile_rows.py [--rows 100000] [--many 1000000] [--whole]

The rows are made-up Chinese extraction rows of about 240 characters with 3 values each, one row in ten an edited
copy. The rows of the second part are shorter (about 60 characters), one in ten a copy, and three quarters of them near
duplicates of others; ``--whole`` profiles them too. The baseline is pandas' ``duplicated`` on the same columns, read
from the same file. Peaks are those of each part by itself, of resident memory.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import resource
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "bench")]

from chinese_rows import chinese_rows  # noqa: E402


def extraction_row(text: str, number: int) -> dict[str, object]:
    """A row with three values out of its own text; one in fifty not."""
    values = [text[5:8], text[20:24], "不在文中" if number % 50 == 0 else text[40:43]]
    return {"instruction": "抽取要素", "input": text, "output": {"姓名": [values[0]], "机构": [values[1]], "地点": [values[2]]}}


def write_rows(path: Path, texts: list[str]) -> None:
    """Rows as JSON Lines."""
    with path.open("w", encoding="utf-8") as file:
        for number, text in enumerate(texts):
            file.write(json.dumps(extraction_row(text, number), ensure_ascii=False) + "\n")


def write_many(path: Path, count: int) -> None:
    """Short rows, one in ten equal to an earlier one."""
    pieces = [text[place : place + 60] for text in chinese_rows(2_000, copies=0) for place in range(0, 180, 2)]
    with path.open("w", encoding="utf-8") as file:
        for number in range(count):
            which = number - number // 10 % 997 * 10 - 10 if number % 10 == 9 and number > 10_000 else number
            text = pieces[which % len(pieces)] + str(which)
            file.write(json.dumps(extraction_row(text, which), ensure_ascii=False) + "\n")


class Clock:
    """Prints what a block took."""

    highest = 0.0
    """Peak of all blocks so far, in GiB."""

    def __init__(self, what: str) -> None:
        self.what = what

    def __enter__(self) -> Clock:
        with contextlib.suppress(OSError):
            Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew (proc(5))
        self.wall, self.processor = time.perf_counter(), time.process_time()
        return self

    def __exit__(self, *_: object) -> None:
        self.seconds = time.perf_counter() - self.wall
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024**2
        Clock.highest = max(Clock.highest, peak)
        used = time.process_time() - self.processor
        print(f"{self.what:44} {self.seconds:6.1f} s wall {used:6.1f} s processor, peak {peak:.2f} GiB", flush=True)


def main() -> int:
    """Measure and print; 1 where it takes too long or too much memory, or pandas counts other duplicates."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--many", type=int, default=1_000_000)
    parser.add_argument("--whole", action="store_true", help="the whole profile of the rows of --many too")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        os.environ["TUNEWISE_WORKSPACE"] = str(Path(folder) / "workspace")
        from core.data.importing import import_file
        from core.data.profile import profile
        from core.data.recipes import preview
        from core.records import Step

        good = True
        if options.rows:
            path = Path(folder) / "rows.jsonl"
            write_rows(path, chinese_rows(options.rows))
            with Clock(f"import of {options.rows:,} rows"):
                import_file(path, "rows")
            with Clock(f"whole profile of {options.rows:,} rows") as whole:
                made = profile("rows")
            with Clock("the same again, kept"):
                profile("rows")
            print("  ", {name: count for name, count in made.issues.items() if count})
            good = whole.seconds <= 60
        if options.many:
            path = Path(folder) / "many.jsonl"
            write_many(path, options.many)
            with Clock(f"import of {options.many:,} rows") as imported:
                import_file(path, "many")
            with Clock(f"exact duplicates of {options.many:,} rows") as duplicates:
                seen = preview("many", [Step(op="drop_exact_duplicates")])
            good = good and imported.seconds + duplicates.seconds <= 60 and Clock.highest < 4
            if options.whole:
                with Clock(f"whole profile of {options.many:,} rows"):
                    made = profile("many")
                print("  ", {name: count for name, count in made.issues.items() if count})
            import pandas as pd

            with Clock("pandas: read_json and duplicated"):
                frame = pd.read_json(path, lines=True, dtype=False)
                frame["output"] = frame["output"].map(json.dumps)
                count = int(frame.duplicated().sum())
            print(f"   {seen.changes.num_rows:,} duplicates; pandas counts {count:,}")
            good = good and count == seen.changes.num_rows
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
