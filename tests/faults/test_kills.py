"""SIGKILL at seeded random moments: every answer is on disk once, and no start needs a hand."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from service_process import Service, run_command

from benchmarks.evidence import LogEvidence, results
from benchmarks.traffic import Traffic

pytestmark = pytest.mark.slow

KILLS = int(os.environ.get("MONITORKIT_TEST_KILLS", "3"))
WHEN = ("cycle", "soon", "start", "cycle", "soon")
"""In the middle of cycles, a moment after it listens, or before that."""

BUSY = "CycleBusy"  # forced cycles leave the periodic ones no gap
MINUTES = float(os.environ.get("MONITORKIT_TEST_MINUTES", "inf"))  # whichever comes first
SEED = int(os.environ.get("MONITORKIT_TEST_SEED", "7"))


def kill(service: Service, *, group: bool = True) -> None:
    """SIGKILL; of the whole group, or of the service alone, whose workers have to notice."""
    if group:
        os.killpg(service.process.pid, signal.SIGKILL)
    else:
        service.process.kill()
    service.process.wait(timeout=10)


@contextlib.contextmanager
def cycles(service: Service) -> Iterator[None]:
    """One forced cycle after the other."""
    stop = threading.Event()

    def force() -> None:
        with contextlib.suppress(Exception), service.client() as client:  # it is being killed
            while not stop.is_set():
                client.post("/monitoring/run")

    thread = threading.Thread(target=force)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def findings(result: dict[str, Any]) -> dict[str, Any]:
    """What each monitor of a cycle found."""
    return {entry["name"]: entry["findings"] for entry in result["monitors"]}


def live_and_die(
    service: Service,
    traffic: Traffic,
    when: str,
    draw: random.Random,
    promote: Callable[[], None],
    logged: int,
) -> None:
    """One life of the service, to its sudden end."""
    if when == "start":  # recovery is interrupted, too
        time.sleep(draw.uniform(0.1, 4))
        kill(service)
        return
    url = service.wait_for("listening", seconds=180)["url"]
    with service.client() as client:
        assert client.get("/health").json()["predictions_logged"] == logged  # no half row
    traffic.to(url)
    with cycles(service):
        if when == "cycle":
            service.wait_for("cycle_completed", seconds=180)
        time.sleep(draw.uniform(0, 0.5))
        promote()
        time.sleep(draw.uniform(0, 2))
        kill(service, group=draw.random() < 0.75)
    traffic.to(None)


def tear(predictions: Path) -> None:
    """What a write leaves that came only half through; our own are never seen so, being short."""
    with (predictions / "predictions.csv").open("ab") as file:
        file.write(b"00000000-0000-0000-0000-00000000beef,2026-01-0")


def test_killed_under_load_nothing_is_lost_or_doubled_and_findings_are_those_of_an_undisturbed_run(
    folder: Path,
    start: Callable[..., Service],
    promote: Callable[[Path, str], None],
    tmp_path: Path,
    record_testsuite_property: Callable[[str, object], None],
) -> None:
    """Needs the append before the answer (`Pipeline._flush`) and the recovery (`LogFile._recover`).

    A kill hardly hits what takes a moment: `durable.replace_file` for results and the timeline's
    transaction and checksums (`Store`) are taken out in `test_results.py` and `test_store.py`.
    """
    draw = random.Random(SEED)  # noqa: S311 - moments, no secrets
    log = LogEvidence(folder / "monitoring/predictions")
    committed = folder / "monitoring/metrics/monitoring_results"
    known: set[str] = set()
    logged = kills = 0
    ends = time.monotonic() + 60 * MINUTES
    with Traffic(threads=3, seed=SEED) as traffic:
        for life in range(KILLS):
            if time.monotonic() > ends:
                break
            service = start(folder)
            other = partial(promote, folder, str(1 + life % 2))
            live_and_die(service, traffic, WHEN[life % len(WHEN)], draw, other, logged)
            assert not [line for line in service.lines if '"error"' in line and BUSY not in line]
            if (log.folder / "predictions.csv").exists():
                tear(log.folder)
            logged = log.check(traffic.answered).total()
            kills += 1
            known |= {result["run_id"] for result in results(committed)}
    logged = log.check(traffic.answered).total()
    for name, figure in (
        ("kills", kills),
        ("answered", len(traffic.answered)),
        ("logged", logged),
        ("results", len(known)),
    ):
        record_testsuite_property(name, figure)
    assert known
    assert set(traffic.statuses) == {200}
    assert len(traffic.answered) > 10 * kills
    assert len(list((folder / "monitoring/predictions").glob("predictions-*.csv"))) > kills // 2

    # What the killed processes left of the timeline, and what comes out without it at one moment.
    shutil.rmtree(committed)
    run_command(folder, "monitor", "--once")
    (here,) = results(committed)
    undisturbed = tmp_path / "undisturbed"
    shutil.copytree(folder, undisturbed)
    shutil.rmtree(undisturbed / "monitoring/metrics/state")
    moment = ("--from", here["started_at"], "--to", here["started_at"])
    events = run_command(undisturbed, "replay", *moment, "--output", "again")
    assert [e["agreement"] for e in events if e["event"] == "cycle_replayed"] == ["same"]
    (there,) = results(undisturbed / "again")
    assert {entry["error"] for entry in here["monitors"]} == {None}
    assert here["cursor"] == there["cursor"]
    assert here["window"] == there["window"]
    assert 0 < here["window"]["rows"] <= logged
    assert findings(here) == findings(there)
