"""What came into the log when, as far as the rows' time stamps tell."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np

from monitorkit.monitoring.steps import MICROSECOND, microseconds, step_of
from monitorkit.prediction_log import Block


@dataclass(frozen=True, slots=True)
class Arrivals:
    """What came when in a stretch of the log; instants are numbered in intervals since 1970.

    Rows are written in the order in which they are ready. So a row came when its time stamp says,
    or, when that is later, when the latest one before it in its segment says.

    Attributes:
        steps: (instant, segment, offset): from this instant on the segment is there up to there.
        last: the first instant at which everything is there; 0 when there is nothing.
        late: rows that are there later than their own time stamp says, by more than an interval.
    """

    steps: Sequence[tuple[int, str, int]]
    last: int
    late: int


def find_arrivals(
    blocks: Iterable[Block], instants: range, interval: timedelta, present: datetime
) -> Arrivals:
    """Find out what is there at which instant, in one pass; memory is that of the instants.

    Args:
        blocks: a stretch of the log.
        instants: the numbers that count. What came before them is there at the first one.
        interval: between them.
        present: a time stamp after it is a wrong one, and holds nothing back.
    """
    length = interval // MICROSECOND
    limit = step_of(present, MICROSECOND)
    newest: dict[str, int] = {}
    ends: dict[tuple[int, str], int] = {}
    last = late = 0
    for block in blocks:
        times = microseconds(block.chunk)
        before = newest.get(block.segment, instants.start * length)
        came = np.maximum.accumulate(np.where(times > limit, before, times).clip(min=before))
        newest[block.segment] = int(came[-1])
        numbers = -(-came // length)
        own = np.maximum(-(-times // length), instants.start)
        late += int(np.count_nonzero(numbers - own > 1))
        last = max(last, int(numbers[-1]))
        for row in [*np.flatnonzero(np.diff(numbers)).tolist(), len(numbers) - 1]:
            number = int(numbers[row])
            if number in instants:
                ends[number, block.segment] = int(block.ends[row])
    steps = [(number, segment, end) for (number, segment), end in ends.items()]
    return Arrivals(sorted(steps), last, late)
