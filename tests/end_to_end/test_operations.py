"""What operators do to a running service, and what happens to it."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from service_process import NO_SINKS

pytestmark = pytest.mark.slow


def test_a_second_start_answers_within_seconds_and_logs_info_only(
    folder: Path, start: Callable[..., Any], applicant: dict[str, Any]
) -> None:
    service = start(folder)
    with service.client() as client:
        answer = client.post("/predict", json=applicant)
    assert answer.status_code == 200
    assert service.stop() == 0
    assert {event["level"] for event in service.events} == {"info"}
    assert "train" not in json.dumps(service.events)


def test_sigterm_lets_every_answer_finish_and_loses_nothing(
    folder: Path, start: Callable[..., Any], applicant: dict[str, Any]
) -> None:
    service = start(folder)
    answered: list[str] = []

    def ask() -> None:
        with service.client() as client:
            while True:
                try:
                    answer = client.post("/predict", json=applicant)
                except Exception:  # noqa: BLE001 - the service is gone
                    return
                if answer.status_code == 200:
                    answered.append(answer.json()["prediction_id"])

    threads = [threading.Thread(target=ask) for _ in range(8)]
    service.wait_for("listening")
    for thread in threads:
        thread.start()
    time.sleep(1)
    assert service.stop() == 0
    for thread in threads:
        thread.join(timeout=30)
    lines = (folder / "monitoring/predictions/predictions.csv").read_text().splitlines()[1:]
    logged = [line.split(",")[0] for line in lines]
    assert len(answered) > 8
    assert set(answered) <= set(logged)
    assert len(logged) == len(set(logged))


def test_a_request_that_is_half_sent_at_sigterm_is_answered_and_logged(
    folder: Path, start: Callable[..., Any], applicant: dict[str, Any]
) -> None:
    service = start(folder)
    address = urlsplit(service.url)
    body = json.dumps([applicant] * 500).encode()
    connection = http.client.HTTPConnection(str(address.hostname), address.port, timeout=30)
    connection.putrequest("POST", "/predict/batch")
    connection.putheader("Content-Type", "application/json")
    connection.putheader("Content-Length", str(len(body)))
    connection.endheaders(body[: len(body) // 2])
    time.sleep(0.2)  # until it is there
    service.process.send_signal(signal.SIGTERM)
    service.wait_for("stopping")
    time.sleep(0.5)  # in which it could be gone
    connection.send(body[len(body) // 2 :])
    answer = connection.getresponse()
    assert answer.status == 200
    answered = [row["prediction_id"] for row in json.loads(answer.read())["predictions"]]
    connection.close()
    assert service.process.wait(timeout=40) == 0
    lines = (folder / "monitoring/predictions/predictions.csv").read_text().splitlines()[1:]
    assert [line.split(",")[0] for line in lines] == answered


@pytest.mark.exhaustive
def test_killed_under_load_it_has_every_answer_on_disk(
    folder: Path, start: Callable[..., Any], applicant: dict[str, Any]
) -> None:
    service = start(folder)
    with service.client() as client:
        ids = [client.post("/predict", json=applicant).json()["prediction_id"] for _ in range(50)]
        os.kill(service.process.pid, signal.SIGKILL)
    service.process.wait(timeout=10)
    lines = (folder / "monitoring/predictions/predictions.csv").read_text().splitlines()[1:]
    assert [line.split(",")[0] for line in lines] == ids
    again = start(folder)
    with again.client() as client:
        assert client.get("/health").json()["predictions_logged"] == 50


@pytest.mark.exhaustive
def test_a_changed_reference_stops_monitoring_while_serving_goes_on(
    folder: Path, start: Callable[..., Any], command: Callable[..., Any], applicant: dict[str, Any]
) -> None:
    data = folder / "monitoring/reference/reference_data.csv"
    service = start(folder)
    service.wait_for("listening")
    command(folder, "verify")
    data.chmod(0o644)
    content = bytearray(data.read_bytes())
    content[-3] ^= 1
    data.write_bytes(content)
    (refused,) = command(folder, "verify", code=1)
    assert refused["error"] == "ReferenceChanged"
    with service.client() as client:
        expected = client.get("/health").json()["reference"]["hash"]
        forced = client.post("/monitoring/run")
        assert forced.status_code == 409
        assert expected in forced.text
        health = client.get("/health").json()
        assert health["status"] == "degraded"
        assert health["reference"]["status"] == "changed"
        assert expected in health["reference"]["error"]
        assert client.post("/predict", json=applicant).status_code == 200
    assert service.stop() == 0
    # A start finds it as well.
    again = start(folder)
    again.wait_for("reference_refused")
    with again.client() as client:
        assert client.get("/health").json()["reference"]["status"] == "changed"


def test_a_reference_is_frozen_once(folder: Path, command: Callable[..., Any]) -> None:
    (refused,) = command(folder, "bootstrap", code=1)
    assert refused["error"] == "ReferenceExists"
    shutil.rmtree(folder / "monitoring/reference")
    events = command(folder, "bootstrap")
    assert events[-1]["event"] == "reference_frozen"
    assert events[-1]["rows"] == 6000


def test_a_later_training_waits_until_someone_promotes_it(
    folder: Path, start: Callable[..., Any], command: Callable[..., Any], applicant: dict[str, Any]
) -> None:
    env = {"MONITORKIT_TRAINING__ESTIMATOR": "logistic_regression"}
    service = start(folder)
    with service.client() as client:
        first = client.post("/predict", json=applicant).json()
        command(folder, "train", env=env)
        time.sleep(1)
        assert client.post("/predict", json=applicant).json()["model_version"] == "1"
        command(folder, "promote", "2")
        deadline = time.monotonic() + 30
        while (now := client.post("/predict", json=applicant).json())["model_version"] == "1":
            assert now["probability"] == first["probability"]
            assert time.monotonic() < deadline
            time.sleep(0.05)
        assert now["model_version"] == "2"
        assert now["probability"] != first["probability"]
    (refused,) = command(folder, "promote", "7", code=1)
    assert refused["error"] == "ModelNotFound"


@pytest.mark.exhaustive
def test_two_services_never_write_one_log(folder: Path, start: Callable[..., Any]) -> None:
    service = start(folder)
    service.wait_for("listening")
    second = start(folder)
    assert second.process.wait(timeout=60) == 1
    time.sleep(0.2)
    assert second.events[-1]["error"] == "LogLocked"
    with service.client() as client:
        assert client.get("/ready").status_code == 200


def test_a_port_in_use_is_a_clear_error(folder: Path, start: Callable[..., Any]) -> None:
    service = start(folder)
    port = service.url.rsplit(":", 1)[1]
    second = start(folder, "--port", port)
    assert second.process.wait(timeout=60) == 1
    time.sleep(0.2)
    assert second.events[-1]["error"] == "AddressInUse"


@pytest.mark.exhaustive
def test_forced_cycles_take_turns_with_the_command(
    folder: Path, start: Callable[..., Any], command: Callable[..., Any]
) -> None:
    service = start(folder)
    command(folder, "simulate", "--rows", "250", "--url", service.url)
    with service.client() as client:
        statuses: list[int] = []
        force = threading.Thread(
            target=lambda: statuses.append(client.post("/monitoring/run").status_code)
        )
        force.start()
        command(folder, "monitor", "--once", "--skip", "evidently", env=NO_SINKS)
        force.join(timeout=120)
        assert statuses == [200]
        results = client.get("/monitoring/results").json()["results"]
    assert sorted(result["trigger"] for result in results) == ["forced", "once"]
    assert {result["rows"] for result in results} == {250}
