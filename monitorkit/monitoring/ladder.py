"""The ladder: how long a bucket of the timeline is, by how long ago it ended."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from datetime import datetime, timedelta
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from monitorkit.config import Config
from monitorkit.contracts import Chunk
from monitorkit.monitoring.steps import MICROSECOND, first_step, microseconds, step_of

BucketPart = tuple[int, int, Chunk]
"""Rows of one bucket, after its first step and its level."""


class Ladder:
    """The buckets of one moment: a bucket is at most 1/`resolution` as long as it is old.

    Time since 1970 is numbered in steps of the shortest bucket. A bucket of level k is 2**k steps
    long and begins at a multiple of that. A step belongs to the bucket of the highest level that
    ended at least `resolution` times its length ago. So the buckets depend on the moment alone, and
    as time goes on they only grow together: those of one moment are unions of those before it.

    Args:
        bucket: length of the shortest ones.
        resolution: at least 1; twice as much makes about twice as many buckets.
        now: the moment.
        horizon: what is older is of no interest.
    """

    def __init__(
        self, bucket: timedelta, resolution: int, now: datetime, horizon: timedelta
    ) -> None:
        self.bucket = bucket
        self.step = step_of(now, bucket)
        self.first = first_step(now - horizon, bucket)
        self.until = now + horizon
        tops: list[int] = []
        level = 1
        while (resolution << level) * bucket <= horizon:
            tops.append((self.step - (resolution << level)) >> level << level)
            level += 1
        self._tops = tops[::-1]  # ascending: before each of them another level begins

    def place(self, steps: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The first step and the level of the bucket that each step belongs to."""
        tops = np.array(self._tops, np.int64)
        levels = len(tops) - np.searchsorted(tops, steps, side="right")
        return (steps >> levels) << levels, levels

    def place_of(self, step: int) -> tuple[int, int]:
        """As `place`, for one step."""
        level = len(self._tops) - bisect_right(self._tops, step)
        return step >> level << level, level

    def split(self, chunk: Chunk) -> Iterator[BucketPart]:
        """The parts of a chunk by bucket, with its first step and its level; rows keep their order.

        Rows in buckets that begin before the horizon are left out.
        """
        starts, levels = self.place(microseconds(chunk) // (self.bucket // MICROSECOND))
        if not len(starts):
            return
        if np.any(np.diff(starts) < 0):  # rows that came late
            order = np.argsort(starts, kind="stable")
            chunk, starts, levels = chunk.take(order), starts[order], levels[order]
        edges = [0, *(np.flatnonzero(np.diff(starts)) + 1).tolist(), len(starts)]
        for begin, end in pairwise(edges):
            if starts[begin] >= self.first:
                yield int(starts[begin]), int(levels[begin]), chunk.take(slice(begin, end))


def longest_lookback(config: Config) -> timedelta:
    """That of the window or of a monitor of its own."""
    lookback = config.monitoring.lookback
    return max([lookback, *(entry.lookback or lookback for entry in config.monitors)])
