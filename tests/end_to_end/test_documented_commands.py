"""Every command of README.md and of three pages of docs/, run as it is written.

In a copy of the repository, on a terminal, beside one service. Only `pip install ...` and `tox` are
left out: CI itself runs these.
"""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
import socket
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from documented import LANGUAGES, Shown, Terminal, commands, compare, fences, plain, run

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
README, TUTORIAL, COMING, SCALE = (
    (ROOT / name).read_text(encoding="utf-8")
    for name in ("README.md", "docs/tutorial.md", "docs/coming-from.md", "docs/scale.md")
)
PORT = 8000
SERVE = "python -m monitorkit run"
NOT_RUN = re.compile(r"(pip install .*|tox)")
LEFT_OUT = shutil.ignore_patterns(
    ".git", ".tox", ".*cache", "__pycache__", "*.egg-info", ".environments", ".venv", "venv"
)


def free(port: int) -> bool:
    with socket.socket() as trial:
        trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            trial.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def parts(shown: Shown) -> list[str]:
    """What is left of a command line without what is not run."""
    return [part for part in shown.command.split(" && ") if not NOT_RUN.fullmatch(part)]


class Place:
    """A fresh copy of the repository with a service that runs in it.

    Attributes:
        url: of the service.
        env: of every command: this interpreter is `python`.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "monitorkit"
        shutil.copytree(ROOT, self.folder, ignore=LEFT_OUT)
        # What the owner of this clone has made and brought along.
        shutil.rmtree(self.folder / "monitoring", ignore_errors=True)
        (self.folder / "data" / "cs-training.csv").unlink(missing_ok=True)
        port = PORT if free(PORT) else _any_port()
        self.url = f"http://127.0.0.1:{port}"
        self.env = {
            **{k: v for k, v in os.environ.items() if not k.startswith(("MONITORKIT_", "MLFLOW_"))},
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "TERM": "xterm",
            "COLUMNS": "200",
            "NO_PROXY": "*",
            **({} if port == PORT else {"MONITORKIT_SERVING__PORT": str(port)}),
        }
        self.service = Terminal(SERVE, self.folder, self.env)

    def run(self, shown: Shown) -> str:
        """Run one command, at the service's port, and compare what it prints with the page."""
        command = shown.command.replace(f"127.0.0.1:{PORT}", self.url.removeprefix("http://"))
        printed: str = run(Shown(command, shown.output), self.folder, self.env)
        self.service.drain()
        return printed

    def logged(self, segment: str) -> int:
        """Rows of a segment."""
        path = self.folder / "monitoring/predictions" / segment
        return len(path.read_bytes().splitlines()) - 1

    def judged(self, command: str) -> int:
        """Rows in the window of the cycle that a command runs."""
        before = len(self.results())
        self.run(Shown(command, None))
        assert len(self.results()) > before
        return int(self.results()[-1]["window"]["rows"])

    def results(self) -> list[Any]:
        found = (self.folder / "monitoring/metrics/monitoring_results").glob("*.json")
        return [json.loads(path.read_text(encoding="utf-8")) for path in sorted(found)]


def _any_port() -> int:
    with socket.socket() as trial:
        trial.bind(("127.0.0.1", 0))
        return int(trial.getsockname()[1])


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """Where the pages are followed, one after the other."""
    place = Place(tmp_path_factory.mktemp("reader"))
    try:
        place.service.read("listening", 300)
        yield place
    finally:
        code = place.service.end()
    assert code == 0, place.service.text


@pytest.mark.parametrize(
    "page", [README, TUTORIAL, COMING, SCALE], ids=["README", "tutorial", "coming", "scale"]
)
def test_every_block_says_what_it_is(page: str) -> None:
    assert {language for language, _ in fences(page)} <= set(LANGUAGES)


def test_the_tutorial(place: Place) -> None:
    left_out, ran = [], []
    for shown in commands(TUTORIAL):
        if not parts(shown):
            left_out.append(shown.command)
        elif shown.command == SERVE:
            assert shown.output is not None
            compare(shown.output, place.service.text)
        else:
            place.run(shown)
            ran.append(shown.command)
    assert left_out == ["pip install -e ."]
    assert len(ran) >= 8
    drifted = re.findall(r"\*\*(\d+ of \d+ features drifted)\*\*", TUTORIAL)
    page = httpx.get(f"{place.url}/dashboard", trust_env=False, timeout=60)
    assert len(drifted) == 1
    assert drifted[0] in page.text


def test_the_readme(place: Place) -> None:
    """After the tutorial, so that its rows are not alone."""
    ran = []
    for shown in commands(README):
        for part in parts(shown):
            if part != SERVE:
                before = len(place.results())
                ran.append((part, place.run(Shown(part, None)), len(place.results()) - before))
    (predict, answer, _), (simulate, told, _), (monitor, cycle, new) = ran
    assert predict.startswith("curl ")
    assert set(json.loads(answer)) == {
        "prediction", "probability", "model_version", "prediction_id", "timestamp",
    }  # fmt: skip
    assert simulate == "python -m monitorkit simulate --rows 250"
    assert "answered=250" in plain(told)
    assert monitor == "python -m monitorkit monitor --once"
    assert new >= 1  # a periodic cycle may come between
    assert "Verdict: " in cycle
    every = {part for shown in commands(README) for part in shown.command.split(" && ")}
    assert every - {part for part, _, _ in ran} == {
        SERVE,
        "pip install -e .",
        "pip install tox",
        "tox",
    }


def test_coming_from_others(place: Place) -> None:
    write_old_service(place)
    for shown in commands(COMING):
        place.run(shown)


def test_from_one_process_to_many(place: Place) -> None:
    """Two more services beside the one that runs, and a log of three read by Dask."""
    first, second, here, there, scheduler, worker = [
        part for shown in commands(SCALE) for part in parts(shown)
    ]
    ports = [_any_port(), _any_port()]
    assert "MONITORKIT_SERVING__PORT=8001" in second
    services = [
        Terminal(f"MONITORKIT_SERVING__PORT={ports[0]} {first}", place.folder, place.env),
        Terminal(second.replace("8001", str(ports[1])), place.folder, place.env),
    ]
    try:
        for service, port in zip(services, ports, strict=True):
            service.read("listening", 300)
            url = f"http://127.0.0.1:{port}"
            place.run(Shown(f"python -m monitorkit simulate --rows 30 --url {url}", None))
    finally:
        codes = [service.end() for service in services]
    assert codes == [0, 0]
    assert place.logged("predictions-a.csv") == place.logged("predictions-b.csv") == 30

    rows = place.judged(here)
    assert rows >= 60
    address = f"127.0.0.1:{_any_port()}"
    options = f"--host 127.0.0.1 --port {address.rpartition(':')[2]} --no-dashboard"
    cluster = [Terminal(f"{scheduler} {options}", place.folder, place.env)]
    try:
        cluster[0].read("Scheduler at", 60)
        shown = "10.0.0.5:8786"
        joined = f"{worker.replace(shown, address)} --no-dashboard"
        cluster.append(Terminal(joined, place.folder, place.env))
        cluster[1].read("Registered to", 60)
        assert place.judged(there.replace(shown, address)) == rows
    finally:
        for process in reversed(cluster):
            process.end()


def write_old_service(place: Place, rows: int = 300) -> None:
    """The log of another service that the page begins with, a row each 48 s, of yesterday."""
    with (place.folder / "monitoring/reference/reference_data.csv").open(newline="") as file:
        table = list(csv.DictReader(file))[:rows]
    begin = datetime.now(UTC) - timedelta(hours=20)
    with (place.folder / "old-service.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["request_id", "event_time", *table[0], "score"])
        for n, row in enumerate(table):
            moment = (begin + timedelta(seconds=48 * n)).isoformat()
            writer.writerow([f"req-{n:06}", moment, *row.values(), (n % 100) / 101])
