"""The user guide's Python: what it shows for a notebook runs as it stands there."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from core.evaluation.comparison import Comparison
from core.models import catalogue
from core.store.datasets import list_versions
from tests.tiny import make_tiny_tokenizer

GUIDE = Path(__file__).parents[1] / "docs" / "guide.md"
TABLE = "正文,甲方,金额\n" + "".join(f"云海{n}公司付 {n} 元。,云海{n}公司,{n} 元\n" for n in range(10, 40)) + "空,没有的公司,\n"


def test_the_notebook_of_the_guide(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    data, training = re.findall(r"```python\n(.*?)```", GUIDE.read_text(encoding="utf-8"), re.DOTALL)
    folder = make_tiny_tokenizer(tmp_path / "tiny")
    monkeypatch.setattr(catalogue, "default_model_path", lambda progress=None: folder)
    monkeypatch.chdir(tmp_path)
    Path("contracts.csv").write_text(TABLE, encoding="utf-8")
    names: dict[str, Any] = {}
    exec(data, names)
    sentence, over = capsys.readouterr().out.splitlines()
    assert sentence.startswith("1 of 31 rows (3.2%) has a fault that harms training")
    assert over == "0"
    assert [version.number for version in list_versions("contracts")] == [1, 2, 3]
    assert list(names["train"]["split"].unique()) == ["train"]
    asked, _, done = training.partition("job, run = ")
    exec(asked, names)
    assert (names["spec"].method, names["spec"].data[0].dataset) == ("lora", "contracts")
    compile(done, str(GUIDE), "exec")
    assert isinstance(Comparison.verdict, property)
