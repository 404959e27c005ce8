"""Import of many rows of JSON Lines, and finding their exact duplicates: seconds, peak memory, rows a second.

    python bench/import_rows.py [--rows 1000000] [--format jsonl|json|csv]

The baseline in the same run is ``pandas.read_json(lines=True)`` (or ``read_csv``) on the same file followed by
``to_parquet``, which checks nothing, gives no identifiers and stops at the first broken line.
One JSON object on one line on stdout.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

CHARACTERS = "的一是了我不人在他有这上们来到时大地为子中你说生国年着就那和要她出也得里后自以会家可下而过天去能对小多然于心学么之都好看起发当没成只如事把还用第样道想作种开美总从无情己面最女但现前些所同日手又行意动方期它头经长儿回位分爱老因很给名法间斯知世什两次使身者被高已亲其进此话常与活正感"  # noqa: E501
ELEMENTS = ("姓名", "机构", "职务", "学历", "金额", "日期")
LIMIT_SECONDS, LIMIT_MIB = 60, 4096


def write_rows(path: Path, rows: int, kind: str) -> None:
    """Rows like an extraction set's: about 120 Chinese characters, an answer of two elements, 1 row in 50 a duplicate."""
    pick = random.Random(7)
    pool = "".join(pick.choices(CHARACTERS, k=200_000))
    last: dict[str, str] = {}
    with open(path, "w", encoding="utf-8", newline="") as out:
        writer = csv.DictWriter(out, ("instruction", "input", "output"))
        if kind == "csv":
            writer.writeheader()
        elif kind == "json":
            out.write("[\n")
        for n in range(rows):
            at = pick.randrange(len(pool) - 200)
            text = f"{n}号：{pool[at : at + pick.randrange(60, 180)]}"
            answer = {name: [text[i : i + 4]] for i, name in enumerate(pick.sample(ELEMENTS, 2), 3)}
            if n % 50 or not last:
                last = {
                    "instruction": "抽取要素，只返回JSON。",
                    "input": text,
                    "output": json.dumps(answer, ensure_ascii=False, separators=(",", ":")),
                }
            if kind == "csv":
                writer.writerow(last)
            else:
                ending = (",\n" if n + 1 < rows else "\n]\n") if kind == "json" else "\n"
                out.write(json.dumps(last, ensure_ascii=False) + ending)


def measure_import(path: Path) -> dict[str, float]:
    """Seconds of import and of exact duplicates, rows, duplicates, peak memory in MiB. Run in a process of its own."""
    from core.data.importing import import_file
    from core.data.keys import whole_codes
    from core.store import datasets as store

    began, worked = time.perf_counter(), time.process_time()
    made = import_file(path, "bench")
    imported, worked = time.perf_counter(), time.process_time() - worked
    codes = whole_codes(store.read_rows("bench"))
    duplicates = len(codes) - len(set(codes.tolist()))
    done = time.perf_counter()
    return {
        "rows": made.rows,
        "quarantined": made.quarantined,
        "duplicates": duplicates,
        "import_seconds": imported - began,
        "import_cpu_seconds": worked,
        "duplicates_seconds": done - imported,
        "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


def measure_pandas(path: Path, kind: str, target: Path) -> dict[str, float]:
    """The same file by pandas alone."""
    import pandas as pd

    began = time.perf_counter()
    frame = pd.read_csv(path) if kind == "csv" else pd.read_json(path, lines=kind == "jsonl", dtype=False)
    frame.to_parquet(target)
    return {
        "rows": len(frame),
        "seconds": time.perf_counter() - began,
        "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


def in_own_process(part: str, path: Path, kind: str, folder: Path) -> dict[str, float]:
    """One part of the measurement, so that its peak memory is its own."""
    environment = os.environ | {"TUNEWISE_WORKSPACE": str(folder / "workspace")}
    command = [sys.executable, __file__, "--part", part, "--file", str(path), "--format", kind]
    output = subprocess.run(command, check=True, capture_output=True, text=True, env=environment).stdout
    measured: dict[str, float] = json.loads(output)
    return measured


def main() -> int:
    """Write the rows, measure both, print the figures; exit 1 if the limits don't hold."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--format", choices=["jsonl", "json", "csv"], default="jsonl")
    parser.add_argument("--part", choices=["import", "pandas"])
    parser.add_argument("--file", type=Path)
    options = parser.parse_args()
    if options.part == "import":
        print(json.dumps(measure_import(options.file)))
        return 0
    if options.part == "pandas":
        print(json.dumps(measure_pandas(options.file, options.format, options.file.with_suffix(".parquet"))))
        return 0
    with tempfile.TemporaryDirectory(prefix="tunewise-bench-") as name:
        folder = Path(name)
        path = folder / f"rows.{options.format}"
        write_rows(path, options.rows, options.format)
        ours = in_own_process("import", path, options.format, folder)
        theirs = in_own_process("pandas", path, options.format, folder)
        seconds = ours["import_seconds"] + ours["duplicates_seconds"]
        figures = {
            "bench": f"import_rows_{options.format}",
            "file_mib": path.stat().st_size / 2**20,
            **ours,
            "rows_per_second": ours["rows"] / ours["import_seconds"],
            "pandas_seconds": theirs["seconds"],
            "pandas_peak_mib": theirs["peak_mib"],
            "ratio_to_pandas": ours["import_seconds"] / theirs["seconds"],
            "within_limits": seconds <= LIMIT_SECONDS and ours["peak_mib"] <= LIMIT_MIB,
        }
    print(json.dumps({key: round(value, 3) if isinstance(value, float) else value for key, value in figures.items()}))
    return 0 if figures["within_limits"] else 1


if __name__ == "__main__":
    sys.exit(main())
