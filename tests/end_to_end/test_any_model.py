"""Models that users registered themselves, on a real MLflow server."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from sklearn.datasets import load_breast_cancer

pytestmark = pytest.mark.slow

# What a data scientist runs on their own machine: nothing of monitorkit in it.
REGISTER = """
import sys
import mlflow
from mlflow.models import infer_signature
from sklearn.datasets import load_breast_cancer
from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

data = load_breast_cancer(as_frame=True)
kind = sys.argv[1]
model = {
    "logistic": lambda: make_pipeline(StandardScaler(), LogisticRegression(max_iter=5000)),
    "forest": lambda: RandomForestClassifier(20, random_state=1),
    "regression": lambda: RandomForestRegressor(5, random_state=1),
    "no-signature": lambda: LogisticRegression(max_iter=5000),
}[kind]()
model.fit(data.data, data.target)
signature = None if kind == "no-signature" else infer_signature(data.data, model.predict(data.data))
mlflow.sklearn.log_model(
    model,
    name="model",
    signature=signature,
    registered_model_name="tumours",
    serialization_format="skops",
    skops_trusted_types=["sklearn.tree._tree.Tree", "numpy.dtype"],
    pip_requirements=["scikit-learn"],
)
client = mlflow.MlflowClient()
newest = max(int(v.version) for v in client.search_model_versions("name='tumours'"))
if len(sys.argv) > 2:
    client.set_registered_model_alias("tumours", sys.argv[2], str(newest))
"""

CONFIG = """
[data]
path = "tumours.csv"
target = "malignant"

[registry]
model_name = "tumours"
poll = "500ms"

[schema."mean radius"]
minimum = 0
maximum = 100

[[monitors]]
name = "feature-drift"
use = "ks"

[[monitors]]
name = "proxy-metrics"
use = "proxy_metrics"

[[sinks]]
name = "mlflow"
use = "mlflow"

[monitoring]
min_rows = 100
"""


@pytest.fixture(scope="module")
def mlflow_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A real tracking server on loopback."""
    folder = tmp_path_factory.mktemp("mlflow-server")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1"),
            *("--port", str(port), "--workers", "1"),
            *("--backend-store-uri", f"sqlite:///{folder / 'mlflow.db'}"),
            *("--artifacts-destination", str(folder / "artifacts")),
        ],
        cwd=folder,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    url = f"http://127.0.0.1:{port}"
    try:
        deadline = time.monotonic() + 90
        while True:
            try:
                if httpx.get(f"{url}/health", trust_env=False).status_code == 200:
                    break
            except httpx.TransportError:
                assert time.monotonic() < deadline, "the MLflow server does not start"
                time.sleep(0.2)
        yield url
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait(timeout=10)


@pytest.fixture
def register(mlflow_server: str, tmp_path: Path) -> Callable[..., None]:
    """Register a model as a user does."""
    script = tmp_path / "register.py"
    script.write_text(REGISTER)

    def run(*arguments: str) -> None:
        env = {**os.environ, "MLFLOW_TRACKING_URI": mlflow_server}
        subprocess.run(
            [sys.executable, str(script), *arguments],
            env=env,
            cwd=tmp_path,
            check=True,
            capture_output=True,
            timeout=120,
        )

    return run


@pytest.fixture
def tumours(tmp_path: Path) -> Path:
    """A folder with scikit-learn's breast cancer data and a configuration for it."""
    frame = load_breast_cancer(as_frame=True).frame.rename(columns={"target": "malignant"})
    folder = tmp_path / "tumours"
    folder.mkdir()
    frame.to_csv(folder / "tumours.csv", index=False)
    (folder / "tumours.toml").write_text(CONFIG)
    return folder


def test_a_users_model_goes_through_the_whole_job(
    mlflow_server: str,
    register: Callable[..., None],
    tumours: Path,
    start: Callable[..., Any],
    command: Callable[..., Any],
) -> None:
    register("logistic", "production")
    env = {"MLFLOW_TRACKING_URI": mlflow_server}
    arguments = ("--config", "tumours.toml")
    service = start(tumours, *arguments, env=env)
    with service.client() as client:
        info = client.get("/model/info").json()
        assert len(info["features"]) == 30
        wrong = client.post("/predict", json={"mean radius": 101})
        assert wrong.status_code == 422
        named = {error["field"] for error in wrong.json()["errors"]}
        assert len(named) == 30
        assert "mean radius" in named

        command(tumours, "simulate", *arguments, "--rows", "150", "--url", service.url, env=env)
        command(tumours, "monitor", "--once", *arguments, env=env)
        (page,) = client.get("/monitoring/results").json()["results"]
        assert page["rows"] == 150
        assert page["monitors"]["proxy-metrics"] == "ok"

        # A new version is served within 30 s of its promotion, without a restart.
        before = info["version"]
        register("forest")
        newest = str(int(before) + 1)
        command(tumours, "promote", newest, *arguments, env=env)
        promoted = time.monotonic()
        while client.get("/health").json()["model_version"] != newest:
            assert time.monotonic() - promoted < 30
            time.sleep(0.1)

        # One that cannot be served changes nothing; the next good one is served again.
        register("regression", "production")
        service.wait_for("model_refused", seconds=30)
        assert client.get("/health").json()["model_version"] == newest
        register("logistic", "production")
        good = str(int(newest) + 2)
        moved = time.monotonic()
        while client.get("/health").json()["model_version"] != good:
            assert time.monotonic() - moved < 30
            time.sleep(0.1)
        service.wait_for("registry_recovered")
    assert service.stop() == 0
    experiments = httpx.get(
        f"{mlflow_server}/api/2.0/mlflow/experiments/get-by-name",
        params={"experiment_name": "tumours-monitoring"},
        trust_env=False,
    ).json()
    runs = httpx.post(
        f"{mlflow_server}/api/2.0/mlflow/runs/search",
        json={"experiment_ids": [experiments["experiment"]["experiment_id"]]},
        trust_env=False,
    ).json()["runs"]
    assert len(runs) == 1
    assert any("ks" in metric["key"] for metric in runs[0]["data"]["metrics"])


REFUSED = [("regression", "classif"), ("no-signature", "signature")]


@pytest.mark.exhaustive
@pytest.mark.parametrize(("kind", "says"), REFUSED)
def test_other_models_are_refused_at_start_with_a_clear_error(
    kind: str,
    says: str,
    mlflow_server: str,
    register: Callable[..., None],
    tumours: Path,
    start: Callable[..., Any],
) -> None:
    register(kind, "production")
    service = start(tumours, "--config", "tumours.toml", env={"MLFLOW_TRACKING_URI": mlflow_server})
    assert service.process.wait(timeout=60) == 1
    time.sleep(0.2)
    last = service.events[-1]
    assert (last["level"], last["error"]) == ("error", "ModelRefused")
    assert says in last["reason"]


def test_a_registry_that_is_away_does_not_stop_a_service_that_has_a_model(
    folder: Path, start: Callable[..., Any]
) -> None:
    database = folder / "monitoring/mlflow/mlflow.db"
    database.write_bytes(b"not a database at all" * 100)
    service = start(folder)
    with service.client() as client:
        health = client.get("/health").json()
    assert health["model_loaded"] is True
    service.wait_for("registry_trouble")


@pytest.mark.exhaustive
def test_the_data_set_must_fit_the_model(
    mlflow_server: str, register: Callable[..., None], tumours: Path, start: Callable[..., Any]
) -> None:
    register("logistic", "production")
    text = (tumours / "tumours.csv").read_text().replace("mean radius", "average radius", 1)
    (tumours / "tumours.csv").write_text(text)
    service = start(tumours, "--config", "tumours.toml", env={"MLFLOW_TRACKING_URI": mlflow_server})
    assert service.process.wait(timeout=60) == 1
    time.sleep(0.2)
    assert "mean radius" in service.events[-1]["reason"]
    assert json.dumps(service.events[-1]).count("bootstrap --from")
