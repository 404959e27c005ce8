"""Near duplicates of 100,000 rows of about 240 Chinese characters: time against datasketch, recall and precision.

    python bench/near_duplicates.py [--rows 100000] [--peer-rows 100000]

The preview is timed whole: from the table of rows to the rows that would be dropped. datasketch's MinHashLSH
(128 permutations, the same 5-grams, insert then query) is timed on the first ``--peer-rows`` of the same rows and
scaled to all of them (its time is linear). Recall and precision are against exact Jaccard similarity of all
pairs of a sample, found through an inverted index of 5-grams.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter, defaultdict
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "bench")]

import pyarrow as pa  # noqa: E402
from chinese_rows import chinese_rows  # noqa: E402

from core.data.duplicates import near_pairs, shingle_set  # noqa: E402
from core.data.operations.base import Context, State  # noqa: E402
from core.data.operations.rows import DropNearDuplicates  # noqa: E402
from core.records import Dataset  # noqa: E402
from core.store.schema import ROWS  # noqa: E402

THRESHOLD = 0.8


def table_of(texts: list[str]) -> pa.Table:
    """Rows of these inputs."""
    size = len(texts)
    same = {"instruction": "抽取要素", "output": "{}", "split": "", "source": "bench"}
    columns = {name: pa.array([value] * size, pa.large_string()) for name, value in same.items()}
    columns |= {
        "row_id": pa.array([f"bench-{n:07d}" for n in range(size)], pa.large_string()),
        "input": pa.array(texts, pa.large_string()),
        "messages": pa.nulls(size, pa.large_string()),
        "line": pa.array(range(size), pa.int64()),
        "extra": pa.nulls(size, pa.large_string()),
    }
    return pa.table([columns[field.name] for field in ROWS], schema=ROWS)


def exact_pairs(texts: list[str]) -> set[tuple[int, int]]:
    """All pairs at or above the threshold, by exact Jaccard similarity."""
    holders: dict[str, list[int]] = defaultdict(list)
    sets = [shingle_set(text) for text in texts]
    pairs = set()
    for place, shingles in enumerate(sets):
        common: Counter[int] = Counter()
        for shingle in shingles:
            common.update(holders[shingle])
            holders[shingle].append(place)
        for other, shared in common.items():
            if shared / (len(shingles) + len(sets[other]) - shared) >= THRESHOLD:
                pairs.add((other, place))
    return pairs


def peer_seconds(texts: list[str]) -> tuple[float, float]:
    """Wall and processor seconds of datasketch: signatures, insert, query of each row."""
    from datasketch import MinHash, MinHashLSH

    wall, processor = time.perf_counter(), time.process_time()
    index = MinHashLSH(threshold=THRESHOLD, num_perm=128)
    made = []
    for number, text in enumerate(texts):
        signature = MinHash(num_perm=128)
        signature.update_batch([text[i : i + 5].encode() for i in range(len(text) - 4)])
        index.insert(number, signature)
        made.append(signature)
    for signature in made:
        index.query(signature)
    return time.perf_counter() - wall, time.process_time() - processor


def main() -> int:
    """Measure and print; 1 where the look is too slow or misses pairs."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--peer-rows", type=int, default=20_000)
    parser.add_argument("--sample", type=int, default=20_000)
    options = parser.parse_args()
    texts = chinese_rows(options.rows)
    rows = table_of(texts)
    wall, processor = time.perf_counter(), time.process_time()
    outcome = DropNearDuplicates().run(State(rows), Context(Dataset(name="bench")))
    ours, ours_processor = time.perf_counter() - wall, time.process_time() - processor
    print(f"rows                  {len(texts):,} of {sum(map(len, texts)) / len(texts):.0f} characters")
    print(f"would be dropped      {outcome.changes.num_rows:,}")
    print(f"preview               {ours:.1f} s wall, {ours_processor:.1f} s processor")
    theirs, theirs_processor = (seconds * len(texts) / options.peer_rows for seconds in peer_seconds(texts[: options.peer_rows]))
    print(f"datasketch            {theirs:.1f} s wall, {theirs_processor:.1f} s processor (from {options.peer_rows:,} rows)")
    print(f"ratio                 {theirs / ours:.1f} by wall, {theirs_processor / ours_processor:.1f} by processor")
    sample = texts[: options.sample]
    true = exact_pairs(sample)
    found = near_pairs(sample, THRESHOLD)
    pairs = set(zip(found.left.tolist(), found.right.tolist(), strict=True))
    recall, precision = len(pairs & true) / len(true), len(pairs & true) / len(pairs)
    print(
        f"pairs in {len(sample):,} rows  {len(true):,} exactly, {len(pairs):,} found: "
        f"recall {recall:.4f}, precision {precision:.4f}"
    )
    good = ours <= 15 and theirs / ours >= 10 and recall >= 0.98 and precision == 1.0
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
