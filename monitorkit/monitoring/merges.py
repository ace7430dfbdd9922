"""Merged summaries, kept from cycle to cycle as long as their buckets stay the same."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import timedelta
from itertools import groupby
from operator import itemgetter
from typing import Any

from monitorkit.contracts import Bucket
from monitorkit.monitoring.steps import step_of

MergeAll = Callable[[Sequence[Any]], Any]

RUN = 8
"""So many neighbouring buckets of one length, and whatever there is of them, are merged first."""


class Merges:
    """What was merged of one track's buckets, by the buckets.

    Most of a window is old and does not change from one cycle to the next: only the shortest
    buckets are new. So stretches of time are merged by themselves, and the results kept, for the
    next cycle and for the other monitors that share the track.
    """

    def __init__(self) -> None:
        self._kept: dict[tuple[int, ...], tuple[Sequence[Any], Any]] = {}
        self._used: set[tuple[int, ...]] = set()

    def merged(self, buckets: Sequence[Bucket[Any]], merge_all: MergeAll) -> Any | None:
        """The summary of all of them, None of none."""
        runs = [
            (length, self._merged([bucket.summary for bucket in run], merge_all))
            for (length, _), run in groupby(buckets, key=_run)
        ]
        lengths = [
            self._merged([summary for _, summary in some], merge_all)
            for _, some in groupby(runs, key=itemgetter(0))
        ]
        return self._merged(lengths, merge_all) if lengths else None

    def tidy(self) -> None:
        """Forget what was not asked for since the last time."""
        self._kept = {key: self._kept[key] for key in self._used}
        self._used = set()

    def _merged(self, summaries: Sequence[Any], merge_all: MergeAll) -> Any:
        if len(summaries) == 1:
            return summaries[0]
        # Their ids stay theirs, for the summaries are kept beside what was made of them.
        key = tuple(map(id, summaries))
        if key not in self._kept:
            self._kept[key] = summaries, merge_all(summaries)
        self._used.add(key)
        return self._kept[key][1]


def _run(bucket: Bucket[Any]) -> tuple[timedelta, int]:
    return bucket.length, step_of(bucket.start, RUN * bucket.length)
