"""MLflow away, slow, broken or lying, and models that are not what was registered."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import pytest
import skops.io
from proxy import Mode, Proxy
from service_process import CLEAN, Service, until
from sklearn.preprocessing import FunctionTransformer

pytestmark = [pytest.mark.slow, pytest.mark.exhaustive]

Start = Callable[..., Service]

SINK = """
[[sinks]]
name = "mlflow"
use = "mlflow"
timeout = "60s"
"""
SLOW = {"MONITORKIT_MONITORING__INTERVAL": "1h"}  # cycles come when the test asks for one
IMPATIENT = {
    **SLOW,
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "5",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
}
TROUBLES: tuple[Mode, ...] = ("away", "slow", "garbage", "error")


@pytest.fixture
def registry(folder: Path) -> Iterator[Proxy]:
    """A real MLflow server on the folder's store, behind a proxy, which the folder speaks to."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    store = folder / "monitoring/mlflow"
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1"]
    command += ["--port", str(port), "--workers", "1"]
    command += ["--backend-store-uri", f"sqlite:///{store / 'mlflow.db'}"]
    command += ["--artifacts-destination", str(store / "served")]
    process = subprocess.Popen(
        command,
        cwd=folder,
        env=CLEAN | {"MLFLOW_DISABLE_TELEMETRY": "true"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    proxy = Proxy(port)
    try:
        config = folder / "config/monitorkit.toml"
        text = config.read_text().replace("sinks = []\n", "")
        text = text.replace("[registry]\n", f'[registry]\ntracking_uri = "{proxy.url}"\n')
        config.write_text(text + SINK)

        def answers() -> bool:
            assert process.poll() is None
            with contextlib.suppress(httpx.TransportError):
                return httpx.get(f"{proxy.url}/health", trust_env=False).is_success
            return False

        until(answers, 120)
        yield proxy
    finally:
        proxy.close()
        os.killpg(process.pid, signal.SIGKILL)
        process.wait(10)


def delivered(proxy: Proxy) -> list[str]:
    """The results that MLflow has, as it lists them: those of all monitoring runs."""
    with httpx.Client(base_url=f"{proxy.url}/api/2.0/mlflow", trust_env=False) as client:
        experiment = client.get(
            "/experiments/get-by-name", params={"experiment_name": "credit-risk-model-monitoring"}
        )
        if experiment.status_code == 404:
            return []
        identity = experiment.json()["experiment"]["experiment_id"]
        runs = client.post("/runs/search", json={"experiment_ids": [identity]}).json()
        files = []
        for run in runs.get("runs", []):
            query = {"run_id": run["info"]["run_id"], "path": "results"}
            listed = client.get("/artifacts/list", params=query).json()
            files += [Path(file["path"]).stem for file in listed.get("files", [])]
        return sorted(files)


def test_a_registry_in_trouble_stops_nothing_and_gets_its_results_later_in_order_once(
    folder: Path, start: Start, registry: Proxy, applicant: dict[str, Any]
) -> None:
    """Needs the last good model (`Reloader._load_last_good`), `Reloader._look_up_quietly`, and the
    positions of `Delivery`, which moves on only past what was taken.
    """
    service = start(folder, env=SLOW)
    service.wait_for("listening")
    assert service.stop() == 0

    for trouble in TROUBLES:
        registry.be(trouble)
        service = start(folder, env=IMPATIENT)
        with service.client() as client:
            assert client.post("/predict", json=applicant).status_code == 200, trouble
            assert client.get("/health").json()["model_version"] == "1"
        service.wait_for("registry_trouble")
        if trouble != TROUBLES[-1]:
            assert service.stop() == 0

    # Later: it comes back, and goes away again in each of its ways, with a result each time.
    kept = []
    with service.client() as client:
        registry.be("pass")
        service.wait_for("registry_recovered")
        for _ in range(40):
            assert client.post("/predict", json=applicant).status_code == 200
        for trouble in TROUBLES:
            registry.be(trouble)
            result = client.post("/monitoring/run").json()
            kept.append(result["run_id"])
            service.wait_for("sink_failed", count=len(kept))
            assert client.post("/predict", json=applicant).status_code == 200
        stats = client.get("/monitoring/stats").json()["monitoring"]
        assert stats["undelivered"] == {"mlflow": len(TROUBLES)}
        assert delivered_events(service) == []
        registry.be("pass")
        kept.append(client.post("/monitoring/run").json()["run_id"])
        service.wait_for("result_delivered", count=len(kept))
        assert client.get("/health").json()["status"] == "ok"
    assert service.stop() == 0
    assert delivered_events(service) == kept
    assert delivered(registry) == kept


def delivered_events(service: Service) -> list[str]:
    """The results that a sink took, in this order."""
    return [str(e["run_id"]) for e in service.events if e["event"] == "result_delivered"]


def artifact(folder: Path, version: str) -> Path:
    """The model file of a version in the embedded store."""
    found = (folder / "monitoring/mlflow/artifacts").rglob("model.skops")
    return sorted(found, key=lambda path: path.stat().st_mtime)[int(version) - 1]


def corrupt(file: Path, _good: bytes, _other: bytes) -> None:
    """Some bytes in the middle are not what they were; zeros may have been."""
    content = bytearray(file.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 64] = bytes(byte ^ 255 for byte in content[middle : middle + 64])
    file.write_bytes(content)


def swap(file: Path, _good: bytes, other: bytes) -> None:
    """It is another model, which is a good one."""
    file.write_bytes(other)


def arm(file: Path, _good: bytes, _other: bytes) -> None:
    """Its file would run a command when the model is used."""
    skops.io.dump(FunctionTransformer(func=subprocess.check_output), file)


def arm_without_hash(file: Path, good: bytes, other: bytes) -> None:
    """The same, registered as users register theirs: with no hash on it."""
    arm(file, good, other)
    database = file.parents[4] / "mlflow.db"
    with closing(sqlite3.connect(database, timeout=30)) as store:
        store.execute("DELETE FROM model_version_tags WHERE key = 'monitorkit.sha256'")
        store.commit()


SPOILED = [
    (corrupt, "not the one that was registered"),
    (swap, "not the one that was registered"),
    (arm, "not the one that was registered"),
    (arm_without_hash, "subprocess.check_output"),
]


def test_a_model_that_is_not_what_was_registered_is_refused_and_the_last_good_one_serves(
    folder: Path, start: Start, promote: Callable[[Path, str], None], applicant: dict[str, Any]
) -> None:
    """Needs the comparison with `SHA256_TAG` in `registry._download`, the types in `model.admit`,
    and `Reloader._look_up_quietly`, under which the model at hand goes on serving.
    """
    file = artifact(folder, "2")
    good, other = file.read_bytes(), artifact(folder, "1").read_bytes()
    assert good != other
    promote(folder, "2")
    for spoil, says in SPOILED:
        spoil(file, good, other)
        service = start(folder, env=SLOW)
        refusal = service.wait_for("model_refused")
        assert says in refusal["reason"]
        # Or nothing yet: the alias is looked up while the last good one is being loaded.
        assert refusal["serving"] in {None, "1"}
        with service.client() as client:
            assert client.post("/predict", json=applicant).json()["model_version"] == "1"
        assert service.stop() == 0
    file.write_bytes(good)
    service = start(folder, env=SLOW)
    with service.client() as client:
        until(lambda: client.get("/health").json()["model_version"] == "2", 180)
        assert client.post("/predict", json=applicant).json()["model_version"] == "2"
    assert service.stop() == 0
