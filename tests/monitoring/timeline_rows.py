"""Rows, and a summary of them, for the tests of tracks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import numpy as np

from monitorkit.contracts import Chunk
from monitorkit.monitoring.ladder import Ladder

MINUTE = timedelta(minutes=1)
DAY = timedelta(hours=24)
START = datetime(2026, 1, 2, 3, 4, tzinfo=UTC)


def rows(*seconds: float) -> Chunk:
    """Rows at so many seconds after START, which are their scores."""
    times = [np.datetime64(START.replace(tzinfo=None), "us") + round(s * 1e6) for s in seconds]
    count = len(seconds)
    return Chunk(
        ids=np.array([str(n) for n in range(count)], dtype=np.str_),
        times=np.array(times, dtype="datetime64[us]"),
        columns=("a",),
        features=np.arange(count, dtype=float).reshape(-1, 1),
        scores=np.array(seconds, dtype=float),
    )


def ladder(seconds: float = 0, *, resolution: int = 32, horizon: timedelta = DAY) -> Ladder:
    """The ladder so many seconds after START."""
    return Ladder(MINUTE, resolution, START + timedelta(seconds=seconds), horizon)


@dataclass(frozen=True, slots=True)
class Sum:
    """A summary that is exact whatever the order: scores are small whole numbers or quarters."""

    rows: int
    total: float


def summarise_each(chunks: Sequence[Chunk]) -> list[Sum]:
    return [Sum(len(chunk), float(chunk.scores.sum())) for chunk in chunks]


def merge(left: Sum, right: Sum) -> Sum:
    return Sum(left.rows + right.rows, left.total + right.total)
