"""A place with stored model versions and files of another service, all real, made in a moment."""

from __future__ import annotations

import csv
import io
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import stored_model
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from monitorkit.config import Config
from monitorkit.importing.backfill import Options, Summary, import_file
from monitorkit.prediction_log import Reader
from monitorkit.schema import Feature, FeatureSchema

SCHEMA = FeatureSchema(
    (
        Feature("age", "integer", minimum=18, maximum=120),
        Feature("income", nullable=True),
        Feature("days-late"),
    )
)
SHORT = FeatureSchema((Feature("age", "integer", minimum=18, maximum=120), Feature("days-late")))
START = datetime(2026, 1, 2, 3, 4, 5, 123456, tzinfo=UTC)


def stamp(time: datetime) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def store_model(config: Config, version: str, schema: FeatureSchema) -> None:
    """Put a version where the registry would put it."""
    random = np.random.default_rng(3)
    rows = random.normal(50, 20, (300, len(schema.features)))
    classifier = make_pipeline(SimpleImputer(), LogisticRegression(max_iter=1000))
    classifier.fit(rows, (rows[:, 0] + random.normal(0, 9, 300) > 50).astype(int))
    stored_model.store(config, version, schema, classifier)


@dataclass(frozen=True)
class Place:
    """Where a test imports to."""

    folder: Path
    config: Config

    @property
    def log(self) -> Path:
        return self.config.storage.predictions

    def write(self, text: str | bytes, name: str = "theirs.csv") -> Path:
        path = self.folder / name
        path.write_bytes(text.encode() if isinstance(text, str) else text)
        return path

    def run(self, file: Path, **options: Any) -> Summary:
        return import_file(self.config, file, Options(**options))

    def segments(self) -> list[Path]:
        return sorted(self.log.glob("predictions-import-*.csv"))

    def rows(self) -> list[dict[str, str]]:
        """What the segments hold, as the csv module reads it."""
        found: list[dict[str, str]] = []
        for path in self.segments():
            found += csv.DictReader(io.StringIO(path.read_bytes().decode(), newline=""))
        return found

    def read(self) -> int:
        """How many rows our own reader finds."""
        reader = Reader(self.log)
        rows = sum(len(block.chunk) for block in reader.read({}))
        assert reader.skipped == 0
        return rows

    def left_behind(self) -> list[str]:
        """What stands in the log's folder beside the lock."""
        return sorted(path.name for path in self.log.glob("*") if path.suffix != ".lock")


def theirs(number: int, *, start: datetime = START, first: int = 0) -> list[list[str]]:
    """Rows of another service: id, time, version, label, score, and three features."""
    made = []
    for n in range(first, first + number):
        score = (n * 37 % 101) / 101
        income = "" if n % 5 == 0 else repr(n / 7)
        time = start + timedelta(seconds=n)
        fixed = [f"t-{n:06d}", stamp(time), "1", str(int(score > 0.5)), repr(score)]
        made.append([*fixed, str(20 + n % 60), income, str(n % 3)])
    return made


HEADER = ["id", "event_time", "model", "label", "score", "age", "income", "days-late"]
MAPS = (
    "prediction_id=id",
    "timestamp=event_time",
    "model_version=model",
    "prediction=label",
    "probability=score",
)


def as_csv(rows: Iterable[Sequence[str]], header: Sequence[str] = HEADER, mark: str = ",") -> str:
    text = io.StringIO()
    csv.writer(text, delimiter=mark, lineterminator="\n").writerows([header, *rows])
    return text.getvalue()


@pytest.fixture(scope="session")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model store with two versions: 1 reads three columns, 2 reads two of them."""
    root = tmp_path_factory.mktemp("stored")
    config = Config(storage={"root": root})
    with pytest.MonkeyPatch.context() as environment:
        environment.delenv("MLFLOW_TRACKING_URI", raising=False)  # MLflow sets it for itself
        store_model(config, "1", SCHEMA)
        store_model(config, "2", SHORT)
    return root


@pytest.fixture
def place(stored: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    """A folder with the two versions and no log."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    shutil.copytree(stored, tmp_path / "monitoring")
    return Place(tmp_path, Config())
