"""Recall and precision of the profile for each kind of dirt seeded into the samples.

    python bench/dirt_recall.py [--file samples/extraction.jsonl] [--dirt samples/dirt.json]

A copy and its original are one find: either of them may be the one that is called the duplicate. A row found
to have a kind that it wasn't seeded with counts against precision, also where the finding is right.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

RECALL, PRECISION = 0.95, 0.90
PAIRED = ("exact_duplicate", "near_duplicate")


def score(found: set[int], seeded: list[dict[str, int | str]], kind: str) -> tuple[float, float, list[int], list[int]]:
    """Recall, precision, the seeded lines that were missed and the found lines that weren't seeded."""
    ends = [{int(e["line"]), int(e["of"])} if kind in PAIRED and "of" in e else {int(e["line"])} for e in seeded]
    missed = [int(e["line"]) for e, lines in zip(seeded, ends, strict=True) if not lines & found]
    allowed = set().union(*ends) if ends else set()
    wrong = sorted(found - allowed)
    recall = 1 - len(missed) / len(ends) if ends else 1.0
    precision = 1 - len(wrong) / len(found) if found else 1.0
    return recall, precision, missed, wrong


def main() -> int:
    """Count and print; 1 where a kind is found too seldom or too often."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--file", type=Path, default=ROOT / "samples" / "extraction.jsonl")
    parser.add_argument("--dirt", type=Path, default=ROOT / "samples" / "dirt.json")
    parser.add_argument("--show", action="store_true", help="print the rows that were missed or wrongly found")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        os.environ["TUNEWISE_WORKSPACE"] = folder
        from core.data.importing import import_file
        from core.data.profile import profile

        import_file(options.file, "samples", task="extraction")
        made = profile("samples")
    dirt = json.loads(options.dirt.read_text("utf-8"))["dirt"]
    lines = options.file.read_text("utf-8").splitlines()
    ok = True
    print(f"{'kind':20} {'seeded':>6} {'found':>6} {'recall':>7} {'precision':>9}")
    for kind in sorted({str(entry["kind"]) for entry in dirt}):
        found = set(made.positions(kind).tolist())
        seeded = [entry for entry in dirt if entry["kind"] == kind]
        recall, precision, missed, wrong = score(found, seeded, kind)
        good = recall >= RECALL and precision >= PRECISION
        ok = ok and good
        print(f"{kind:20} {len(seeded):6} {len(found):6} {recall:7.3f} {precision:9.3f}{'' if good else '  below the mark'}")
        if options.show:
            details = dict(zip(made.positions(kind).tolist(), made.details(kind), strict=True))
            for line in missed:
                print("   missed", line, lines[line][:220])
            for line in wrong:
                print("   wrong ", line, details[line], lines[line][:220])
    return 0 if ok else 1


if __name__ == "__main__":
    sys.exit(main())
