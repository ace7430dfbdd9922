"""Merged summaries, kept from cycle to cycle as long as their buckets stay the same."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import groupby
from typing import Any

from monitorkit.contracts import Bucket, merge_all

Merge = Callable[[Any, Any], Any]


class Merges:
    """What was merged of one track's buckets, by the buckets.

    Most of a window is old and does not change from one cycle to the next: only the shortest
    buckets are new. So those of one length are merged by themselves, and the results kept, for the
    next cycle and for the other monitors that share the track.
    """

    def __init__(self) -> None:
        self._kept: dict[tuple[int, ...], tuple[Sequence[Any], Any]] = {}
        self._used: set[tuple[int, ...]] = set()

    def merged(self, buckets: Sequence[Bucket[Any]], merge: Merge) -> Any | None:
        """The summary of all of them, None of none."""
        groups = groupby(buckets, key=lambda bucket: bucket.length)
        parts = [self._merged([b.summary for b in group], merge) for _, group in groups]
        return self._merged(parts, merge) if parts else None

    def tidy(self) -> None:
        """Forget what was not asked for since the last time."""
        self._kept = {key: self._kept[key] for key in self._used}
        self._used = set()

    def _merged(self, summaries: Sequence[Any], merge: Merge) -> Any:
        # Their ids stay theirs, for the summaries are kept beside what was made of them.
        key = tuple(map(id, summaries))
        if key not in self._kept:
            self._kept[key] = summaries, merge_all(merge, summaries)
        self._used.add(key)
        return self._kept[key][1]
