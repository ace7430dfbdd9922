"""From when on a monitor looks: a grid of starts, each with its share of the false alarms.

Starts lie on a grid of time. One at a multiple of 2**v grid steps is followed for `FOLLOWED` times
2**v of them, so that at any time there are starts of all ages, some four for each doubling. Each
has an allowance, its chance of ever raising a false alarm. Half of the starts are at odd multiples,
a quarter at odd multiples of two and so on; each of these classes gets the same part of the rate of
false alarms, so that one which is followed for long may spend more: there are fewer of them.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
from numpy.typing import NDArray

from monitorkit.contracts import Bucket

SHORTEST = timedelta(minutes=4)
"""The grid's step is at least so long: a whole number of the shortest buckets."""

FOLLOWED = 8
CLASSES = 9
"""With buckets of a minute the oldest starts lie 8 * 4 * 2**8 minutes back: 5.7 days."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True, eq=False)
class Starts:
    """The starts that are followed at one moment, the oldest first.

    Attributes:
        buckets: (starts,) the first bucket of each.
        allowances: (starts,) chance of ever raising a false alarm, at a rate of one per second.
    """

    buckets: NDArray[np.int64]
    allowances: NDArray[np.float64]


def grid_step(bucket: timedelta) -> timedelta:
    """The grid's step: the shortest bucket, doubled until it is as long as `SHORTEST`."""
    while bucket < SHORTEST:
        bucket *= 2
    return bucket


def starts_at(
    buckets: Sequence[Bucket[Any]], since: datetime, now: datetime, step: timedelta
) -> Starts:
    """The starts in a window that have rows and no bucket across them.

    A start inside of a bucket cannot be looked from: buckets grow as they age, but those of
    `[monitoring] resolution` 8 and more do so only after their starts are not followed any more.

    Args:
        buckets: in time order; all rows from a bucket on are looked at.
        since: when the window begins.
        now: the moment.
        step: of the grid.
    """
    found: dict[int, float] = {}
    first = -((_EPOCH - since) // step)
    last = (now - _EPOCH) // step
    ends = [bucket.start + bucket.length for bucket in buckets]
    for number, kind in _followed(first, last):
        time = _EPOCH + number * step
        bucket = bisect_right(ends, time)
        if bucket == len(buckets) or buckets[bucket].start < time:
            continue
        # Of two starts with the same rows one is enough: that which may spend more.
        allowance = allowance_of(kind, step)
        found[bucket] = max(found.get(bucket, 0.0), allowance)
    chosen = sorted(found)
    return Starts(
        np.array(chosen, np.int64), np.array([found[bucket] for bucket in chosen], np.float64)
    )


def _followed(first: int, last: int) -> list[tuple[int, int]]:
    """Numbers of the grid's starts that are followed, with their class."""
    found = []
    for kind in range(CLASSES):
        spacing = 1 << kind
        oldest = max(first, last - FOLLOWED * spacing + 1)
        numbers = range(-(-oldest // spacing) * spacing, last + 1, spacing)
        rarest = kind == CLASSES - 1
        found += [(number, kind) for number in numbers if rarest or number >> kind & 1]
    return found


def allowance_of(kind: int, step: timedelta) -> float:
    """Of a start of a class: its class's part of the grid steps from one such start to the next."""
    density = 0.5 ** (kind if kind == CLASSES - 1 else kind + 1)
    return 1 / (CLASSES * density) * step.total_seconds()
