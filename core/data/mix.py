"""Mixing datasets into a new one for training on several tasks at once.

Weights are the shares of the training rows; dev and test rows are taken whole, so that each task can still be
measured. Knows nothing of templates or training.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from core.errors import SpecError, UserError
from core.records import Dataset, Step, Task, Version
from core.store import schema
from core.store.content import content_hash, split_sizes
from core.store.datasets import find_dataset, get_dataset, get_version, read_rows, save_step, save_version
from core.store.files import check_name


@dataclass(frozen=True, slots=True)
class Part:
    """One dataset of a mix: how many training rows it has and gives, and its dev and test rows."""

    dataset: str
    version: int
    weight: float
    available: int
    taken: int
    held_out: int

    @property
    def repeated(self) -> int:
        """Training rows that stand in the mix more than once."""
        return max(0, self.taken - self.available)


def plan_mix(weights: Mapping[str, float], rows: int | None = None) -> tuple[Part, ...]:
    """How many rows each dataset gives. ``rows`` training rows in all; none: the most with no row twice.

    SpecError for fewer than one dataset or a weight that isn't positive; UserError for a dataset without training rows.
    """
    if not weights or any(not weight > 0 for weight in weights.values()):
        raise SpecError("A mix needs datasets with positive weights", "For example zh=2 en=1.")
    versions = {name: get_version(name) for name in weights}
    have: dict[str, int] = {}
    for name, version in versions.items():
        held = sum(version.split_sizes.get(split, 0) for split in ("dev", "test"))
        have[name] = version.rows - held
        if have[name] <= 0:
            raise UserError(f"{name!r} has no training rows", "Split it, or leave it out.")
    total = sum(weights.values())
    shares = {name: weight / total for name, weight in weights.items()}
    size = rows if rows is not None else int(min(have[name] / share for name, share in shares.items()) + 1e-9)
    taken = _rounded(shares, size)
    return tuple(
        Part(name, version.number, weights[name], have[name], taken[name], version.rows - have[name])
        for name, version in versions.items()
    )


def _rounded(shares: Mapping[str, float], size: int) -> dict[str, int]:
    """Whole numbers in the given shares that add up to ``size`` (largest remainders)."""
    whole = {name: int(share * size) for name, share in shares.items()}
    left = sorted(shares, key=lambda name: whole[name] - shares[name] * size)
    for name in left[: size - sum(whole.values())]:
        whole[name] += 1
    return whole


def _drawn(name: str, part: Part, seed: int) -> pa.Table:
    rows = read_rows(name, part.version)
    held = pc.is_in(rows["split"], pa.array(["dev", "test"], pa.large_string()))
    train, rest = rows.filter(pc.invert(held)), rows.filter(held)
    chance = np.random.default_rng([seed, *name.encode()])
    rounds, extra = divmod(part.taken, train.num_rows)
    tables = []
    for number in range(rounds + 1):
        places = np.arange(train.num_rows) if number < rounds else np.sort(chance.permutation(train.num_rows)[:extra])
        tables.append(_named(train.take(pa.array(places)), name, number + 1))
    return pa.concat_tables([*tables, _named(rest, name, 1)])


def _named(rows: pa.Table, name: str, time: int) -> pa.Table:
    tail = f"@{name}" if time == 1 else f"@{name}~{time}"
    names = pc.binary_join_element_wise(rows["row_id"], pa.scalar(tail, pa.large_string()), pa.scalar("", pa.large_string()))
    return rows.set_column(0, schema.ROWS.field("row_id"), names)


def mix(weights: Mapping[str, float], name: str, *, rows: int | None = None, seed: int = 7) -> tuple[Version, tuple[Part, ...]]:
    """A new dataset ``name`` out of the latest versions of others, and what each gave.

    A row keeps its identifier with ``@dataset`` behind it (``~2`` and so on where it is repeated). Nothing is written
    if the name is taken.
    """
    check_name(name, "dataset name")
    if find_dataset(name) is not None:
        raise UserError(f"There is a dataset {name!r} already", "Choose another name for the mix.")
    parts = plan_mix(weights, rows)
    table = pa.concat_tables([_drawn(part.dataset, part, seed) for part in parts]).cast(schema.ROWS)
    sources = [get_dataset(part.dataset) for part in parts]
    tasks = {source.task for source in sources}
    task: Task = sources[0].task if len(tasks) == 1 else "generation"
    elements = tuple(dict.fromkeys(element for source in sources for element in source.elements))
    params = {
        "parts": [{"dataset": p.dataset, "version": p.version, "weight": p.weight, "rows": p.taken + p.held_out} for p in parts],
        "seed": seed,
        "elements": list(elements),
    }
    step = Step(op="mix", params=params)
    version = Version(
        dataset=name,
        number=1,
        recipe=(step,),
        rows=table.num_rows,
        content_hash=content_hash(table),
        split_sizes=split_sizes(table),
        note="mix of " + ", ".join(part.dataset for part in parts),
    )
    save_step(name, step.step_id, table, schema.QUARANTINE.empty_table())
    return save_version(Dataset(name=name, task=task, elements=elements), version, table), parts
