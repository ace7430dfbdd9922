"""SIGKILL of a first start, a training and a bootstrap: the next one goes on by itself."""

from __future__ import annotations

import os
import random
import signal
import sqlite3
import subprocess
import time
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest
from service_process import Service, configure, run_command

from benchmarks.evidence import LogEvidence

pytestmark = [pytest.mark.slow, pytest.mark.exhaustive]

SEED = int(os.environ.get("MONITORKIT_TEST_SEED", "7"))
LONGEST = 180.0

Moment = Callable[[Path], bool]


def has(pattern: str) -> Moment:
    """A file of this name is there."""
    return lambda folder: any((folder / "monitoring").glob(pattern))


def has_rows(table: str) -> Moment:
    """A table of the registry has a row."""

    def look(folder: Path) -> bool:
        path = folder / "monitoring/mlflow/mlflow.db"
        if not path.exists():
            return False
        try:
            with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=0.05)) as file:
                return file.execute(f"SELECT 1 FROM {table}").fetchone() is not None  # noqa: S608 - ours
        except sqlite3.Error:  # it is being made
            return False

    return look


MOMENTS: tuple[tuple[Moment, float], ...] = (
    (has("mlflow/mlflow.db"), 0.5),  # MLflow's tables are made, in some dozen steps
    (has_rows("model_versions"), 0.0),  # registered, and its alias not set yet
    (has("models/*/.fetch-*"), 0.05),
    (has(".reference.*"), 0.0),
)
"""When it is killed: so many seconds at most after something is there."""


def kill_at(process: subprocess.Popen[Any], folder: Path, moment: Moment, after: float) -> None:
    """SIGKILL its group as soon as something is there, or when it has ended by itself."""
    deadline = time.monotonic() + LONGEST
    while not moment(folder) and process.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.002)
    time.sleep(after)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait(timeout=10)


def test_a_first_start_that_is_killed_at_any_step_goes_on_at_the_next_one(
    tmp_path: Path, start: Callable[..., Service], applicant: dict[str, Any]
) -> None:
    """Needs `registry.finish_first`, the temporary folder of `registry.fetch`, and the renamed
    folder of `reference.freeze`. `sqlite_store.begun_whole` has its test in `test_registry.py`, for
    no kill can be aimed at its moments.
    """
    draw = random.Random(SEED)  # noqa: S311 - moments, no secrets
    folder = configure(tmp_path / "new")
    for moment, longest in MOMENTS:
        service = start(folder)
        kill_at(service.process, folder, moment, draw.uniform(0, longest))
    service = start(folder)
    service.wait_for("listening", seconds=LONGEST)
    with service.client() as client:
        answer = client.post("/predict", json=applicant).json()
        health = client.get("/health").json()
    assert answer["model_version"] == "1"
    assert (health["status"], health["reference"]["status"]) == ("ok", "ok")
    assert service.stop() == 0
    assert LogEvidence(folder / "monitoring/predictions").ids() == {answer["prediction_id"]: 1}
    run_command(folder, "verify")
    left = [path.name for path in (folder / "monitoring").rglob(".*") if path.is_dir()]
    assert not [name for name in left if name.startswith(".fetch-")]
