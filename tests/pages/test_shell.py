"""The shell: pages and their addresses, the strip's selection across pages, and no torch in the process."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from core.data import recipes
from core.data.importing import import_file
from core.records import Step
from pages.ui import registry
from tests.pages.conftest import ROOT, check
from tests.pages.filled import NAME, fill


def test_every_page_of_the_registry_is_there_and_thin() -> None:
    assert [page.title for page in registry.PAGES] == ["Home", "Data", "Tokens", "Train", "Chat", "Compare", "Metrics"]
    for page in registry.PAGES:
        assert (ROOT / page.path).is_file(), page.path
        assert len((ROOT / page.path).read_text(encoding="utf-8").splitlines()) <= 150, page.path


@pytest.mark.parametrize("page", [page for page in registry.PAGES if page is not registry.HOME], ids=lambda page: page.title)
def test_every_page_begins_by_its_own_title(page: registry.Entry) -> None:
    assert f'shell.begin("{page.title}"' in (ROOT / page.path).read_text(encoding="utf-8")


def test_a_selection_holds_from_page_to_page(open_page: Callable[..., AppTest], tmp_path: Path) -> None:
    fill(tmp_path)
    recipes.apply(NAME, [Step(op="drop_exact_duplicates")])
    app = open_page("pages/1_Data.py")
    app.selectbox(key="version").set_value("v1").run()
    app.selectbox(key="template").set_value("instruct@1").run()
    app.switch_page("pages/6_Metrics.py").run()
    assert (app.selectbox(key="version").value, app.selectbox(key="template").value) == ("v1", "instruct@1")
    check(app)


def test_a_selection_that_is_gone_falls_back(open_page: Callable[..., AppTest], tmp_path: Path) -> None:
    fill(tmp_path)
    app = open_page("pages/1_Data.py", dataset="no-such", version="v99")
    assert not app.exception
    assert (app.selectbox(key="dataset").value, app.selectbox(key="version").value) == (NAME, "latest")


def test_the_address_says_what_is_shown_though_nobody_chose_it(open_page: Callable[..., AppTest], tmp_path: Path) -> None:
    filled = fill(tmp_path)
    app = open_page()
    shown = {"dataset": NAME, "version": "latest", "template": "chat@1", "model": "default"}
    assert app.query_params == shown
    links = {page: open_page(f"pages/{page}.py").query_params for page in ("3_Train", "5_Compare", "6_Metrics")}
    assert {name: links["3_Train"][name] for name in shown} == shown
    assert links["3_Train"]["run"] == filled.run
    assert links["5_Compare"]["arms"] == [filled.base, filled.tuned]
    assert links["6_Metrics"]["evaluation"] == filled.tuned
    assert links["6_Metrics"]["metric"] == "micro_f1"
    later = tmp_path / "later.jsonl"
    later.write_text('{"input": "a", "output": "b"}\n', encoding="utf-8")
    import_file(later, "Later", task="generation")  # the newest dataset is what a bare address shows from now on
    assert open_page().selectbox(key="dataset").value == "Later"
    colleague = AppTest.from_file(str(ROOT / "Home.py"), default_timeout=180)
    colleague.query_params |= app.query_params
    assert colleague.run().selectbox(key="dataset").value == NAME


def test_pages_never_import_torch(tmp_path: Path) -> None:
    """In a process of its own: all pages on a filled workspace, then a look at ``sys.modules``."""
    code = f"""
import os, sys
os.environ["TUNEWISE_WORKSPACE"] = {str(tmp_path / "ws")!r}
sys.path[:0] = [{str(ROOT)!r}]
from pathlib import Path
from streamlit.testing.v1 import AppTest
from tests.pages.filled import fill
fill(Path({str(tmp_path)!r}))
app = AppTest.from_file({str(ROOT / "Home.py")!r}, default_timeout=180).run()
for path in ("1_Data", "3_Train", "5_Compare", "6_Metrics", "4_Chat"):
    app.switch_page(f"pages/{{path}}.py").run()
    assert not app.exception, (path, [e.value for e in app.exception])
print([name for name in ("torch", "peft", "datasets", "evaluate", "accelerate") if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.strip().splitlines()[-1] == "[]"


def test_the_template_follows_the_dataset_until_one_is_chosen(open_page: Callable[..., AppTest], tmp_path: Path) -> None:
    """Rows that say nothing of the task begin with a template that does."""
    for name, row in (
        ("bare", {"input": "张三在上海工作。", "output": '{"人": ["张三"]}'}),
        ("told", {"instruction": "抽取人名", "input": "李四在北京工作。", "output": '{"人": ["李四"]}'}),
    ):
        path = tmp_path / f"{name}.jsonl"
        path.write_text(json.dumps(row, ensure_ascii=False), "utf-8")
        import_file(path, name, task="extraction")
    app = open_page("pages/2_Tokens.py", dataset="told")
    assert app.selectbox(key="template").value == "chat@1"
    app.selectbox(key="dataset").set_value("bare").run()
    assert app.selectbox(key="template").value == "json-zh@1"
    app.selectbox(key="template").set_value("instruct@1").run()
    app.selectbox(key="dataset").set_value("told").run()
    assert app.selectbox(key="template").value == "instruct@1"
    check(app)
