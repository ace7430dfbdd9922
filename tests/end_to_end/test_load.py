"""20,000 different rows under load, another model in the middle: every answer is on disk once."""

from __future__ import annotations

import asyncio
import csv
import json
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

pytestmark = pytest.mark.slow

REQUESTS = 20_000
CONNECTIONS = 200

# MLflow is imported there, so that this process stays as it is.
EXPECTED = """
import sys, mlflow, numpy as np, pandas as pd
mlflow.set_tracking_uri(sys.argv[1])
frame = pd.read_parquet(sys.argv[2])
for version in "12":
    model = mlflow.sklearn.load_model(f"models:/credit-risk-model/{version}")
    np.save(sys.argv[3] + version, model.predict_proba(frame)[:, 1])
"""


def different_rows() -> pd.DataFrame:
    """Rows within the schema's bounds; DebtRatio tells them apart."""
    random = np.random.default_rng(7)
    whole = {
        "age": random.integers(21, 95, REQUESTS),
        "NumberOfTime30-59DaysPastDueNotWorse": random.integers(0, 6, REQUESTS),
        "NumberOfOpenCreditLinesAndLoans": random.integers(0, 30, REQUESTS),
        "NumberOfTimes90DaysLate": random.integers(0, 4, REQUESTS),
        "NumberRealEstateLoansOrLines": random.integers(0, 5, REQUESTS),
        "NumberOfTime60-89DaysPastDueNotWorse": random.integers(0, 4, REQUESTS),
    }
    income = np.round(random.exponential(6000, REQUESTS), 2)
    income[random.random(REQUESTS) < 0.2] = np.nan
    dependents = random.integers(0, 5, REQUESTS).astype(float)
    dependents[random.random(REQUESTS) < 0.03] = np.nan
    return pd.DataFrame(
        {
            "RevolvingUtilizationOfUnsecuredLines": random.exponential(0.4, REQUESTS),
            **{name: values.astype(float) for name, values in whole.items()},
            "DebtRatio": np.arange(REQUESTS) / 7,
            "MonthlyIncome": income,
            "NumberOfDependents": dependents,
        }
    )


async def drive(port: int, bodies: list[bytes], *, until: str | None = None) -> list[Any]:
    """Send every body over 200 connections at once; the answers, in the order of the bodies.

    Until a model version has answered it is 1,000 requests a second, then as many as are answered.
    """
    answers: list[Any] = [None] * len(bodies)
    todo = iter(enumerate(bodies))
    versions = {until} if until is None else set()

    async def client() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            for number, body in todo:
                await asyncio.sleep(0 if until in versions else CONNECTIONS / 1000)
                writer.write(
                    b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n%b"
                    % (len(body), body)
                )
                head = await reader.readuntil(b"\r\n\r\n")
                assert head.startswith(b"HTTP/1.1 200 "), head
                length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
                answers[number] = json.loads(await reader.readexactly(length))
                versions.add(answers[number]["model_version"])
        finally:
            writer.close()
            await writer.wait_closed()

    async with asyncio.TaskGroup() as clients:
        for _ in range(CONNECTIONS):
            clients.create_task(client())
    return answers


def test_every_answer_is_the_models_and_stands_in_the_log_exactly_once(
    folder: Path, command: Callable[..., Any], start: Callable[..., Any], tmp_path: Path
) -> None:
    command(folder, "train", env={"MONITORKIT_TRAINING__ESTIMATOR": "logistic_regression"})
    service = start(folder, env={"MONITORKIT_REGISTRY__POLL": "1s"})
    port = int(service.url.rpartition(":")[2])
    frame = different_rows()
    frame = frame[[column["name"] for column in features(service)]]
    bodies = [
        json.dumps({k: None if v != v else v for k, v in row.items()}).encode()  # noqa: PLR0124
        for row in frame.to_dict("records")
    ]

    # The command takes seconds; the service notices and loads the model under load.
    before = REQUESTS // 4
    answers = asyncio.run(drive(port, bodies[:before]))
    command(folder, "promote", "2")
    answers += asyncio.run(drive(port, bodies[before:], until="2"))
    service.wait_for("model_loaded", count=2)
    assert service.stop() == 0

    with (folder / "monitoring" / "predictions" / "predictions.csv").open(newline="") as file:
        entries = {entry["prediction_id"]: entry for entry in csv.DictReader(file)}
        file.seek(0)
        assert sum(1 for _ in file) - 1 == len(entries)
    assert len(entries) == len({answer["prediction_id"] for answer in answers}) == REQUESTS

    expected = probabilities(folder, frame, tmp_path)
    served = Counter(answer["model_version"] for answer in answers)
    assert min(served["1"], served["2"]) > REQUESTS // 10
    for number, (answer, row) in enumerate(zip(answers, frame.to_dict("records"), strict=True)):
        entry = entries[answer["prediction_id"]]
        assert {name: entry[name] for name in ("timestamp", "model_version")} == {
            name: answer[name] for name in ("timestamp", "model_version")
        }
        assert float(entry["probability"]) == answer["probability"]
        assert int(entry["prediction"]) == answer["prediction"]
        model_says = expected[answer["model_version"]][number]
        assert answer["probability"] == pytest.approx(model_says, rel=0, abs=1e-9)
        for name, value in row.items():
            assert entry[name] == "" if np.isnan(value) else float(entry[name]) == value


def features(service: Any) -> Any:
    with service.client() as client:
        return client.get("/model/info").json()["features"]


def probabilities(folder: Path, frame: pd.DataFrame, scratch: Path) -> dict[str, Any]:
    """What each registered version says of each row, according to MLflow and scikit-learn."""
    store = f"sqlite:///{folder / 'monitoring' / 'mlflow' / 'mlflow.db'}"
    frame.to_parquet(scratch / "rows.parquet")
    arguments = [store, str(scratch / "rows.parquet"), str(scratch / "expected")]
    subprocess.run([sys.executable, "-c", EXPECTED, *arguments], check=True, timeout=120)
    return {version: np.load(scratch / f"expected{version}.npy") for version in "12"}
