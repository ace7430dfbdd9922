"""A copy of the project without a protection: made, its tests run, and what they said judged."""

from __future__ import annotations

import contextlib
import importlib
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import traceback
import warnings
import xml.etree.ElementTree as ET
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Literal, Never

import psutil
import pytest

from benchmarks.protected import ROOT

COPIED = ("monitorkit", "plugins", "tests", "benchmarks", "config", "docs", "pyproject.toml")
LEFT_OUT = shutil.ignore_patterns("__pycache__", "results", "peers", "*.egg-info")
PLUGINS = "monitorkit_plugins"
REPORT = "found.xml"

ENVIRONMENT = {
    **{key: value for key, value in os.environ.items() if not key.startswith("MONITORKIT_")},
    "PYTHONUNBUFFERED": "1",
    # Those of schemathesis and playwright take longer to import than most tests to run.
    "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
}
"""Of tests, with PYTHONPATH, by which a copy is what Python imports in every process."""

WARM = (
    "asyncio", "fsspec", "httptools", "httpx", "hypothesis.strategies", "matplotlib.figure",
    "numpy", "pandas", "pebble", "pyarrow.csv", "pyarrow.parquet", "pydantic", "scipy.stats",
    "skops.io", "sklearn.ensemble", "sklearn.impute",
    "sklearn.linear_model", "sklearn.pipeline", "sklearn.preprocessing",
    "starlette.applications", "structlog", "treelite", "trustme", "uvicorn", "uvloop",
)  # fmt: skip
"""What most tests import."""

GRACE = 20.0
"""Seconds in which an interrupted test may tidy up."""

SEEN = re.compile(
    r"AssertionError|assert |Failed|\S*Timeout|ExceptionGroup: Hypothesis found"
    r"|ValueError: (not enough|too many) values to unpack"
)
"""How the message of a test begins that saw it."""

BROKEN = re.compile(
    r"\b(SyntaxError|IndentationError|ImportError|ModuleNotFoundError|NameError|UnboundLocalError)\b"
)
"""What a change that is wrong in itself makes of a test."""

LONGEST = 90
"""Characters of a message in the table."""

Fails = Literal["yes", "no", "broken", "not run"]


@dataclass(frozen=True, slots=True)
class Ran:
    """A run of pytest.

    Attributes:
        code: with which it ended.
        timed_out: whether it was ended.
        seconds: that it took.
        output: of it.
        xml: its report; empty when there is none.
    """

    code: int
    timed_out: bool
    seconds: float
    output: str
    xml: str


@dataclass(frozen=True, slots=True)
class Case:
    """A test with one set of parameters.

    Attributes:
        outcome: passed | failed | error | skipped.
        message: why.
        seconds: that it took.
    """

    outcome: str
    message: str
    seconds: float


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of a test without its protection.

    Attributes:
        fails: whether it fails as it should.
        how: its message.
        seconds: that it took.
    """

    fails: Fails
    how: str
    seconds: float


def copy_of(source: Path, target: Path) -> None:
    """Copy what tests need, compiled files of the source's own last run included.

    Raises:
        RuntimeError: Python would not take the copy.
    """
    if source == ROOT:
        target.mkdir()
        for name in COPIED:
            if (source / name).is_dir():
                shutil.copytree(source / name, target / name, ignore=LEFT_OUT)
            else:
                shutil.copy2(source / name, target / name)
        (target / PLUGINS).symlink_to("plugins")
    else:
        shutil.copytree(source, target, symlinks=True, ignore=shutil.ignore_patterns("tmp"))
    code = f"import monitorkit, {PLUGINS}; print(monitorkit.__file__); print({PLUGINS}.__file__)"
    # From elsewhere, as the tests start the command.
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=target.parent,
        env=ENVIRONMENT | {"PYTHONPATH": str(target)},
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    expected = [str(target / name / "__init__.py") for name in ("monitorkit", PLUGINS)]
    if done.stdout.splitlines() != expected:
        raise RuntimeError(f"not the copy: {done.stdout}")


def run(copy: Path, tests: Sequence[str], *, seconds: float, all_of_them: bool = False) -> Ran:
    """Run tests of a copy, to the first that fails; what it left behind is ended.

    Args:
        copy: the folder.
        tests: pytest's ids.
        seconds: after which it is ended.
        all_of_them: go on after the first.
    """
    report, output = copy / REPORT, copy / "output"
    report.unlink(missing_ok=True)
    # Whatever they are marked.
    arguments = ["-m", "", "-p", "no:cacheprovider", "-p", "pytest_asyncio.plugin", "--tb=short"]
    arguments += [f"--junitxml={report}", f"--basetemp={copy / 'tmp'}"]
    arguments += [*([] if all_of_them else ["-x"]), *tests]
    began = time.monotonic()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of threads, which do nothing here
        number = os.fork()
    if number == 0:
        _become(copy, output, arguments)
    process = psutil.Process(number)
    code: int | None
    try:
        code, timed_out = process.wait(seconds), False
    except psutil.TimeoutExpired:
        code, timed_out = _end(process), True
    _unmount(copy)
    return Ran(
        code or 0,
        timed_out,
        time.monotonic() - began,
        output.read_text(encoding="utf-8", errors="replace"),
        report.read_text(encoding="utf-8") if report.exists() else "",
    )


def warm_up() -> None:
    """Import what tests do, so that no run has to: that takes longer than most of them."""
    for name in WARM:
        with contextlib.suppress(ImportError):
            importlib.import_module(name)


def _become(copy: Path, output: Path, arguments: list[str]) -> Never:
    """In the new process: forget the project, and run pytest in a copy of it."""
    code = 1
    try:
        os.setsid()
        signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored in the background
        descriptor = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
        for number in (1, 2):
            os.dup2(descriptor, number)
        sys.stdout, sys.stderr = sys.__stdout__, sys.__stderr__
        os.chdir(copy)
        os.environ.clear()
        os.environ.update(ENVIRONMENT | {"PYTHONPATH": str(copy)})
        ours = ("benchmarks", "conftest", "monitorkit", PLUGINS, "service_process")
        for name in [name for name in sys.modules if name.partition(".")[0] in ours]:
            del sys.modules[name]
        sys.modules["__main__"] = ModuleType("__main__")  # which workers would import
        there = ("", str(ROOT), str(ROOT / "tests"))
        sys.path[:] = [str(copy), *(path for path in sys.path if path not in there)]
        code = int(pytest.main(arguments))
    except BaseException:  # noqa: BLE001 - this process must not go on as the other one
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _end(process: psutil.Process) -> int | None:
    """Let it tidy up, and end it and all that it started; returns its code."""
    below = process.children(recursive=True)
    process.send_signal(signal.SIGINT)
    with contextlib.suppress(psutil.TimeoutExpired):
        process.wait(GRACE)
    for each in (*below, process):
        with contextlib.suppress(psutil.NoSuchProcess):
            each.kill()
    return process.wait()


def _unmount(folder: Path) -> None:
    """Small disks of tests that were ended."""
    mounts = Path("/proc/self/mounts")
    lines = mounts.read_text(encoding="utf-8").splitlines() if mounts.exists() else []
    for where in [line.split()[1] for line in lines if f" {folder}/" in line]:
        subprocess.run(["umount", "-l", where], check=False)


def read_report(ran: Ran) -> dict[str, list[Case]]:
    """The cases of each test in a run."""
    found: defaultdict[str, list[Case]] = defaultdict(list)
    for case in ET.fromstring(ran.xml).iter("testcase") if ran.xml else ():  # noqa: S314 - pytest's
        test = f"{case.get('classname', '').replace('.', '/')}.py::{case.get('name', '')}"
        outcome, message = "passed", ""
        for kind, told in (("failure", "failed"), ("error", "error"), ("skipped", "skipped")):
            part = case.find(kind)
            if part is not None:
                outcome, message = told, part.get("message") or part.text or ""
        seconds = float(case.get("time") or 0)
        found[test.partition("[")[0]].append(Case(outcome, message, seconds))
    return dict(found)


def judged(ran: Ran, *, count: int, cause: str) -> Verdict:
    """Whether a test saw that its protection is gone.

    Args:
        ran: the test without it.
        count: of its cases, which must not change.
        cause: what its message may hold beside an assertion or a timeout.
    """

    def verdict(fails: Fails, how: str) -> Verdict:
        return Verdict(fails, how, ran.seconds)

    if ran.timed_out:
        return verdict("yes", "it does not end")
    collected = re.search(r"collected (\d+) item", ran.output)
    if collected is None or int(collected[1]) != count:
        return verdict("broken", f"{collected[0] if collected else 'nothing'} of {count}")
    cases = [case for some in read_report(ran).values() for case in some]
    outcomes = Counter(case.outcome for case in cases)
    failed = next((case.message for case in cases if case.outcome == "failed"), None)
    if failed is None:
        passed = ran.code == 0 and not outcomes["skipped"]
        return verdict("no" if passed else "broken", ", ".join(outcomes) or f"code {ran.code}")
    line = first_line(failed)
    if BROKEN.search(failed):
        return verdict("broken", line)
    if SEEN.match(failed) or (cause and re.search(cause, failed)):
        return verdict("yes", line)
    return verdict("broken", line)


def first_line(message: str) -> str:
    """A message in a cell of a table, without this machine's paths."""
    first = message.strip().partition("\n")[0]
    first = re.sub(r"(/[\w.+-]+){3,}", "…", first.replace("|", "\\|"))
    return first if len(first) <= LONGEST else first[:LONGEST] + "…"
