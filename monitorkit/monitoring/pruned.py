"""Which windows of the past lack rows, because segments of the log were moved away or deleted."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Collection, Mapping
from datetime import datetime, timedelta

from monitorkit.monitoring.instants import Instant, cursor_of
from monitorkit.results import Results, time_of


class Pruned:
    """Knows by the cursors of the record which segments there were.

    Args:
        here: the identities of the segments that there are.
        results: the record.
        horizon: the longest look-back.
    """

    def __init__(self, here: Collection[str], results: Results, horizon: timedelta) -> None:
        self._here = here
        self._results = results
        self._run_ids = results.run_ids()
        self._horizon = horizon
        self._read: tuple[str | None, Mapping[str, int]] = (None, {})

    def segments(self, instant: Instant) -> int:
        """How many segments are gone that may hold rows of an instant's window.

        What was read before the window began, and did not grow since, holds none.
        """
        cursor = instant.recorded_cursor
        gone = [segment for segment in cursor if segment not in self._here]
        if not gone:
            return 0
        before = self._cursor_at(instant.now - self._horizon)
        return sum(cursor[segment] > before.get(segment, 0) for segment in gone)

    def _cursor_at(self, time: datetime) -> Mapping[str, int]:
        """The cursor of the last record before a time; empty when there is none."""
        place = bisect_right(self._run_ids, time, key=time_of)
        run_id = self._run_ids[place - 1] if place else None
        if run_id != self._read[0]:
            self._read = (run_id, cursor_of(self._results, run_id))
        return self._read[1]
