"""The real command line in real processes, on free loopback ports, in folders of their own."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from benchmarks.traffic import APPLICANT

Event = dict[str, Any]

CLEAN = {
    key: value
    for key, value in os.environ.items()
    if not key.startswith(("MONITORKIT_", "MLFLOW_", "PYTHONWARNINGS"))
}


NO_SINKS = {"MONITORKIT_SINKS": "[]"}
"""For commands of which MLflow, which takes ten seconds of each cycle, is not what is tried."""


def events_of(text: str) -> list[Event]:
    """Every line is one JSON object; anything else fails the test that reads it."""
    lines = text.splitlines()
    events: list[Event] = []
    for number, line in enumerate(lines):
        try:
            events.append(json.loads(line))
        except json.JSONDecodeError:
            rest = "\n".join(lines[number : number + 60])
            pytest.fail(f"line {number + 1} is no JSON object, here with what follows it:\n{rest}")
    return events


def run_command(
    folder: Path, *arguments: str, code: int = 0, env: dict[str, str] | None = None
) -> list[Event]:
    """Run `python -m monitorkit ARGUMENTS` in a folder; returns its events."""
    done = subprocess.run(
        [sys.executable, "-m", "monitorkit", *arguments],
        cwd=folder,
        env={**CLEAN, **(env or {})},
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    assert done.stderr == ""
    assert done.returncode == code, done.stdout
    return events_of(done.stdout)


def until(condition: Callable[[], Any], seconds: float = 20) -> Any:
    """Wait for something that will happen; returns it."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return found


class Service:
    """`python -m monitorkit run` as a user starts it."""

    def __init__(self, folder: Path, *arguments: str, env: dict[str, str] | None = None) -> None:
        self.folder = folder
        self.lines: list[str] = []
        self.started = time.monotonic()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "monitorkit", "run", "--port", "0", *arguments],
            cwd=folder,
            env={**CLEAN, **(env or {})},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(line)

    @property
    def events(self) -> list[Event]:
        return events_of("".join(self.lines))

    def wait_for(self, event: str, *, count: int = 1, seconds: float = 180) -> Event:
        """Wait until an event has come so many times; returns the last of them."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            found = [entry for entry in self.events if entry["event"] == event]
            if len(found) >= count:
                return found[count - 1]
            if self.process.poll() is not None:
                break
            time.sleep(0.02)
        raise AssertionError(f"no {event!r} x{count} in:\n" + "".join(self.lines))

    @property
    def url(self) -> str:
        return str(self.wait_for("listening")["url"])

    def client(self) -> httpx.Client:
        return httpx.Client(base_url=self.url, timeout=120, trust_env=False)

    def stop(self) -> int:
        """SIGTERM, as an orchestrator does it; returns the exit code."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(timeout=40)
        self._reader.join(timeout=10)
        return code

    def kill(self) -> None:
        """Whatever is left of it."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(timeout=10)
        self._reader.join(timeout=10)
        if self.process.stdout is not None:
            self.process.stdout.close()


QUICK = """
sinks = []

[data]
synthetic_rows = 3000

[training]
estimator = "logistic_regression"

[registry]
poll = "300ms"

[log]
rotate = "64KiB"

[monitoring]
interval = "500ms"
min_rows = 20

[monitoring.results]
keep = 100

[[monitors]]
name = "feature-drift"
use = "anytime_drift"

[[monitors]]
name = "ks"
use = "ks"

[[monitors]]
name = "psi"
use = "psi"

[[monitors]]
name = "proxy"
use = "proxy_metrics"
"""
"""A small model, small segments, quick monitors and no pause."""


def configure(folder: Path, text: str = QUICK) -> Path:
    """Write the configuration that commands find in a folder; returns the folder."""
    path = folder / "config" / "monitorkit.toml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return folder


@pytest.fixture(scope="session")
def command() -> Callable[..., list[Event]]:
    """Run one command to its end."""
    return run_command


Start = Callable[..., Service]


@pytest.fixture
def start() -> Iterator[Start]:
    """Start services that end with the test."""
    services: list[Service] = []

    def begin(folder: Path, *arguments: str, env: dict[str, str] | None = None) -> Service:
        services.append(Service(folder, *arguments, env=env))
        return services[-1]

    yield begin
    for service in services:
        service.kill()


@pytest.fixture(scope="session")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A folder in which the service was started once, and a copy to make it new again."""
    folder = tmp_path_factory.mktemp("prepared")
    service = Service(folder)
    try:
        service.wait_for("listening", seconds=120)
        assert service.stop() == 0
    finally:
        service.kill()
    pristine = tmp_path_factory.mktemp("pristine") / "copy"
    shutil.copytree(folder, pristine)
    return folder, pristine


@pytest.fixture
def folder(prepared: tuple[Path, Path]) -> Path:
    """Model, reference and default config are there, and nothing else; always at one path.

    MLflow's embedded store knows its artifacts by their absolute path.
    """
    folder, pristine = prepared
    shutil.rmtree(folder)
    shutil.copytree(pristine, folder)
    return folder


@pytest.fixture
def applicant() -> dict[str, Any]:
    """A request that is answered."""
    return dict(APPLICANT)
