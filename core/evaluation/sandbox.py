"""Runs a Python program that nobody vouches for: bubblewrap, no network, no files but a scratch folder, everything bounded.

The program sees Python's own library read-only and an empty folder of its own in memory. It has no network, no other
process, no view of the machine's files, and can make no process (a system call filter; a limit on processes doesn't bind
root). Time, memory, file sizes and open files are bounded by rlimits. Where this can't be had, it refuses: there is no
unprotected way to run a program here. Whether it passed is said by a test in a second sandbox, which the program can only
answer. Knows nothing of what the program is for.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import platform
import secrets
import shutil
import struct
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from core.errors import UserError
from core.evaluation.sandbox_drivers import JUDGE, PROGRAM

_ALLOW, _DENY, _ABSENT, _KILL = 0x7FFF0000, 0x00050001, 0x00050026, 0x80000000
_CLONE_THREAD = 0x00010000
_ARCHITECTURES = {
    # audit number, clone, calls that are denied: fork, vfork, ptrace, mount, keys, bpf, namespaces, memory that no limit counts
    "x86_64": (0xC000003E, 56, (57, 58, 101, 165, 248, 250, 321, 323, 298, 272, 308, 425, 319, 29, 68, 64)),
    "aarch64": (0xC00000B7, 220, (117, 40, 217, 219, 280, 282, 241, 97, 268, 425, 279, 194, 186, 190)),
}
_CLONE3 = 435


@dataclass(frozen=True)
class Limits:
    """What a program may take: seconds of wall clock, MiB of memory and of its scratch folder, open files."""

    seconds: float = 5.0
    memory_mb: int = 1024
    scratch_mb: int = 16
    files: int = 64


@dataclass(frozen=True)
class Ran:
    """``result``: ``passed`` (program and test ran to their ends), ``timed out``, the exception as text, or how it died."""

    passed: bool
    result: str


def run_program(program: str, name: str = "int", test: str = "", prompt: str = "", limits: Limits | None = None) -> Ran:
    """Run a program in the sandbox and then a test that calls its function ``name``. UserError where no sandbox can be had.

    The test runs in a sandbox of its own, after ``prompt`` (what it may use beside the function), and calls the function by
    plain values, so that a program can't say that it passed, nor see what is expected. Without a test the program passes
    when it has run to its end.
    """
    limits = limits or Limits()
    check_sandbox()
    ends = time.monotonic() + limits.seconds
    word = secrets.token_hex(16)  # only the end of the test says it
    with ExitStack() as stack:
        (told, calls), (replies, tell) = (_pipe(stack) for _ in range(2))
        asked, asks = _pipe(stack)
        said = stack.enter_context(tempfile.TemporaryFile())
        _start(stack, PROGRAM, limits, told, tell)
        judge = _start(stack, JUDGE, limits, asked, said, calls, replies)
        ways = {"calls": calls.fileno(), "replies": replies.fileno()}
        for mine in (told, tell, asked, replies):
            mine.close()
        begins = {"limits": _rlimits(limits), "name": name}
        with contextlib.suppress(BrokenPipeError):  # it has ended: how is said below
            _say(asks, {**begins, "test": test, "prompt": prompt, "word": word, **ways})
            _say(calls, {**begins, "program": program})
        calls.close()
        try:
            judge.wait(timeout=max(0.0, ends - time.monotonic()))
        except subprocess.TimeoutExpired:
            return Ran(False, "timed out")
        said.seek(0)
        text = said.read(4096).decode("utf-8", "replace")
    if text == word:
        return Ran(True, "passed")
    return Ran(False, text or f"ended early, exit code {judge.returncode}")


def _pipe(stack: ExitStack) -> tuple[IO[bytes], IO[bytes]]:
    """Both ends of a pipe, closed with the stack at the latest."""
    reads, writes = os.pipe()
    return stack.enter_context(os.fdopen(reads, "rb")), stack.enter_context(os.fdopen(writes, "wb", buffering=0))


def _say(pipe: IO[bytes], what: dict[str, Any]) -> None:
    """A line of JSON, however long."""
    rest = memoryview(json.dumps(what).encode() + b"\n")
    while rest:
        rest = rest[pipe.write(rest) :]


def _start(
    stack: ExitStack, driver: str, limits: Limits, stdin: IO[bytes], stdout: IO[bytes], *more: IO[bytes]
) -> subprocess.Popen[bytes]:
    """A driver in a sandbox, ended with the stack."""
    rules = stack.enter_context(_filter_file())
    full = [*_arguments(limits), "--seccomp", str(rules.fileno()), *_python(driver)]
    kept = (rules.fileno(), *(file.fileno() for file in more))
    process = subprocess.Popen(full, stdin=stdin, stdout=stdout, stderr=subprocess.DEVNULL, pass_fds=kept, env={})
    stack.callback(process.wait)
    stack.callback(process.kill)  # all inside die with it
    return process


def _rlimits(limits: Limits) -> dict[str, int]:
    """What the drivers bound themselves by."""
    return {
        "RLIMIT_AS": limits.memory_mb * 2**20,
        "RLIMIT_CPU": int(limits.seconds) + 1,
        "RLIMIT_FSIZE": limits.scratch_mb * 2**20,
        "RLIMIT_NOFILE": limits.files,
        "RLIMIT_CORE": 0,
    }


def check_sandbox() -> None:
    """UserError, with what is missing, unless a program can be run in the sandbox here."""
    fault = _fault()
    if fault:
        raise UserError(
            f"Programs can't be run here: {fault}",
            "Install bubblewrap (`apt-get install bubblewrap`) on Linux with user namespaces. Nothing is run without a sandbox.",
        )


@functools.cache
def _fault() -> str:
    """Why there is no sandbox; empty when there is one. Found out by running one."""
    if platform.machine() not in _ARCHITECTURES or sys.platform != "linux":
        return f"there is no system call filter for {sys.platform} on {platform.machine()}"
    if shutil.which("bwrap") is None:
        return "bubblewrap isn't installed"
    with _filter_file() as rules:
        full = [*_arguments(Limits()), "--seccomp", str(rules.fileno()), *_python("import os; os.write(1, b'sound')")]
        try:
            tried = subprocess.run(full, capture_output=True, pass_fds=(rules.fileno(),), timeout=30, check=False, env={})
        except (OSError, subprocess.TimeoutExpired) as error:
            return f"bubblewrap doesn't start ({error})"
    return "" if tried.stdout == b"sound" else f"bubblewrap fails ({tried.stderr.decode('utf-8', 'replace').strip()[-200:]})"


def _arguments(limits: Limits) -> list[str]:
    """Bubblewrap and what it lets in: Python and the system's libraries, read-only, and a scratch folder in memory."""
    command = [shutil.which("bwrap") or "bwrap", "--unshare-all", "--die-with-parent", "--new-session", "--clearenv"]
    command += ["--uid", "65534", "--gid", "65534", "--hostname", "sandbox", "--cap-drop", "ALL"]
    for folder in ("/usr/lib", "/usr/lib64", "/lib", "/lib64"):
        if os.path.islink(folder):
            command += ["--symlink", os.readlink(folder), folder]
        elif os.path.isdir(folder):
            command += ["--ro-bind", folder, folder]
    base = Path(sys.base_prefix)
    command += ["--ro-bind", str(_interpreter()), str(_interpreter())]
    for library in {base / "lib", base / "lib64", Path(os.__file__).parent}:
        if library.is_dir() and not library.is_symlink() and not str(library).startswith(("/usr/lib", "/lib")):
            command += ["--ro-bind", str(library), str(library)]
    command += ["--dev", "/dev", "--size", str(limits.scratch_mb * 2**20), "--tmpfs", "/scratch", "--chdir", "/scratch"]
    return [*command, "--remount-ro", "/dev", "--remount-ro", "/"]


def _interpreter() -> Path:
    return Path(getattr(sys, "_base_executable", sys.executable)).resolve()


def _python(code: str) -> list[str]:
    return ["--", str(_interpreter()), "-I", "-S", "-B", "-c", code]


def _filter_file() -> tempfile._TemporaryFileWrapper[bytes]:
    """The system call filter as bubblewrap reads it: a file with compiled rules (seccomp(2), classic BPF)."""
    audit, clone, denied = _ARCHITECTURES[platform.machine()]
    load, equal, at_least, test, back = 0x20, 0x15, 0x35, 0x45, 0x06
    rules: list[tuple[int, int, int, int]] = [
        (load, 0, 0, 4),
        (equal, 1, 0, audit),
        (back, 0, 0, _KILL),
        (load, 0, 0, 0),
        (at_least, 0, 1, 0x40000000),  # the x32 calls
        (back, 0, 0, _DENY),
        (equal, 0, 1, _CLONE3),
        (back, 0, 0, _ABSENT),  # libraries go on with clone
    ]
    for call in denied:
        rules += [(equal, 0, 1, call), (back, 0, 0, _DENY)]
    rules += [
        (equal, 0, 3, clone),
        (load, 0, 0, 16),
        (test, 1, 0, _CLONE_THREAD),
        (back, 0, 0, _DENY),
        (back, 0, 0, _ALLOW),
    ]
    file = tempfile.NamedTemporaryFile()  # noqa: SIM115 (closed by the caller)
    file.write(b"".join(struct.pack("HBBI", *rule) for rule in rules))
    file.flush()
    file.seek(0)
    return file
