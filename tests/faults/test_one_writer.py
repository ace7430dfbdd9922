"""Two services or commands on one folder: refused or taking turns; no lock outlives its process."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest
from service_process import CLEAN, Service, events_of

from benchmarks.evidence import LogEvidence, results
from benchmarks.traffic import Traffic

pytestmark = pytest.mark.slow

Start = Callable[..., Service]


def test_of_two_services_started_at_once_one_writes_and_its_lock_ends_with_it(
    folder: Path, start: Start
) -> None:
    """Needs `FolderLock.hold`; a lock of the operating system, not a file that says so."""
    both = [start(folder), start(folder)]
    deadline = time.monotonic() + 120
    while all(service.process.poll() is None for service in both):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    (refused,) = [service for service in both if service.process.poll() is not None]
    (serving,) = [service for service in both if service is not refused]
    assert refused.process.wait() == 1
    assert refused.stop() == 1
    assert refused.events[-1]["error"] == "LogLocked"
    log = LogEvidence(folder / "monitoring/predictions")
    with Traffic(threads=2, seed=5) as traffic:
        traffic.to(serving.url)
        while len(traffic.answered) < 200:
            time.sleep(0.02)
        os.killpg(serving.process.pid, signal.SIGKILL)
        serving.process.wait(timeout=10)
        traffic.to(None)
        # Its lock files are still there, and nobody holds them.
        left = {path.name for path in (folder / "monitoring").rglob("*.lock")}
        assert "predictions.lock" in left
        again = start(folder)
        traffic.to(again.url)
        before = len(traffic.answered)
        while len(traffic.answered) < before + 100:
            time.sleep(0.02)
    log.check(traffic.answered)
    assert again.stop() == 0


def test_commands_beside_a_service_take_turns_with_its_cycles(folder: Path, start: Start) -> None:
    """Needs the lock of `run_cycle`, without which two cycles would save one timeline."""
    service = start(folder)  # a cycle every half second
    once = [sys.executable, "-m", "monitorkit", "monitor", "--once"]
    with Traffic(threads=1, seed=6, pause=0.002) as traffic:
        traffic.to(service.url)
        while len(traffic.answered) < 100:
            time.sleep(0.02)
        commands = [
            subprocess.Popen(
                once, cwd=folder, env=CLEAN, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
            )
            for _ in range(2)
        ]
        outputs = [command.communicate(timeout=180)[0].decode() for command in commands]
        service.wait_for("cycle_completed")
        assert service.stop() == 0
    assert [command.returncode for command in commands] == [0, 0], outputs
    for output in outputs:
        assert [e["trigger"] for e in events_of(output) if e["event"] == "cycle_completed"] == [
            "once"
        ]
    found = results(folder / "monitoring/metrics/monitoring_results")
    assert sum(result["trigger"] == "once" for result in found) == 2
    # One after the other: each has read at least what the one before had.
    for earlier, later in pairwise(found):
        assert earlier["run_id"] < later["run_id"]
        assert earlier["finished_at"] <= later["started_at"]
        assert earlier["window"]["rows"] <= later["window"]["rows"]
        assert all(later["cursor"][one] >= at for one, at in earlier["cursor"].items())
    LogEvidence(folder / "monitoring/predictions").check(traffic.answered)
