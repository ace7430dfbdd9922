"""A replay's cycles: as they were recorded, and by the clock where they were not."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import numpy as np
from history import History, start
from hypothesis import given
from hypothesis import strategies as st
from monitoring_place import Place

from monitorkit.contracts import Chunk
from monitorkit.monitoring.arrivals import find_arrivals
from monitorkit.monitoring.instants import Plan, Span, plan
from monitorkit.prediction_log import Block

Make = Callable[..., Place]

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
SETTINGS = {"lookback": "1h", "interval": "5m", "min_rows": 1}
MINUTES = timedelta(minutes=5)


def planned(history: History, since: float | None = None, until: float | None = None) -> Plan:
    present = datetime.now(UTC)
    first = None if since is None else history.at(since)
    last = present if until is None else history.at(until)
    here = history.here
    return plan(here.config, here.results, Span(first, last, present), timedelta(hours=1))


def minutes(history: History, todo: Plan) -> list[float]:
    found = [(instant.now - history.begin) / timedelta(minutes=1) for instant in todo]
    assert len(found) == len(todo)
    return found


def test_recorded_cycles_keep_their_moments(place: Make) -> None:
    history = History(place(monitoring=SETTINGS), start())
    for at in (7.1, 12.2, 17.0, 22.5):
        history.rows(3, until=at - 0.1)
        history.cycle(at)
    assert minutes(history, planned(history)) == [7.1, 12.2, 17.0, 22.5]
    assert minutes(history, planned(history, since=12.2, until=17)) == [12.2, 17.0]


def test_one_that_came_late_is_not_made_up_for_but_a_missing_one_is(place: Make) -> None:
    history = History(place(monitoring=SETTINGS), start())
    for at in (6, 13, 18, 29):
        history.rows(3, until=at - 0.1)
        history.cycle(at)
    # At 25 there was none; 20 is too near to 18.
    assert minutes(history, planned(history)) == [6, 13, 18, 25, 29]


def test_after_the_last_row_nobody_watched(place: Make) -> None:
    history = History(place(monitoring=SETTINGS), start())
    history.rows(3, until=4)
    history.cycle(5)
    history.rows(3, until=14)
    assert minutes(history, planned(history)) == [5, 10, 15]


def test_where_the_look_back_is_empty_there_is_nothing_to_judge(place: Make) -> None:
    history = History(place(monitoring=SETTINGS), start())
    history.rows(3, until=4)
    history.rows(3, until=184)
    assert minutes(history, planned(history)) == [*range(5, 66, 5), 185]


def test_the_beginning_does_not_move_the_others(place: Make) -> None:
    history = History(place(monitoring=SETTINGS), start())
    history.rows(3, until=4)
    history.rows(3, until=34)
    assert minutes(history, planned(history, since=11, until=31)) == [15, 20, 25, 30]


def test_a_cursor_by_the_clock_holds_no_row_that_is_later(place: Make) -> None:
    history = History(place(monitoring=SETTINGS), start())
    path = history.here.config.storage.predictions / "predictions.csv"
    sizes = []
    for step in range(4):
        history.rows(2, until=5 * step + 5, seconds=1)  # the last one just in time
        sizes.append(path.stat().st_size)
    instants = list(planned(history))
    assert [list(instant.cursor.values()) for instant in instants] == [[size] for size in sizes]


def test_each_writer_is_read_up_to_the_moment(place: Make) -> None:
    history = History(place(monitoring=SETTINGS), start())
    folder = history.here.config.storage.predictions
    for name in ("predictions-a.csv", "predictions-b.csv"):
        for step in range(3):
            history.rows(2, until=5 * step + 4)
        (folder / "predictions.csv").rename(folder / name)
    sizes = {len(set(instant.cursor.values())) for instant in planned(history)}
    counts = [len(instant.cursor) for instant in planned(history)]
    assert (counts, sizes) == ([2, 2, 2], {1})
    beside = history.replay()
    assert [compared.replayed.rows for compared, _ in beside] == [4, 8, 12]


TIMES = st.lists(st.integers(0, 3000), min_size=1, max_size=30)


@given(segments=st.lists(TIMES, min_size=1, max_size=3), cuts=st.lists(st.integers(1, 29)))
def test_what_is_there_is_a_beginning_of_each_segment_that_holds_nothing_later(
    segments: list[list[int]], cuts: list[int]
) -> None:
    instants = range(1, 12)
    arrivals = find_arrivals(blocks(segments, cuts), instants, MINUTES, EPOCH + timedelta(days=9))
    for number in instants:
        limit = number * 300
        for segment, times in enumerate(segments):
            ends = [end for n, name, end in arrivals.steps if name == str(segment) and n <= number]
            there = max(ends, default=0) // 10
            assert all(time <= limit for time in times[:there])
            assert there == len(times) or times[there] > limit
    assert arrivals.last == max(1, -(-max(max(times) for times in segments) // 300))


def blocks(segments: list[list[int]], cuts: list[int]) -> Iterator[Block]:
    """Segments whose rows take ten bytes each, read in pieces."""
    for segment, times in enumerate(segments):
        edges = sorted({0, len(times), *(cut for cut in cuts if cut < len(times))})
        for first, last in pairwise(edges):
            part = np.array(times[first:last], dtype="datetime64[s]").astype("datetime64[us]")
            rows = len(part)
            chunk = Chunk(np.full(rows, "x"), part, (), np.empty((rows, 0)), np.zeros(rows))
            ends = np.arange(first + 1, last + 1) * 10
            yield Block("1", chunk, {}, str(segment), ends)


def test_rows_that_are_held_back_are_counted() -> None:
    times = [0, 10, 2000, 20, 1900, 1000]
    arrivals = find_arrivals(blocks([times], []), range(1, 20), MINUTES, EPOCH + MINUTES * 20)
    assert arrivals.late == 2  # by 20 and 1000; 1900 is of the same interval
    ahead = find_arrivals(
        blocks([times], []), range(1, 20), MINUTES, EPOCH + timedelta(seconds=1999)
    )
    assert [(number, end) for number, _, end in ahead.steps] == [(1, 40), (7, 60)]
