"""Time in whole steps since 1970: what buckets and instants are numbered by."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
from numpy.typing import NDArray

from monitorkit.contracts import Chunk

MICROSECOND = timedelta(microseconds=1)

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def step_of(time: datetime, length: timedelta) -> int:
    """The step that a time lies in."""
    return (time - _EPOCH) // length


def first_step(time: datetime, length: timedelta) -> int:
    """The first step that begins at `time` or later."""
    return -((_EPOCH - time) // length)


def start_of(step: int, length: timedelta) -> datetime:
    """When a step begins."""
    return _EPOCH + step * length


def microseconds(chunk: Chunk) -> NDArray[np.int64]:
    """(rows,) times in microseconds since 1970."""
    return chunk.times.astype("datetime64[us]").astype(np.int64)
