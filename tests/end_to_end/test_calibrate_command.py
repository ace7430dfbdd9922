"""`python -m monitorkit calibrate` before the first row came, as somebody would who starts."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from service_process import CLEAN, Event, events_of

pytestmark = pytest.mark.slow

# Of one column: each that is watched takes some seconds more.
INCOME = {"use": "anytime_drift", "options": {"columns": ["MonthlyIncome"], "score": False}}
MONITORS = json.dumps([{"name": "feature-drift", **INCOME}])


def calibrated(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "monitorkit", "calibrate", "--days", "1", *arguments],
        cwd=folder,
        env={**CLEAN, "MONITORKIT_MONITORS": MONITORS},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_it_says_what_the_monitor_sees_and_draws_it(folder: Path) -> None:
    done = calibrated(folder, "--rows-per-day", "3000", "--output", "seen.png", "--json")
    assert done.returncode == 0, done.stderr
    assert {event["level"] for event in events_of(done.stderr)} == {"info"}
    document: dict[str, Any] = json.loads(done.stdout)

    assert document["monitor"] == "feature-drift"
    assert (document["rows_a_day"], document["days"], document["alarms"]) == (3000, 1, [])
    _, day, week = document["seen"]["MonthlyIncome"]
    assert 0.05 < week["distance"] <= day["distance"] < 0.5
    assert day["after"] > day["before"] > 1000
    assert (folder / "seen.png").read_bytes().startswith(b"\x89PNG\r\n")


def test_a_person_reads_it_as_a_table(folder: Path) -> None:
    done = calibrated(folder, "--rows-per-day", "2000")
    assert (done.returncode, done.stderr) == (0, "")

    assert "feature-drift at 2,000 rows a day: 0 false alarms in 1 quiet day (" in done.stdout
    (heading,) = (line for line in done.stdout.splitlines() if line.startswith("column"))
    assert heading.split() == ["column", "mean", "within", "1h", "within", "1d", "within", "7d"]
    assert "\nMonthlyIncome " in done.stdout


def test_without_a_result_somebody_has_to_say_how_many_rows_come(
    folder: Path, command: Callable[..., list[Event]]
) -> None:
    (refused,) = command(folder, "calibrate", code=1)

    assert (refused["event"], refused["error"]) == ("refused", "CalibrationError")
    assert "--rows-per-day" in refused["reason"]
