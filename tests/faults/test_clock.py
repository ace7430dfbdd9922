"""The clock steps back and forward, summer time ends: rows keep their order, windows their sign."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx
import pytest
from service_process import Service

from benchmarks.evidence import LogEvidence, whole_rows

pytestmark = pytest.mark.slow

SLOW = {"MONITORKIT_MONITORING__INTERVAL": "1h"}  # cycles come when the test asks for one
# The wall clock of a process, so many seconds off; others, by which it sleeps, stay. (libfaketime
# 0.9.10 breaks Python's time.sleep when it is told to leave those alone.)
CLOCK = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/time.h>
#include <time.h>

static long off(void) {
    const char *path = getenv("CLOCK_OFFSET_FILE");
    FILE *file = path ? fopen(path, "r") : NULL;
    long seconds = 0;
    if (file) {
        if (fscanf(file, "%ld", &seconds) != 1) seconds = 0;
        fclose(file);
    }
    return seconds;
}

int clock_gettime(clockid_t id, struct timespec *now) {
    static int (*real)(clockid_t, struct timespec *);
    if (!real) real = (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime");
    int failed = real(id, now);
    if (!failed && id == CLOCK_REALTIME) now->tv_sec += off();
    return failed;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone) {
    struct timespec exact;
    (void)zone;
    clock_gettime(CLOCK_REALTIME, &exact);
    now->tv_sec = exact.tv_sec;
    now->tv_usec = exact.tv_nsec / 1000;
    return 0;
}

time_t time(time_t *to) {
    struct timespec exact;
    clock_gettime(CLOCK_REALTIME, &exact);
    if (to) *to = exact.tv_sec;
    return exact.tv_sec;
}
"""


@pytest.fixture
def clock(tmp_path: Path) -> tuple[Path, dict[str, str]]:
    """A file that says how far the clock of a service is off, and the environment that obeys it."""
    compiler = shutil.which("cc")
    if compiler is None or sys.platform != "linux":
        pytest.skip("no C compiler here to build what sets a process's clock, or no Linux")
    source, library = tmp_path / "clock.c", tmp_path / "clock.so"
    source.write_text(CLOCK)
    command = [compiler, "-shared", "-fPIC", "-o", str(library), str(source), "-ldl"]
    subprocess.run(command, check=True, timeout=60)
    path = tmp_path / "clock"
    path.write_text("0\n")
    return path, {**SLOW, "LD_PRELOAD": str(library), "CLOCK_OFFSET_FILE": str(path)}


def set_clock(path: Path, offset: timedelta) -> None:
    """Step it."""
    new = path.with_name("clock.new")
    new.write_text(f"{offset.total_seconds():.0f}\n")
    new.replace(path)


def ask(client: httpx.Client, applicant: dict[str, Any], number: int) -> list[dict[str, Any]]:
    """So many answers."""
    answers = [client.post("/predict", json=applicant) for _ in range(number)]
    assert {answer.status_code for answer in answers} == {200}
    return [answer.json() for answer in answers]


def judged(client: httpx.Client) -> dict[str, Any]:
    """The result of a forced cycle, whose times are in order."""
    answer = client.post("/monitoring/run")
    assert answer.status_code == 200, answer.text
    result: dict[str, Any] = answer.json()["result"]
    assert result["window"]["first"] <= result["window"]["last"]
    assert result["started_at"] <= result["finished_at"]
    assert all(entry["error"] is None for entry in result["monitors"])
    assert all(entry["seconds"] >= 0 for entry in result["monitors"])
    return result


def judged_rows(result: dict[str, Any]) -> set[int]:
    """How many rows each monitor that says so has judged."""
    findings = [each for entry in result["monitors"] for each in entry["findings"]]
    return {each["detail"]["rows"] for each in findings if each["measure"] in ("ks", "psi")}


def when(answer: dict[str, Any]) -> datetime:
    """Of an answer."""
    return datetime.fromisoformat(answer["timestamp"])


def test_a_clock_that_steps_back_and_forward_loses_no_row_and_turns_no_window_round(
    folder: Path,
    start: Callable[..., Service],
    clock: tuple[Path, dict[str, str]],
    applicant: dict[str, Any],
) -> None:
    """Needs cursors that are offsets and not times (`Reader.read`), `new_run_id(after=newest)`,
    and windows that reach beyond now (`LocalEngine.judge`).
    """
    path, env = clock
    service = start(folder, env=env)
    answers, runs = [], []
    with service.client() as client:
        for number, hours in enumerate((0, -1, 2, 0), start=1):
            set_clock(path, timedelta(hours=hours))
            answers += ask(client, applicant, 30)
            assert abs(when(answers[-1]) - datetime.now(UTC) - timedelta(hours=hours)) < timedelta(
                minutes=1
            )
            result = judged(client)
            assert result["window"]["rows"] == 30 * number
            assert judged_rows(result) == {30 * number}
            runs.append(result["run_id"])
        latest = client.get("/monitoring/stats").json()["latest"]
        listed = client.get("/monitoring/results").json()["results"]
        assert service.stop() == 0
    assert runs == sorted(set(runs))
    assert [each["run_id"] for each in reversed(listed)] == runs
    assert latest["run_id"] == runs[-1]
    segment = folder / "monitoring/predictions/predictions.csv"
    ids = [answer["prediction_id"] for answer in answers]
    assert whole_rows(segment.read_bytes(), segment.name) == ids
    LogEvidence(segment.parent).check(ids)


def test_the_end_of_summer_time_is_an_hour_like_any_other(
    folder: Path,
    start: Callable[..., Service],
    clock: tuple[Path, dict[str, str]],
    applicant: dict[str, Any],
) -> None:
    """Needs UTC in every time stamp: `datetime.now(UTC)` in `pipeline.predict` and in `_run`."""
    path, env = clock
    change = datetime(2026, 10, 25, 1, 0, tzinfo=UTC)  # 03:00 becomes 02:00 in Berlin
    set_clock(path, change - timedelta(seconds=60) - datetime.now(UTC))
    service = start(folder, env={**env, "TZ": "Europe/Berlin"})
    with service.client() as client:
        set_clock(path, change - timedelta(seconds=20) - datetime.now(UTC))
        before = ask(client, applicant, 30)
        judged(client)
        set_clock(path, change + timedelta(seconds=1) - datetime.now(UTC))
        began = time.monotonic()
        after = ask(client, applicant, 30)
        assert time.monotonic() - began < 3000
        result = judged(client)
        assert service.stop() == 0
    times = [when(answer) for answer in (*before, *after)]
    assert all(earlier <= later for earlier, later in pairwise(times))
    assert times[29] < change < times[30]
    assert times[-1] - times[0] < timedelta(minutes=30)  # and not an hour more, or less
    assert result["window"]["rows"] == 60
    assert datetime.fromisoformat(result["window"]["last"]) == times[-1]
    assert datetime.fromisoformat(result["window"]["first"]) == times[0]
    began_at = datetime.fromisoformat(result["started_at"])
    assert times[-1] <= began_at < times[-1] + timedelta(minutes=30)
    assert "warning" not in {event["level"] for event in service.events}
