"""Prediction logs of any length, made of the rows that a model might have answered."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import uuid_utils
from numpy.typing import NDArray

from monitorkit.prediction_log import Prediction, Writer
from monitorkit.schema import Feature, FeatureSchema
from monitorkit.settings import Log

CHUNK = 10_000


@dataclass(frozen=True, slots=True)
class Material:
    """Different rows, which a longer log repeats.

    Attributes:
        schema: of the features.
        rows: features, None where missing.
        scores: probabilities of the positive class.
    """

    schema: FeatureSchema
    rows: list[list[float | None]]
    scores: list[float]

    @classmethod
    def of(
        cls, schema: FeatureSchema, features: NDArray[np.float64], scores: NDArray[np.float64]
    ) -> Material:
        """Rows from (rows, columns), NaN where missing, and (rows,) scores."""
        rows = [
            [None if value != value else value for value in row]  # noqa: PLR0124 - NaN
            for row in features.tolist()
        ]
        return cls(schema, rows, scores.tolist())

    def save(self, path: Path, rows: int) -> None:
        """Keep the first rows in a file, for another process."""
        features = np.array(self.rows[:rows], dtype=np.float64)
        names = np.array(self.schema.names)
        np.savez(path, names=names, features=features, scores=self.scores[:rows])

    @classmethod
    def load(cls, path: Path) -> Material:
        """What `save` kept."""
        with np.load(path) as kept:
            schema = FeatureSchema(tuple(Feature(str(name)) for name in kept["names"]))
            return cls.of(schema, kept["features"], kept["scores"])


def append(folder: Path, material: Material, rows: int, start: datetime, span: timedelta) -> None:
    """Append rows to a prediction log as the service does, rotation included.

    Args:
        folder: of the segments; made when there is none.
        material: to take rows from, again and again.
        rows: how many.
        start: of the first row, UTC.
        span: over which their time stamps are spread evenly.
    """
    asyncio.run(_append(folder, material, rows, start, span))


async def _append(
    folder: Path, material: Material, rows: int, start: datetime, span: timedelta
) -> None:
    settings = Log()
    writer = await Writer.open(
        folder,
        material.schema,
        durability=settings.durability,
        rotate_bytes=int(settings.rotate),
    )
    first = np.datetime64(start.replace(tzinfo=None), "us")
    step = span / timedelta(microseconds=1) / rows
    different = len(material.rows)
    try:
        for begin in range(0, rows, CHUNK):
            numbers = range(begin, min(begin + CHUNK, rows))
            later = (np.arange(numbers.start, numbers.stop) * step).astype("timedelta64[us]")
            stamps = np.datetime_as_string(first + later).tolist()
            await writer.append(
                material.schema,
                [
                    Prediction(
                        str(uuid_utils.uuid7()),
                        f"{stamp}Z",
                        "1",
                        int(material.scores[number % different] > 0.5),
                        material.scores[number % different],
                        material.rows[number % different],
                    )
                    for number, stamp in zip(numbers, stamps, strict=True)
                ],
            )
    finally:
        await writer.close()
