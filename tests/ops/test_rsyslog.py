"""The example for rsyslog on a real rsyslogd: every event of a real service arrives, and once.

The log file is rotated in both ways: copied and emptied by logrotate while the service holds it
open, and renamed under traffic by whoever writes it, as container runtimes do.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from service_process import CLEAN, QUICK, Event, Service, configure, events_of, until

from benchmarks.traffic import APPLICANT

pytestmark = pytest.mark.slow

EXAMPLES = Path(__file__).parents[2] / "docs" / "examples" / "rsyslog"
RSYSLOGD = shutil.which("rsyslogd", path=os.pathsep.join((os.environ["PATH"], "/usr/sbin")))
LOGROTATE = shutil.which("logrotate", path=os.pathsep.join((os.environ["PATH"], "/usr/sbin")))
MODULES = {path.name for path in Path("/usr/lib").glob("*/rsyslog/*.so")}
MISSING = {"imfile.so", "mmjsonparse.so"} - MODULES

needs_rsyslog = pytest.mark.skipif(
    RSYSLOGD is None or bool(MISSING), reason=f"there is no rsyslogd with {sorted(MISSING)}"
)
needs_logrotate = pytest.mark.skipif(LOGROTATE is None, reason="there is no logrotate")

ODD = [
    "/%0A%0D%09%00",
    '/%22quoted%22%5C{"event":"forged"}',
    "/%C3%A9%E2%82%AC%F0%9F%98%80",
    "/%FF%FE",
    "/%E2%80%A8%E2%80%A9%C2%85",
    "/" + "long/" * 5000,
]
"""Paths, which clients think up: line ends, quotes, beyond ASCII, no UTF-8, odd line ends, long."""


def here(name: str, folder: Path) -> str:
    """A file of the examples, with its folders in another place."""
    text = (EXAMPLES / name).read_text(encoding="utf-8")
    for written in ("/var/log/monitorkit", "/var/log/shipped", "/var/spool/rsyslog"):
        place = folder / Path(written).name
        place.mkdir(exist_ok=True)
        text = text.replace(written, str(place))
    assert "/var/" not in text
    return text


class Shipper:
    """A real rsyslogd with the configuration of the example, in folders of its own."""

    def __init__(self, folder: Path) -> None:
        self.log = folder / "monitorkit" / "events.log"
        self.shipped = folder / "shipped" / "events.jsonl"
        self.ecs = folder / "shipped" / "ecs.jsonl"
        self.other = folder / "shipped" / "other.log"
        self._folder = folder
        self._configuration = folder / "rsyslog.conf"
        self._configuration.write_text(here("monitorkit.conf", folder))
        self.log.touch()
        self._process: subprocess.Popen[str] | None = None

    def start(self) -> None:
        assert RSYSLOGD is not None
        pid = self._folder / "rsyslogd.pid"
        command = [RSYSLOGD, "-n", "-f", str(self._configuration), "-i", str(pid)]
        with (self._folder / "rsyslogd.out").open("a") as output:
            self._process = subprocess.Popen(
                command, stdout=output, stderr=subprocess.STDOUT, text=True
            )

    def stop(self) -> None:
        if self._process is not None:
            self._process.send_signal(signal.SIGTERM)
            assert self._process.wait(timeout=20) == 0
            self._process = None
            assert (self._folder / "rsyslogd.out").read_text() == ""

    def lines(self, path: Path | None = None) -> list[str]:
        path = path or self.shipped
        # Only a line end ends a line: text may hold others.
        return path.read_text(encoding="utf-8").split("\n")[:-1] if path.exists() else []

    def events(self) -> list[Event]:
        return [json.loads(line) for line in self.lines()]

    def has(self, request_id: str) -> bool:
        return any(f'"{request_id}"' in line for line in self.lines())


@pytest.fixture
def shipper(tmp_path: Path) -> Iterator[Shipper]:
    shipper = Shipper(tmp_path)
    try:
        shipper.start()
        yield shipper
    finally:
        shipper.stop()


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which every request is an event; who starts first makes the model."""
    folder = tmp_path_factory.mktemp("shipped")
    text = QUICK.replace("500ms", "1h") + "[serving]\naccess_log = true\n"
    configure(folder, text)
    return folder


def ask(client: httpx.Client, name: str) -> list[str]:
    """Send what is odd, refused and answered; returns the ids of the requests, in order."""
    asked: list[str] = []

    def send(path: str, **body: Any) -> None:
        asked.append(f"{name}-{len(asked)}")
        client.post(path, headers={"X-Request-ID": asked[-1]}, **body)

    for age in range(20, 30):
        send("/predict", json=APPLICANT | {"age": age})
    send("/predict/batch", json=[APPLICANT] * 30)
    for field in ("new\nline", 'quo"te', "ünï\u2028", "\x00", "{", "</script>"):
        send("/predict", json=APPLICANT | {field: field})
    send("/predict", content=b'{"age": "\xff')
    for path in ODD:
        send(path, json={})
    return asked


def request_ids(events: list[Event]) -> list[str]:
    return [event["request_id"] for event in events if event["event"] == "request"]


@needs_rsyslog
@needs_logrotate
def test_a_file_behind_a_shell_is_shipped_through_copytruncate(
    shipper: Shipper, place: Path, tmp_path: Path
) -> None:
    """Nothing is written while logrotate works: it would be lost (docs/logs.md)."""
    rotation = tmp_path / "logrotate.conf"
    rotation.write_text(here("logrotate.conf", tmp_path))
    rotation.chmod(0o644)
    with shipper.log.open("ab") as stdout:  # as `>>` does
        service = subprocess.Popen(
            [sys.executable, "-m", "monitorkit", "run", "--port", "0"],
            cwd=place,
            env=CLEAN,
            stdout=stdout,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        until(lambda: any(e["event"] == "listening" for e in shipper.events()), 180)
        url = next(e["url"] for e in shipper.events() if e["event"] == "listening")
        with httpx.Client(base_url=url, timeout=60, trust_env=False) as client:
            asked = ask(client, "before")
            until(lambda: shipper.has(asked[-1]))
            assert LOGROTATE is not None
            state = tmp_path / "logrotate.state"
            done = subprocess.run(
                [LOGROTATE, "--force", "--state", str(state), str(rotation)],
                capture_output=True,
                text=True,
                timeout=20,
                check=False,
            )
            assert (done.returncode, done.stderr) == (0, "")
            (copied,) = shipper.log.parent.glob("events.log.1*")
            before = copied.read_text().split("\n")[:-1]
            asked += ask(client, "after")
            until(lambda: shipper.has(asked[-1]))
            shipper.stop()
            asked += ask(client, "away")
            shipper.start()
            until(lambda: shipper.has(asked[-1]))
        service.terminate()
        assert service.wait(timeout=40) == 0
        until(lambda: shipper.events()[-1]["event"] == "stopped")
    finally:
        if service.poll() is None:
            os.killpg(service.pid, signal.SIGKILL)
            service.wait(timeout=10)
    written = before + shipper.log.read_text().split("\n")[:-1]
    assert shipper.lines() == written  # byte for byte, each once, in order
    assert shipper.lines(shipper.other) == []
    assert request_ids(shipper.events()) == asked
    check_fields(shipper)


def check_fields(shipper: Shipper) -> None:
    """Names of the Elastic Common Schema hold what ours do."""
    plain, mapped = shipper.events(), [json.loads(line) for line in shipper.lines(shipper.ecs)]
    for ours, theirs in zip(plain, mapped, strict=True):
        assert theirs["@timestamp"] == ours["timestamp"]
        assert theirs["log.level"] == ours["level"]
        assert theirs["log.logger"] == ours["logger"]
        assert theirs["message"] == ours["event"]
        assert theirs["http.request.id"] == ours.get("request_id", "")
        assert theirs["monitorkit"].keys() == ours.keys()


class Runtime:
    """Writes what a service prints to a file, and to a new one when it was renamed."""

    def __init__(self, service: Service, path: Path) -> None:
        self.written: list[str] = []
        self._service = service
        self._path = path
        self._lock = threading.Lock()
        self._ended = False
        self._thread = threading.Thread(target=self._copy)
        self._thread.start()

    def rotate(self, number: int) -> None:
        """Rename the file; what comes is written to a new one."""
        with self._lock:
            self._path.rename(self._path.with_name(f"{self._path.name}.{number}"))

    def finish(self) -> None:
        self._ended = True
        self._thread.join(timeout=20)

    def _copy(self) -> None:
        while True:
            ended = self._ended
            for line in self._service.lines[len(self.written) :]:
                with self._lock, self._path.open("a", encoding="utf-8") as file:
                    file.write(line)
                self.written.append(line)
            if ended:
                return
            time.sleep(0.005)


@needs_rsyslog
def test_a_file_that_is_renamed_under_traffic_is_shipped_to_the_last_event(
    shipper: Shipper, place: Path
) -> None:
    service = Service(place)
    runtime = Runtime(service, shipper.log)
    try:
        asked: list[str] = []
        ended = threading.Event()

        def traffic() -> None:
            with service.client() as client:
                while not ended.is_set():
                    asked.extend(ask(client, f"round-{len(asked)}"))

        service.wait_for("listening")
        thread = threading.Thread(target=traffic)
        thread.start()
        for number in range(1, 4):
            time.sleep(0.5)
            runtime.rotate(number)
        time.sleep(0.3)
        ended.set()
        thread.join(timeout=30)
        assert service.stop() == 0
    finally:
        service.kill()
        runtime.finish()
    until(lambda: len(shipper.lines()) >= len(runtime.written))
    shipper.stop()
    assert Counter(shipper.lines()) == Counter(line.rstrip("\n") for line in runtime.written)
    assert shipper.lines(shipper.other) == []
    assert Counter(request_ids(shipper.events())) == Counter(asked)
    assert events_of("".join(runtime.written)) == service.events
    assert len(asked) > 100
