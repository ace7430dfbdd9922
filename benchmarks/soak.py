"""A day in N minutes: `python -m benchmarks.soak --minutes 20`.

Traffic never stops; cycles, reloads, rotations and restarts come as often as in 24 hours, and so do
faults, at moments drawn from a seed: kills, a full disk, a registry that does not answer. After
every kill and at the end the log is compared with what was answered. The service's memory and
open files are read every second; in its longest life their trend must be flat.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from benchmarks.evidence import LogEvidence, results
from benchmarks.machine import say
from benchmarks.soak_report import Sample, Soaked, report
from benchmarks.traffic import Traffic

OUTPUT = Path(__file__).with_name("results")
DAY_MINUTES = 24 * 60
STARTING_SECONDS = 180.0
FULL_SHARE = 0.005
AWAY_SHARE = 0.02
DISK = "512m"
CONFIG = """
[data]
synthetic_rows = 3000

[training]
estimator = "logistic_regression"

[registry]
poll = "{poll:.3f}s"
timeout = "120s"

[log]
rotate = "{rotate}KiB"

[monitoring]
interval = "{interval:.3f}s"
bucket = "1s"
min_rows = 20

[monitoring.results]
keep = 200

[[monitors]]
name = "proxy-metrics"
use = "proxy_metrics"

[[monitors]]
name = "feature-drift"
use = "anytime_drift"

[[monitors]]
name = "kolmogorov-smirnov"
use = "ks"

[[monitors]]
name = "population-stability"
use = "psi"

[[sinks]]
name = "mlflow"
use = "mlflow"
"""

EARLY = {"kill": 6, "stop": 2}
"""What ends the service comes in the first third, so that one life is long."""

ANY_TIME = {"reload": 24, "disk full": 4, "registry away": 4}
"""As often as that, evenly, whatever lives."""

FIRST_PART = 0.35


def schedule(seed: int, kills: int = EARLY["kill"]) -> list[tuple[float, str]]:
    """When what happens: shares of the whole time, in order."""
    draw = random.Random(seed)  # noqa: S311 - moments, no secrets
    moments = [
        (draw.uniform(0.02, FIRST_PART), what)
        for what, n in (EARLY | {"kill": kills}).items()
        for _ in range(n)
    ]
    for what, number in ANY_TIME.items():
        moments += [((n + draw.uniform(0.2, 0.8)) / number, what) for n in range(number)]
    return sorted(moments)


@dataclass
class Soak:
    """The service in its folder, and what happens to it."""

    folder: Path
    seconds: float
    traffic: Traffic
    soaked: Soaked
    began: float = field(default_factory=time.monotonic)
    process: subprocess.Popen[bytes] | None = None
    lives: int = 0
    version: int = 1
    log: LogEvidence = field(init=False)

    def __post_init__(self) -> None:
        self.log = LogEvidence(self.predictions)

    @property
    def predictions(self) -> Path:
        """The log."""
        return self.folder / "monitoring" / "predictions"

    def start(self) -> None:
        """Start the service and send it the traffic."""
        self.lives += 1
        output = self.folder / f"events-{self.lives}.jsonl"
        began = time.monotonic()
        with output.open("wb") as file:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "monitorkit", "run", "--port", "0"],
                cwd=self.folder,
                env={k: v for k, v in os.environ.items() if not k.startswith("MONITORKIT_")},
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        while (url := self._listening(output)) is None:
            if self.process.poll() is not None or time.monotonic() - began > STARTING_SECONDS:
                raise RuntimeError(f"it does not start:\n{output.read_text()}")
            time.sleep(0.05)
        self.soaked.starts.append(time.monotonic() - began)
        self.traffic.to(url)

    def kill(self) -> None:
        """SIGKILL of the whole group, in the middle of everything; then look, and start again."""
        assert self.process is not None  # noqa: S101 - started
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self.check()
        self.start()

    def stop(self) -> None:
        """SIGTERM; everything under way is answered."""
        assert self.process is not None  # noqa: S101 - started
        self.process.terminate()
        code = self.process.wait(timeout=60)
        if code:
            raise RuntimeError(f"exit code {code} after SIGTERM")
        self.check()

    def restart(self) -> None:
        """A deployment."""
        self.stop()
        self.start()

    def reload(self) -> None:
        """The alias moves to the other version."""
        self.version = 3 - self.version
        with closing(sqlite3.connect(self._registry, timeout=30)) as store:
            store.execute("UPDATE registered_model_aliases SET version = ?", (self.version,))
            store.commit()

    def fill_disk(self) -> None:
        """No room on the log's disk for a while."""
        ballast = self.predictions / "ballast"
        try:
            with ballast.open("wb", buffering=0) as file:
                for size in (1 << 20, 4096):
                    with contextlib.suppress(OSError):
                        while True:
                            file.write(bytes(size))
            time.sleep(max(1.0, self.seconds * FULL_SHARE))
        finally:
            ballast.unlink()

    def take_registry(self) -> None:
        """Nobody can read or write the registry for a while."""
        with closing(sqlite3.connect(self._registry, timeout=30, isolation_level=None)) as store:
            store.execute("BEGIN EXCLUSIVE")
            time.sleep(max(6.0, self.seconds * AWAY_SHARE))
            store.execute("ROLLBACK")

    def check(self) -> None:
        """Every answered row is on disk once, and every result is whole.

        Raises:
            AssertionError, ValueError: when not.
        """
        counts = self.log.check(list(self.traffic.answered))
        self.soaked.logged = counts.total()
        self.soaked.run_ids |= {
            each["run_id"]
            for each in results(self.folder / "monitoring/metrics/monitoring_results")
        }
        self.soaked.checks += 1

    def sample(self) -> None:
        """What the service takes now."""
        if self.process is None:
            return
        with contextlib.suppress(psutil.Error):
            service = psutil.Process(self.process.pid)
            rss = service.memory_info().rss
            tree = rss + sum(child.memory_info().rss for child in service.children(recursive=True))
            self.soaked.samples.append(
                Sample(
                    time.monotonic() - self.began,
                    self.lives,
                    rss,
                    tree,
                    service.num_fds(),
                    len(self.traffic.answered),
                )
            )

    def events(self) -> Iterator[dict[str, Any]]:
        """Those of all lives; a killed one's last line may not be whole."""
        for path in sorted(self.folder.glob("events-*.jsonl")):
            for line in path.read_text(errors="replace").splitlines():
                with contextlib.suppress(ValueError):
                    yield json.loads(line)

    @property
    def _registry(self) -> Path:
        return self.folder / "monitoring" / "mlflow" / "mlflow.db"

    @staticmethod
    def _listening(output: Path) -> str | None:
        for line in output.read_text().splitlines(keepends=True):
            if line.endswith("\n") and '"listening"' in line:
                return str(json.loads(line)["url"])
        return None


def main() -> None:
    """Run, check, and write the result."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=20.0)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--rate", type=float, default=100.0, help="requests a second, about")
    parser.add_argument("--kills", type=int, default=EARLY["kill"], help="a start takes seconds")
    parser.add_argument("--output", type=Path, default=OUTPUT, help="a folder")
    given = parser.parse_args()
    seconds = given.minutes * 60
    soaked = Soaked(given.minutes, given.seed)
    with tempfile.TemporaryDirectory(prefix="monitorkit-soak-") as name:
        folder = prepare(Path(name), seconds)
        with (
            small_disk(folder / "monitoring" / "predictions") as soaked.small_disk,
            Traffic(threads=2, seed=given.seed, pause=2 / given.rate) as traffic,
        ):
            soak = Soak(folder, seconds, traffic, soaked)
            try:
                run(soak, schedule(given.seed, given.kills))
            finally:
                traffic.to(None)
                if soak.process is not None and soak.process.poll() is None:
                    os.killpg(soak.process.pid, signal.SIGKILL)
                    soak.process.wait()
    given.output.mkdir(parents=True, exist_ok=True)
    report(soaked, given.output)
    sys.stdout.write((given.output / "soak.md").read_text())
    if not soaked.flat:
        raise SystemExit("memory or open files grow")


def run(soak: Soak, moments: list[tuple[float, str]]) -> None:
    """Everything in the schedule, each at its moment or as soon after it as can be."""
    soak.start()
    acts = {
        "kill": soak.kill,
        "stop": soak.restart,
        "reload": soak.reload,
        "disk full": soak.fill_disk,
        "registry away": soak.take_registry,
    }
    soak.began = time.monotonic()
    with sampling(soak):
        for share, what in moments:
            if what == "disk full" and not soak.soaked.small_disk:
                continue
            time.sleep(max(0.0, soak.began + share * soak.seconds - time.monotonic()))
            soak.soaked.faults.append((time.monotonic() - soak.began, what))
            say(what)
            acts[what]()
        time.sleep(max(0.0, soak.began + soak.seconds - time.monotonic()))
        soak.stop()
    soak.traffic.to(None)
    soak.soaked.answered = len(soak.traffic.answered)
    soak.soaked.statuses.update(soak.traffic.statuses)
    soak.soaked.cut = soak.traffic.cut
    soak.soaked.count_events(soak.events())
    soak.soaked.segments = len(list(soak.predictions.glob("predictions*.csv")))


def prepare(folder: Path, seconds: float) -> Path:
    """Two model versions and a reference, by the commands that a user has."""
    minute = seconds / DAY_MINUTES  # of the day that is compressed
    text = CONFIG.format(poll=max(0.5, minute), interval=5 * minute, rotate=256)
    (folder / "config").mkdir()
    (folder / "config" / "monitorkit.toml").write_text(text)
    for command, environment in (
        ("train", {}),
        ("train", {"MONITORKIT_TRAINING__SEED": "7"}),
        ("bootstrap", {}),
    ):
        say(command)
        subprocess.run(
            [sys.executable, "-m", "monitorkit", command],
            cwd=folder,
            env={**os.environ, **environment},
            check=True,
            stdout=subprocess.DEVNULL,
        )
    return folder


@contextmanager
def small_disk(where: Path) -> Iterator[bool]:
    """A file system of its own for the log, where that is allowed; whether it was."""
    where.mkdir(parents=True, exist_ok=True)
    mount = shutil.which("mount")
    command = [mount or "", "-t", "tmpfs", "-o", f"size={DISK}", "tmpfs", str(where)]
    mounted = (
        mount is not None
        and not subprocess.run(command, capture_output=True, check=False).returncode
    )
    try:
        yield mounted
    finally:
        if mounted:
            subprocess.run(["umount", "-l", str(where)], check=True)


@contextmanager
def sampling(soak: Soak) -> Iterator[None]:
    """Look once a second, whatever else is done."""
    ended = threading.Event()

    def look() -> None:
        while not ended.wait(1.0):
            soak.sample()

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


if __name__ == "__main__":
    main()
