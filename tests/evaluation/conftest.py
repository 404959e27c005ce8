"""A toy dataset in the store, a tiny tokenizer, evaluations of it, and engines that answer without a model."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from core.records import Arm, Dataset, Evaluation, EvaluationSpec, GenerationSettings, ModelRef, Version
from core.store import schema
from core.store.datasets import save_version
from tests.evaluation.standin import StandIn
from tests.evaluation.toy import TEMPLATE, FakeEngine, make_row, right_answer
from tests.tiny import make_tiny_tokenizer


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a tiny tokenizer, with an empty config and no weights inside, so that it resolves as a model."""
    folder = make_tiny_tokenizer(tmp_path_factory.mktemp("tiny"))
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(b"\x02" + bytes(7) + b"{}")
    return folder


@pytest.fixture
def dataset(workspace: Path) -> str:
    """``toy``: 24 train and 40 test rows of extraction, names and towns in Chinese and English."""
    rows = []
    for n in range(64):
        person, town = f"张三{n}", f"Oslo{n % 7}"
        rows.append(make_row(n, "train" if n < 24 else "test", f"{person} 住在 {town}", {"人": [person], "地": [town]}))
    save_version(
        Dataset(name="toy", elements=("人", "地")),
        Version(dataset="toy", number=1, rows=64, split_sizes={"train": 24, "test": 40}),
        pa.Table.from_pylist(rows, schema=schema.ROWS),
    )
    return "toy"


@pytest.fixture
def make_evaluation(dataset: str, tiny: Path) -> Callable[..., Evaluation]:
    """Records of evaluations of ``toy``, all of ``changes`` on top."""

    def make(evaluation_id: str = "e-1", **changes: Any) -> Evaluation:
        arm = Arm(
            model=ModelRef(source="path", name=str(tiny)),
            shots=changes.pop("shots", 0),
            generation=GenerationSettings(max_new_tokens=32),
        )
        spec = EvaluationSpec(
            dataset=dataset,
            version=1,
            split="test",
            arm=arm,
            limit=changes.pop("limit", None),
            perplexity=changes.pop("perplexity", True),
        )
        values = {"name": evaluation_id, "task": "extraction", "elements": ("人", "地"), "template": TEMPLATE, "version": 1}
        return Evaluation(evaluation_id=evaluation_id, spec=spec, **{**values, **changes})

    return make


@pytest.fixture
def engine(tiny: Path) -> Callable[..., FakeEngine]:
    """Makes fake engines; the right answer by default."""
    from core.models.tokenizer import tokenizer_in

    return lambda answer=right_answer, **options: FakeEngine(answer, tokenizer_in(tiny), **options)


@pytest.fixture
def server() -> Iterator[StandIn]:
    """A server that speaks the OpenAI chat protocol, on this machine."""
    with StandIn() as stand_in:
        yield stand_in
