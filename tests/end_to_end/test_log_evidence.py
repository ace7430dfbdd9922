"""A service under load that is killed: what it answered is in a log that verify-log calls sound."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

pytestmark = [pytest.mark.slow, pytest.mark.exhaustive]

KILLS = 3


def verify_log(folder: Path) -> tuple[int, dict[str, Any]]:
    command = [sys.executable, "-m", "monitorkit", "verify-log", "--json"]
    done = subprocess.run(command, cwd=folder, capture_output=True, check=False, timeout=120)
    return done.returncode, json.loads(done.stdout)


def difference(client: httpx.Client) -> float:
    """Rows that were served and not logged, as /metrics has it."""
    samples = {
        sample.name: sample.value
        for family in text_string_to_metric_families(client.get("/metrics").text)
        for sample in family.samples
        if sample.name.startswith("monitorkit_predictions_")
    }
    served = samples["monitorkit_predictions_served_total"]
    return served - samples["monitorkit_predictions_logged_total"]


def test_a_service_killed_under_load_leaves_a_log_that_is_sound(
    folder: Path, start: Callable[..., Any]
) -> None:
    env = {"MONITORKIT_LOG__ROTATE": "4KiB"}
    answered: list[str] = []
    for attempt in range(KILLS + 1):
        before = len(answered)
        service = start(folder, env=env)
        with service.client() as client:
            names = [column["name"] for column in client.get("/model/info").json()["features"]]
        row = dict.fromkeys(names, 1.0) | {"age": 40}
        enough = threading.Event()
        threads = [
            threading.Thread(target=ask, args=(service, row, answered, enough)) for _ in range(4)
        ]
        for thread in threads:
            thread.start()
        with service.client() as client:
            asked = 0
            # Enough that this process wrote a segment; one with no row is used again.
            while asked < 15 or len(answered) < before + 60:
                assert difference(client) == 0
                asked += 1
                assert asked < 5_000, "the service answers nothing"
        if attempt < KILLS:
            os.killpg(service.process.pid, signal.SIGKILL)
            service.process.wait()
        enough.set()
        for thread in threads:
            thread.join()
    assert service.stop() == 0
    code, report = verify_log(folder)
    assert (code, report["findings"]) == (0, [])
    states = [segment["state"] for segment in report["segments"]]
    assert states.count("sealed") == len(states) - 1 > KILLS
    log = folder / "monitoring" / "predictions"
    logged = [
        line.split(",", 1)[0]
        for path in log.glob("predictions*.csv")
        for line in path.read_text(encoding="utf-8").splitlines()[1:]
    ]
    assert len(logged) == len(set(logged)) == report["rows"]
    assert set(answered) <= set(logged)
    assert len(answered) == len(set(answered)) > 100
    closed = min(log.glob("predictions-*.csv"))
    closed.write_bytes(closed.read_bytes().replace(b"40", b"41", 1))
    code, report = verify_log(folder)
    assert code == 1
    assert report["findings"][0]["file"].endswith(closed.name)


def ask(service: Any, row: dict[str, float], answered: list[str], enough: threading.Event) -> None:
    """Ask for predictions until the service is gone."""
    with service.client() as client:
        while not enough.is_set():
            try:
                response = client.post("/predict", json=row)
            except httpx.TransportError:
                return
            assert response.status_code == 200
            answered.append(response.json()["prediction_id"])
