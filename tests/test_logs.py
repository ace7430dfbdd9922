"""Events: one strict JSON object a line on stdout, the libraries' and Python's own included."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import subprocess
import sys
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

from monitorkit import logs

PREAMBLE = """
import logging, os, sys, warnings
import structlog
from monitorkit import logs
log = logs.get("a.module")
"""


def run(code: str) -> subprocess.CompletedProcess[str]:
    """A process of its own, for logging is a process's affair."""
    command = [sys.executable, "-c", PREAMBLE + dedent(code)]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)


def events(code: str) -> list[dict[str, Any]]:
    done = run(code)
    assert done.stderr == ""
    return [json.loads(line, parse_constant=pytest.fail) for line in done.stdout.splitlines()]


def test_an_event_is_one_json_object_a_line() -> None:
    (event,) = events("""
        logs.configure()
        log.info("model_loaded", version="3", path=__import__("pathlib").Path("a/b"), text="a\\nb")
    """)
    assert event.pop("timestamp").endswith("Z")
    assert event == {
        "event": "model_loaded",
        "level": "info",
        "logger": "a.module",
        "version": "3",
        "path": "a/b",
        "text": "a\nb",
    }


def test_libraries_and_warnings_speak_the_same_language() -> None:
    found = events("""
        logs.configure()
        logging.getLogger("some.library").warning("%d rows", 3, extra={"file": "x"})
        warnings.warn("old", DeprecationWarning, stacklevel=1)
        logging.getLogger("uvicorn").info("up", extra={"color_message": "\\x1b[1mup"})
    """)
    assert [event["logger"] for event in found] == ["some.library", "py.warnings", "uvicorn"]
    assert (found[0]["event"], found[0]["file"], found[0]["level"]) == ("3 rows", "x", "warning")
    assert "DeprecationWarning: old" in found[1]["event"]
    assert "color_message" not in found[2]


def test_handlers_that_libraries_brought_are_taken_over() -> None:
    found = events("""
        for name in ("mlflow", "alembic"):
            logger = logging.getLogger(name)
            logger.addHandler(logging.StreamHandler(sys.stdout))
            logger.propagate = False
        logging.getLogger().addHandler(logging.StreamHandler(sys.stdout))
        logs.configure()
        logging.getLogger("mlflow").warning("once")
        logging.getLogger("alembic").info("chatter")
        late = logging.getLogger("late")
        late.addHandler(logging.StreamHandler(sys.stdout))
        logs.adopt_library_loggers()
        late.warning("adopted")
    """)
    assert [event["event"] for event in found] == ["once", "adopted"]


def test_a_traceback_stays_inside_its_event() -> None:
    (event,) = events("""
        logs.configure()
        try:
            1 / 0
        except ZeroDivisionError:
            log.exception("failed")
    """)
    assert "ZeroDivisionError: division by zero" in event["exception"]
    assert event["level"] == "error"


def test_events_hold_no_passwords_that_json_would_escape() -> None:
    (event,) = events(r"""
        logs.configure()
        address = "http://me:pä\\s#s@host/x"
        log.info(address, more=[{"uri": address}], error=ValueError(address))
    """)
    assert event["event"] == "http://***@host/x"
    assert event["more"] == [{"uri": "http://***@host/x"}]
    assert event["error"] == "http://***@host/x"


@pytest.mark.parametrize("form", ["json", "console"])
def test_a_traceback_does_not_show_the_values_of_variables(form: str) -> None:
    done = run(f"""
        logs.configure(form={form!r})
        def connect(key):
            password = key[::-1]
            raise ConnectionError("refused")
        try:
            connect("".join(["hun", "ter2"]))
        except ConnectionError:
            log.exception("failed")
    """)
    assert "hunter2" not in done.stdout
    assert "2retnuh" not in done.stdout
    assert "ConnectionError: refused" in done.stdout
    assert "in connect" in done.stdout


def test_whatever_an_event_holds_the_line_is_json() -> None:
    found = events("""
        import numpy as np
        logs.configure()
        ring = []
        ring.append(ring)
        log.info("nan", value=float("nan"), deep={"x": [float("-inf"), 1]})
        log.info("keys", table={(1, 2): 3})
        log.info("ring", ring=ring)
        log.info("odd", lone="\\udc80", raw=b"x", array=np.arange(2), number=np.float64(1.5))
    """)
    nan, keys, ring, odd = found
    assert (nan["value"], nan["deep"]) == (None, {"x": [None, 1]})
    assert keys["table"] == {"(1, 2)": 3}
    assert "..." in json.dumps(ring["ring"])
    assert (odd["array"], odd["number"]) == ("[0 1]", 1.5)


@pytest.mark.parametrize(
    ("level", "expected"),
    [
        ("DEBUG", ["debug", "info", "warning", "error", "http"]),
        ("INFO", ["info", "warning", "error", "http"]),
        ("WARNING", ["warning", "error", "http"]),
        ("ERROR", ["error"]),
    ],
)
def test_the_level_holds_for_all(level: str, expected: list[str]) -> None:
    found = events(f"""
        logs.configure({level!r})
        for name in ("debug", "info", "warning", "error"):
            getattr(log, name)(name)
        logging.getLogger("httpx").warning("http")
        logging.getLogger("httpx").info("chatter")
    """)
    assert [event["event"] for event in found] == expected


def test_configuring_twice_does_not_say_things_twice() -> None:
    (event,) = events("""
        logs.configure()
        log.debug("early")
        logs.configure("DEBUG", "json")
        log.debug("once")
    """)
    assert event["event"] == "once"


def test_context_goes_into_every_event() -> None:
    (event,) = events("""
        logs.configure()
        structlog.contextvars.bind_contextvars(run_id="7")
        log.info("x")
    """)
    assert event["run_id"] == "7"


def test_a_line_is_one_write() -> None:
    """So that the lines of several processes on one pipe do not mix."""
    done = run("""
        class Counting:
            def __init__(self): self.writes = []
            def write(self, text): self.writes.append(text); return len(text)
            def flush(self): pass
            def isatty(self): return False
        real, sys.stdout = sys.stdout, Counting()
        logs.configure()
        log.info("one"); log.info("two", text="a\\nb")
        print(len(sys.stdout.writes), file=real)
    """)
    assert done.stdout == "2\n"


def on_terminal(code: str, *, stdout: Path | None = None) -> str:
    """What a process draws on a terminal: on stdout, or on stderr when stdout is a file."""
    ours, theirs = pty.openpty()
    command = [sys.executable, "-c", PREAMBLE + code]
    environment = {**os.environ, "TERM": "xterm"}
    with contextlib.ExitStack() as stack:
        out = theirs if stdout is None else stack.enter_context(stdout.open("wb"))
        err = subprocess.DEVNULL if stdout is None else theirs
        process = stack.enter_context(
            subprocess.Popen(command, stdout=out, stderr=err, env=environment)
        )
        os.close(theirs)
        stack.callback(process.kill)
        drawn = b""
        with contextlib.suppress(OSError):  # so Linux says that nobody holds the other end
            while part := os.read(ours, 65536):
                drawn += part
        assert process.wait(timeout=60) == 0
    os.close(ours)
    return drawn.decode()


@pytest.mark.parametrize(("form", "is_json"), [("auto", False), ("json", True)])
def test_a_terminal_gets_it_pretty_unless_told_otherwise(form: str, is_json: bool) -> None:
    line = on_terminal(f"logs.configure(form={form!r}); log.info('hello', rows=3)")
    assert "hello" in line
    assert line.startswith("{") is is_json


def test_console_is_pretty_without_a_terminal() -> None:
    done = run("logs.configure(form='console'); log.info('hello', rows=3)")
    assert "hello" in done.stdout
    assert not done.stdout.startswith("{")


def test_libraries_are_told_to_be_quiet_unless_somebody_said_otherwise(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "false")
    monkeypatch.delenv("DO_NOT_TRACK", raising=False)
    before = dict(os.environ)
    try:
        logs.quiet_libraries()
        assert os.environ["DO_NOT_TRACK"] == "1"
        assert os.environ["MLFLOW_DISABLE_TELEMETRY"] == "false"
    finally:
        for name in set(os.environ) - set(before):
            del os.environ[name]


PROGRESS = """
from monitorkit import progress
logs.configure()
with progress.step("train_model", rows=3) as advance:
    advance(0.5)
"""


def test_a_step_is_two_events_without_a_terminal() -> None:
    started, done = events(PROGRESS)
    assert (started["event"], started["rows"]) == ("train_model_started", 3)
    assert (done["event"], done["rows"]) == ("train_model_done", 3)
    assert 0 <= done["seconds"] < 5


def test_a_step_that_fails_is_not_done() -> None:
    done = subprocess.run(
        [sys.executable, "-c", PREAMBLE + PROGRESS + "    raise SystemExit(3)"],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    (event,) = [json.loads(line) for line in done.stdout.splitlines()]
    assert event["event"] == "train_model_started"
    assert done.returncode == 3


def test_a_step_is_a_bar_on_a_terminal(tmp_path: Path) -> None:
    drawn = on_terminal(PROGRESS, stdout=tmp_path / "stdout")
    assert "train model" in drawn
    assert "100%" in drawn
    (event,) = [json.loads(line) for line in (tmp_path / "stdout").read_text().splitlines()]
    assert event["event"] == "train_model_done"
