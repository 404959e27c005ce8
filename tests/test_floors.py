"""The house stands as it is drawn: each floor of core imports only lower ones, and torch stays out of the pages.

Every import counts, those inside functions too. Modules that may load torch when they are imported are named
here; all others are imported in a process of their own, which must end without torch.
"""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FLOORS = (
    ("errors", "settings"),
    ("records",),
    ("store",),
    ("data",),
    ("prompts",),
    ("models",),
    ("lengths",),
    ("evaluation",),
    ("training",),
    ("jobs",),
    ("figures",),
    ("serving", "chat"),
    ("parity", "demo", "doctor"),
    ("cli",),
    ("__main__",),
)
HEIGHT = {name: height for height, names in enumerate(FLOORS) for name in names}
TORCH_MODULES = frozenset(
    {
        "core.models.load",
        "core.models.adapters",
        "core.models.engine",
        "core.models.grouped",
        "core.models.growing",
        "core.models.lane",
        "core.models.mixing",
        "core.models.cpu4bit",
        "core.models.batch",
        "core.models.constrain",
        "core.models.sampling",
        "core.models.scheduler",
        "core.models.score",
        "core.training.attention",
        "core.training.callbacks",
        "core.training.dev",
        "core.training.dropout",
        "core.training.fused",
        "core.training.fused_lora",
        "core.training.fused_mlp",
        "core.training.gated",
        "core.training.gated_kernels",
        "core.training.fused_proof",
        "core.models.frozen",
        "core.models.fourbit",
        "core.training.loss",
        "core.training.noise",
        "core.training.offload",
        "core.training.prepare",
        "core.training.runner",
        "core.training.sharing",
        "core.training.trainer",
    }
)
"""Modules that import torch at their top, or one of these: for workers, and for functions that a user's question calls."""

CORE_FILES = sorted((ROOT / "core").rglob("*.py"))
PAGE_FILES = sorted(path for path in [ROOT / "Home.py", *(ROOT / "pages").rglob("*.py")] if path.is_file())


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(path: Path, *, top_only: bool = False) -> Iterator[tuple[int, str]]:
    """Line and full module name of each import; ``from core import x`` and ``from core.a import b`` give the longer name too."""
    tree = ast.parse(path.read_text(encoding="utf-8"), str(path))
    nodes = top_level(tree) if top_only else ast.walk(tree)
    package = list(path.relative_to(ROOT).parts[:-1])
    for node in nodes:
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            name = ".".join([*base, *([node.module] if node.module else [])])
            yield node.lineno, name
            for alias in node.names:
                yield node.lineno, f"{name}.{alias.name}"


def top_level(tree: ast.AST) -> Iterator[ast.AST]:
    """Nodes that run when the module is imported: no function bodies, no ``if TYPE_CHECKING`` blocks."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        yield node
        yield from top_level(node)


def floor_of(module: str) -> str:
    """``core.data.readers.csv`` lies on floor ``data``; ``core`` itself on none."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else ""


def is_module(name: str) -> bool:
    path = ROOT.joinpath(*name.split("."))
    return path.is_dir() or path.with_suffix(".py").is_file()


@pytest.mark.parametrize("path", CORE_FILES, ids=module_name)
def test_core_imports_only_lower_floors(path: Path) -> None:
    own = floor_of(module_name(path))
    if not own:  # core/__init__.py
        assert not [name for _, name in imports(path) if name.startswith("core.")]
        return
    assert own in HEIGHT, f"core/{own} has no floor: add it to DESIGN.md and to this test"
    wrong = []
    for line, name in imports(path):
        if not name.startswith("core.") or not is_module(name):
            continue
        other = floor_of(name)
        if other != own and HEIGHT.get(other, len(FLOORS)) >= HEIGHT[own]:
            wrong.append(f"{path.relative_to(ROOT)}:{line} ({own}) imports {name} ({other})")
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("path", CORE_FILES, ids=module_name)
def test_core_never_imports_streamlit_or_pages(path: Path) -> None:
    wrong = [f"line {line}: {name}" for line, name in imports(path) if name.split(".")[0] in {"streamlit", "pages", "Home"}]
    assert not wrong, f"{path.relative_to(ROOT)}: {wrong}"


@pytest.mark.parametrize("path", PAGE_FILES, ids=module_name)
def test_pages_import_core_and_their_own_parts_only(path: Path) -> None:
    """No page imports another page, and none imports torch's company itself."""
    names = [name for _, name in imports(path)]
    assert not [
        name for name in names if name.split(".")[0] == "pages" and name.split(".")[:2] != ["pages", "ui"] and name != "pages"
    ]
    heavy = {"torch", "transformers", "peft", "trl", "accelerate", "bitsandbytes", "datasets", "evaluate"}
    assert not [name for name in names if name.split(".")[0] in heavy]
    assert not [name for _, name in imports(path, top_only=True) if name in TORCH_MODULES]


def modules_left_with_torch(modules: list[str]) -> dict[str, list[str]]:
    """What a fresh process has loaded after importing the modules: torch's company and streamlit."""
    code = (
        "import importlib, json, sys\n"
        "for name in json.loads(sys.argv[1]): importlib.import_module(name)\n"
        "print(json.dumps([n for n in ('torch', 'streamlit', 'evaluate', 'peft', 'trl') if n in sys.modules]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, json.dumps(modules)], cwd=ROOT, capture_output=True, text=True, timeout=600, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.strip().splitlines()[-1])


def test_importing_core_does_not_import_torch() -> None:
    modules = [module_name(path) for path in CORE_FILES]
    light = [name for name in modules if name not in TORCH_MODULES]
    left = modules_left_with_torch(light)
    if not left:
        return
    culprits = {name: found for name in light if (found := modules_left_with_torch([name]))}
    pytest.fail(f"these load what only workers may load (import it inside the function): {culprits}")


def test_importing_what_the_pages_import_does_not_import_torch() -> None:
    wanted = {
        name for path in PAGE_FILES for _, name in imports(path, top_only=True) if name.startswith("core.") and is_module(name)
    }
    assert modules_left_with_torch(sorted(wanted)) == []


def test_the_torch_modules_are_there_and_need_it() -> None:
    """The list of exceptions must not grow old."""
    for name in TORCH_MODULES:
        path = ROOT.joinpath(*name.split(".")).with_suffix(".py")
        if path.is_file():
            found = {name for _, name in imports(path)}
            assert found & TORCH_MODULES or "torch" in {name.split(".")[0] for name in found}, name


def test_the_floors_check_notices_a_wrong_import(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(globals(), "ROOT", tmp_path)
    for name in ("store", "jobs"):
        (tmp_path / "core" / name).mkdir(parents=True)
    wrong = tmp_path / "core" / "store" / "bad.py"
    wrong.write_text("def late() -> None:\n    from core import jobs\n    import streamlit\n")
    with pytest.raises(AssertionError, match=r"imports core\.jobs"):
        test_core_imports_only_lower_floors(wrong)
    with pytest.raises(AssertionError, match="streamlit"):
        test_core_never_imports_streamlit_or_pages(wrong)
