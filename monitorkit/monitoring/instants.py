"""When a replay's cycles take place: as they are recorded, and where they are not, by the clock."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise

from monitorkit.config import Config
from monitorkit.contracts import RunResult
from monitorkit.monitoring.arrivals import Arrivals, find_arrivals
from monitorkit.monitoring.steps import first_step, start_of, step_of
from monitorkit.prediction_log import Cursor, Reader
from monitorkit.results import Results, time_of
from monitorkit.units import timestamp

MISSED = 1.5
"""So many intervals without a record, and at least one cycle did not take place."""

_TO_ITS_END = 2**62  # an offset that no segment has


@dataclass(frozen=True, slots=True)
class Span:
    """What is replayed.

    Attributes:
        since: the first possible instant; None: from the first row or result on.
        until: the last possible one.
        present: when the replay began; nothing is later.
    """

    since: datetime | None
    until: datetime
    present: datetime


@dataclass(frozen=True, slots=True)
class Instant:
    """One moment of the past, and what the log held then.

    Attributes:
        now: when the cycle took place, or would have.
        cursor: up to where the log was written.
        record: the result of the cycle that took place; None: there was none.
        recorded_cursor: of the record, or else of the next one, or the last: it knows of segments
            that are gone.
    """

    now: datetime
    cursor: Cursor
    record: RunResult | None
    recorded_cursor: Cursor


@dataclass(frozen=True, slots=True)
class Gap:
    """A stretch of time without recorded cycles.

    Attributes:
        after: the run_id of the record before it; None: there is none.
        before: that of the record after it.
        numbers: the instants in it, in intervals since 1970.
        arrivals: what came when.
    """

    after: str | None
    before: str | None
    numbers: Sequence[int]
    arrivals: Arrivals


@dataclass(frozen=True, slots=True)
class Plan:
    """The instants of a replay, oldest first.

    Attributes:
        parts: run_ids of records, and the gaps between them.
        interval: between the instants in a gap.
        results: where the records are.
    """

    parts: Sequence[str | Gap]
    interval: timedelta
    results: Results

    def __len__(self) -> int:
        return sum(1 if isinstance(part, str) else len(part.numbers) for part in self.parts)

    def __iter__(self) -> Iterator[Instant]:
        """Yield them; a record that is damaged is left out, with an event."""
        for part in self.parts:
            if isinstance(part, Gap):
                yield from self._in_gap(part)
            elif (record := self.results.result(part)) is not None:
                yield Instant(record.started_at, record.cursor, record, record.cursor)

    @property
    def late(self) -> int:
        """Rows that the gaps have later than their time stamps say."""
        return sum(part.arrivals.late for part in self.parts if isinstance(part, Gap))

    def _in_gap(self, gap: Gap) -> Iterator[Instant]:
        cursor = dict(cursor_of(self.results, gap.after))
        recorded = cursor_of(self.results, gap.before or gap.after)
        arrivals = iter(gap.arrivals.steps)
        coming = next(arrivals, None)
        for number in gap.numbers:
            while coming is not None and coming[0] <= number:
                cursor[coming[1]] = coming[2]
                coming = next(arrivals, None)
            yield Instant(start_of(number, self.interval), dict(cursor), None, recorded)


def plan(config: Config, results: Results, span: Span, horizon: timedelta) -> Plan:
    """Find the instants; reads the parts of the log of which no cycle was recorded.

    A cycle is missing where records are further apart than `MISSED` intervals; the instants there
    are whole intervals since 1970, so that another beginning does not move them.

    Args:
        config: says where the log is, and how long an interval is.
        results: the record.
        span: what is replayed.
        horizon: the longest look-back. Where nothing came for so long, there is nothing to judge.
    """
    interval = config.monitoring.interval
    reader = Reader(config.storage.predictions, config.log.archives)
    run_ids = results.run_ids()
    begun = reader.begun()
    parts: list[str | Gap] = []
    for after, before in pairwise([None, *run_ids, None]):
        numbers = _missing(after, before, span, interval)
        if numbers:
            to = None if before is None else _there_by(before, results, begun)
            oldest = start_of(numbers.start, interval) - horizon
            blocks = reader.read(cursor_of(results, after), since=oldest, until=to)
            arrivals = find_arrivals(blocks, numbers, interval, span.present)
            silence = horizon // interval
            numbers_ = list(_not_silent(numbers, arrivals, silence, seen=after is not None))
            if before is None:  # nothing says that anybody watched after the last row
                numbers_ = [number for number in numbers_ if number <= arrivals.last]
            if numbers_:
                parts.append(Gap(after, before, numbers_, arrivals))
        if before is not None and _inside(time_of(before), span):
            parts.append(before)
    return Plan(parts, interval, results)


def _there_by(before: str, results: Results, begun: Mapping[str, str]) -> Mapping[str, int]:
    """Up to where segments hold what came before a record.

    One that begins earlier and that it does not know was put there later: an import, for example.
    """
    known, time = cursor_of(results, before), timestamp(time_of(before))
    later = (segment for segment, first in begun.items() if segment not in known and first < time)
    return {**known, **dict.fromkeys(later, _TO_ITS_END)}


def _inside(time: datetime, span: Span) -> bool:
    return (span.since is None or span.since <= time) and time <= span.until


def _missing(after: str | None, before: str | None, span: Span, interval: timedelta) -> range:
    """The instants between two records, half an interval from both; none when none is missing."""
    low = time_of(after) if after is not None else None
    high = time_of(before) if before is not None else None
    if low is not None and high is not None and high - low <= MISSED * interval:
        return range(0)
    first = start_of(0, interval) if low is None else low + interval / 2
    last = span.until if high is None else min(high - interval / 2, span.until)
    if span.since is not None:
        first = max(first, span.since)
    return range(first_step(first, interval), step_of(last, interval) + 1)


def _not_silent(numbers: range, arrivals: Arrivals, silence: int, *, seen: bool) -> Iterator[int]:
    """Those of the instants that are not after a silence of so many intervals.

    Args:
        numbers: the instants.
        arrivals: what came when.
        silence: in intervals.
        seen: something may have come before.
    """
    at = numbers.start
    for came in [*([at] if seen else []), *(number for number, _, _ in arrivals.steps)]:
        at = max(at, came)
        end = min(came + silence + 1, numbers.stop)
        yield from range(at, end)
        at = max(at, end)


def cursor_of(results: Results, run_id: str | None) -> Mapping[str, int]:
    """The cursor of a record; empty when there is none, or only a damaged one."""
    found = results.result(run_id) if run_id is not None else None
    return found.cursor if found is not None else {}
