"""Rows for the log's tests, and what is in a log according to Python's own csv module."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np

from monitorkit.prediction_log import Block, Prediction, Reader
from monitorkit.schema import Feature, FeatureSchema

SCHEMA = FeatureSchema(
    (Feature("age", "integer"), Feature("income", nullable=True), Feature('a, "quoted" name'))
)
OTHER = FeatureSchema((Feature("height"), Feature("weight")))
START = datetime(2026, 1, 2, 3, 4, 5, 123456, tzinfo=UTC)
LARGE = 1 << 30

_numbers = count()


def stamp(time: datetime) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def rows(
    number: int,
    *,
    schema: FeatureSchema = SCHEMA,
    version: str = "1",
    start: datetime | None = None,
) -> list[Prediction]:
    """Rows with ids that no other rows of this process have."""
    made = []
    for _ in range(number):
        n = next(_numbers)
        time = (START if start is None else start) + timedelta(seconds=n)
        features = [float(n), None, n / 7][: len(schema.features)]
        moment = f"{int(time.timestamp() * 1000):012x}"  # as in ours
        identity = f"{moment[:8]}-{moment[8:]}-7000-8000-{n:012d}"
        made.append(Prediction(identity, stamp(time), version, n % 2, (n % 99) / 99, features))
    return made


def ids(predictions: Sequence[Prediction]) -> list[str]:
    return [row.prediction_id for row in predictions]


def closed(folder: Path) -> list[Path]:
    """The closed segments."""
    return sorted(folder.glob("predictions-*.csv"))


def logged(folder: Path) -> list[str]:
    """The ids in all segments, in no order, as the csv module reads them."""
    found = []
    for path in folder.glob("predictions*.csv"):
        text = path.read_bytes().decode("utf-8")
        if text:
            assert text.endswith("\n"), path
            found += [row[0] for row in list(csv.reader(io.StringIO(text, newline="")))[1:]]
    return found


def read(
    folder: Path, after: Mapping[str, int] | None = None, **options: Any
) -> tuple[list[str], Mapping[str, int]]:
    """The ids after a cursor, and the cursor after them."""
    found: list[str] = []
    cursor = after or {}
    for block in Reader(folder, **options).read(cursor):
        found += block.chunk.ids.tolist()
        cursor = block.cursor
    return found, cursor


def as_rows(blocks: Sequence[Block]) -> list[tuple[Any, ...]]:
    """Rows as tuples that compare: NaN is None."""
    return [
        (
            str(chunk.ids[i]),
            str(chunk.times[i]) + "Z",
            version,
            float(chunk.scores[i]),
            [None if np.isnan(v) else v for v in chunk.features[i].tolist()],
        )
        for version, chunk in ((block.model_version, block.chunk) for block in blocks)
        for i in range(len(chunk))
    ]
