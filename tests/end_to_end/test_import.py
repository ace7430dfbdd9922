"""`monitorkit import` as a user meets it: real rows, exit codes, a kill, a service beside it."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from service_process import NO_SINKS
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from monitorkit.prediction_log import Reader

pytestmark = pytest.mark.slow

CLEAN = {
    key: value
    for key, value in os.environ.items()
    if not key.startswith(("MONITORKIT_", "MLFLOW_", "PYTHONWARNINGS"))
}
MAPS = [
    *("--map", "prediction_id=request_id"),
    *("--map", "timestamp=event_time"),
    *("--map", "probability=risk"),
    *("--version", "1"),
]


def other_service(real_rows: Path, to: Path, *, repeat: int = 1) -> int:
    """Score real rows with a small model and log them as another service would: one a second."""
    with real_rows.open(newline="") as file:
        table = list(csv.DictReader(file))
    names = [name for name in table[0] if name not in ("", "SeriousDlqin2yrs")]
    features = np.array([[float(row[name]) for name in names] for row in table])
    target = [int(row["SeriousDlqin2yrs"]) for row in table]
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    scores = model.fit(features, target).predict_proba(features)[:, 1].tolist()
    rows = len(table) * repeat
    begin = datetime.now(UTC) - timedelta(seconds=rows)
    with to.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["request_id", "event_time", *names, "risk"])
        for n in range(rows):
            row = table[n % len(table)]
            moment = (begin + timedelta(seconds=n)).isoformat()
            cells = [row[name] for name in names]
            writer.writerow([f"r{n}", moment, *cells, scores[n % len(table)]])
    return rows


def rows_in(log: Path) -> int:
    return sum(len(block.chunk) for block in Reader(log).read({}))


def test_a_log_of_real_rows_is_judged_like_our_own(
    folder: Path, command: Callable[..., Any], real_rows: Path
) -> None:
    rows = other_service(real_rows, folder / "theirs.csv")
    imported = command(folder, "import", "theirs.csv", *MAPS)[-1]
    assert (imported["event"], imported["rows"], imported["rejected"]) == ("imported", rows, 0)
    (cycle, *_) = [
        event
        for event in command(folder, "monitor", "--once", "--only", "feature-drift", env=NO_SINKS)
        if event["event"] == "cycle_completed"
    ]
    assert cycle["rows"] == rows
    assert "MonthlyIncome" in cycle["drifted_features"]  # its gaps were filled with the median
    again = command(folder, "import", "theirs.csv", *MAPS)[-1]
    assert (again["rows"], again["already_there"]) == (0, rows)
    (skipped,) = command(folder, "import", "theirs.csv", "--version", "1", code=1)
    assert skipped["error"] == "DataError"


def test_exit_codes_and_what_stays_behind(
    folder: Path, command: Callable[..., Any], real_rows: Path
) -> None:
    other_service(real_rows, folder / "theirs.csv")
    lines = (folder / "theirs.csv").read_text().splitlines(keepends=True)
    (folder / "some.csv").write_text("".join([*lines[:300], "no row\n", *lines[300:]]))
    events = command(folder, "import", "some.csv", *MAPS, code=3)
    (rejected,) = [event for event in events if event["event"] == "import_row_rejected"]
    assert (rejected["line"], events[-1]["rejected"]) == (301, 1)
    assert (folder / "some.csv.rejects.csv").read_text().splitlines()[1].endswith(",no row")
    (folder / "none.csv").write_text(lines[0] + "no row\n" * 30)
    assert command(folder, "import", "none.csv", *MAPS, code=1)[-1]["error"] == "DataError"
    assert not (folder / "none.csv.rejects.csv").exists()
    usage = subprocess.run(
        [sys.executable, "-m", "monitorkit", "import", "--mapp", "a=b", "some.csv"],
        cwd=folder,
        env=CLEAN,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (usage.returncode, "--map" in usage.stderr) == (2, True)


def test_killed_in_the_middle_it_leaves_nothing_and_works_the_next_time(
    folder: Path, command: Callable[..., Any], real_rows: Path
) -> None:
    rows = other_service(real_rows, folder / "theirs.csv", repeat=25)
    log = folder / "monitoring" / "predictions"
    process = subprocess.Popen(
        [sys.executable, "-m", "monitorkit", "import", "theirs.csv", *MAPS],
        cwd=folder,
        env={**CLEAN, "MONITORKIT_LOG__ROTATE": "2MiB"},
        stdout=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 60
    while len(left := list(log.glob(".*.tmp"))) < 3:
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.kill()
    out, _ = process.communicate(timeout=30)
    assert "segment_imported" not in out
    assert [path for path in left if path.exists()] == left
    assert list(log.glob("predictions-import-*.csv")) == []
    assert rows_in(log) == 0
    imported = command(folder, "import", "theirs.csv", *MAPS)[-1]
    assert (imported["rows"], imported["already_there"]) == (rows, 0)
    assert rows_in(log) == rows
    assert [name for name in os.listdir(log) if name.endswith(".tmp")] == []  # noqa: PTH208 - hidden


def test_it_runs_beside_a_service(
    folder: Path,
    start: Callable[..., Any],
    command: Callable[..., Any],
    applicant: dict[str, Any],
    real_rows: Path,
) -> None:
    rows = other_service(real_rows, folder / "theirs.csv")
    service = start(folder)
    with service.client() as client:
        assert client.post("/predict", json=applicant).status_code == 200
        assert command(folder, "import", "theirs.csv", *MAPS)[-1]["rows"] == rows
        assert client.post("/predict", json=applicant).status_code == 200
        assert client.post("/monitoring/run").status_code == 200
        (result,) = client.get("/monitoring/results").json()["results"]
        assert result["rows"] == rows + 2
    assert service.stop() == 0
    assert {event["level"] for event in service.events} == {"info"}
