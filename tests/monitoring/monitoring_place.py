"""A folder with a frozen reference, stored model versions and a log, all real, made in a moment."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import stored_model
from numpy.typing import NDArray
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from monitorkit import model, model_store, reference
from monitorkit.config import Config
from monitorkit.prediction_log.rows import Formatter, Prediction, header
from monitorkit.results import Results
from monitorkit.schema import Feature, FeatureSchema
from monitorkit.worker import Worker

SCHEMA = FeatureSchema((Feature("age"), Feature("income", nullable=True), Feature("late")))

BAD_MONITORS = """
import os
import time
from dataclasses import dataclass

from monitorkit import Finding, Judgement, Monitor, Options, Sink, hookimpl


class BadOptions(Options):
    at: str = "judge"
    how: str = "raise"


@dataclass(frozen=True)
class Rows:
    rows: int


def misbehave(how):
    if how == "raise":
        raise ValueError("no good")
    if how == "hang":
        time.sleep(60)
    if how == "exit":
        os._exit(3)
    if how == "memory":
        bytearray(64 * 2**30)
    if how == "print":
        print("hello from a plugin")


class Bad(Monitor[BadOptions, Rows]):
    options_type = BadOptions

    def __init__(self, options, reference):
        super().__init__(options, reference)
        if options.at == "init":
            misbehave(options.how)

    def summarise(self, chunk):
        # The reference has no times: only rows of the log are refused.
        if self.options.at == "summarise" and not os.path.exists("healed"):
            misbehave(self.options.how)
        return Rows(len(chunk))

    def merge(self, left, right):
        if self.options.at == "merge" and left.rows + right.rows > 2500:
            misbehave(self.options.how)
        return Rows(left.rows + right.rows)

    def judge(self, timeline, previous):
        if self.options.at == "judge":
            misbehave(self.options.how)
        if self.options.how == "nan":
            return Judgement([Finding("x", float("nan"))])
        if self.options.how == "type":
            return {"x": 1}
        if self.options.how == "path":
            return Judgement([], {"../x.html": b""})
        return Judgement([Finding("rows", float(timeline.all().rows))])


class BadSink(Sink[BadOptions]):
    options_type = BadOptions

    def deliver(self, result, document):
        with open("delivered.txt", "a") as file:
            file.write(result.run_id + "\\n")
        if not os.path.exists("healed"):
            misbehave(self.options.how)
        return f"https://sink.example/{result.run_id}" if self.options.how == "link" else None


@hookimpl
def monitorkit_monitors():
    return {"bad": Bad}


@hookimpl
def monitorkit_sinks():
    return {"bad_sink": BadSink}
"""


@dataclass(frozen=True)
class Place:
    """Where a test's monitoring runs."""

    folder: Path
    config: Config
    results: Results
    model: model.Model

    def append(
        self,
        features: NDArray[np.float64],
        *,
        version: str = "1",
        ends: datetime | None = None,
        seconds: float = 0.01,
        new_id: Callable[[datetime], str] = lambda _: str(uuid.uuid4()),
    ) -> None:
        """Write rows as the service would, the last one now (or at `ends`); ids are foreign."""
        ends = ends or datetime.now(UTC)
        path = self.config.storage.predictions / "predictions.csv"
        path.parent.mkdir(parents=True, exist_ok=True)
        scores = self.model.scores(features)
        step = timedelta(seconds=seconds)
        times = [ends - step * (len(features) - 1 - n) for n in range(len(features))]
        rows = [
            Prediction(
                new_id(times[n]),
                f"{times[n]:%Y-%m-%dT%H:%M:%S.%fZ}",
                version,
                int(scores[n] > 0.5),
                float(scores[n]),
                [None if np.isnan(value) else float(value) for value in features[n]],
            )
            for n in range(len(features))
        ]
        with path.open("ab") as file:
            if file.tell() == 0:
                file.write(header(SCHEMA.names))
            file.write(Formatter(SCHEMA).lines(rows))


def own_id(time: datetime) -> str:
    """An id as the service makes them, which begins with the row's time."""
    moment = f"{int(time.timestamp() * 1000):012x}"
    return f"{moment[:8]}-{moment[8:]}-7{str(uuid.uuid4())[15:]}"


def draw(rows: int, seed: int, *, shift: Sequence[float] = (0, 0, 0)) -> NDArray[np.float64]:
    """Rows of three columns; `shift` is added."""
    random = np.random.default_rng(seed)
    return np.column_stack(
        [
            random.normal(50, 15, rows) + shift[0],
            random.lognormal(8, 0.6, rows) + shift[1],
            random.poisson(0.4, rows).astype(float) + shift[2],
        ]
    )


def score(features: NDArray[np.float64]) -> NDArray[np.float64]:
    """A probability that depends on the features."""
    odds = np.nan_to_num(features) @ np.array([0.01, -0.0001, 0.8]) - 1
    probabilities: NDArray[np.float64] = 1 / (1 + np.exp(-odds))
    return probabilities


def store_model(config: Config, version: str) -> None:
    """Put a version where the registry would put it."""
    rows = draw(500, seed=9)
    classifier = make_pipeline(
        SimpleImputer(), StandardScaler(), LogisticRegression(C=float(version))
    )
    classifier.fit(rows, (score(rows) > np.median(score(rows))).astype(int))
    stored_model.store(config, version, SCHEMA, classifier)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Place]:
    """Make a place with the given configuration tables; 1,000 reference rows."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)

    def make(**tables: Any) -> Place:
        monitors = tables.pop("monitors", [{"name": "feature-drift", "use": "ks"}])
        (tmp_path / "bad.py").write_text(BAD_MONITORS)
        monitoring = {"plugin_files": ["bad.py"], **tables.pop("monitoring", {})}
        config = Config(monitors=monitors, monitoring=monitoring, **tables)
        store_model(config, "1")
        reference.freeze(
            config.storage.reference, draw(1000, seed=1), SCHEMA, source="test", model_version="1"
        )
        folder = model_store.folder(model_store.address(config), config.storage.models, "1")
        loaded = model.load(folder, config.registry.trust)
        return Place(tmp_path, config, Results(config.storage.results), loaded)

    return make


@pytest.fixture
def worker() -> Iterator[Worker]:
    """A worker process for monitors or sinks."""
    process = Worker("monitors", memory_bytes=8 * 2**30)
    yield process
    process.close()
