"""Older buckets are longer, and which ones there are depends on the moment alone."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from timeline_rows import DAY, MINUTE, START, ladder, rows

from monitorkit.monitoring.ladder import Ladder
from monitorkit.monitoring.steps import first_step, start_of

moments = st.integers(min_value=1_500_000_000, max_value=1_900_000_000).map(
    lambda seconds: datetime.fromtimestamp(seconds, UTC)
)
resolutions = st.integers(min_value=2, max_value=64)


def slowly(step: int, now_step: int, resolution: int, levels: int) -> tuple[int, int]:
    """The definition, one level after the other."""
    found = (step, 0)
    for level in range(1, levels):
        length = 2**level
        start = step - step % length
        if start + length <= now_step - resolution * length:
            found = (start, level)
    return found


@given(now=moments, resolution=resolutions, ages=st.lists(st.integers(-100, 1440), max_size=50))
def test_a_bucket_is_the_longest_that_is_old_enough(
    now: datetime, resolution: int, ages: list[int]
) -> None:
    made = Ladder(MINUTE, resolution, now, DAY)
    steps = np.array([made.step - age for age in ages], np.int64)
    starts, levels = made.place(steps)
    top = 1
    while resolution * 2**top <= 1440:
        top += 1
    expected = [slowly(int(step), made.step, resolution, top) for step in steps]
    assert list(zip(starts.tolist(), levels.tolist(), strict=True)) == expected
    assert [made.place_of(int(step)) for step in steps] == expected


@given(now=moments, later=st.integers(0, 3000), resolution=resolutions)
def test_later_buckets_are_unions_of_earlier_ones(
    now: datetime, later: int, resolution: int
) -> None:
    before = Ladder(MINUTE, resolution, now, DAY)
    after = Ladder(MINUTE, resolution, now + later * MINUTE, DAY)
    steps = np.arange(before.step - 1500, before.step + 1)
    starts, levels = before.place(steps)
    # The later bucket of a step is that of the whole earlier bucket.
    assert np.array_equal(after.place(steps)[0], after.place(starts)[0])
    assert np.all(after.place(steps)[1] >= levels)


@given(now=moments, resolution=resolutions)
def test_their_number_grows_with_the_logarithm_of_the_time(now: datetime, resolution: int) -> None:
    year = timedelta(days=365)
    made = Ladder(MINUTE, resolution, now, year)
    starts, levels = made.place(np.arange(made.first, made.step + 1))
    assert len(np.unique(starts)) <= (resolution + 2) * (levels.max() + 2)


def test_no_bucket_is_longer_than_its_share_of_its_age() -> None:
    made = ladder()
    steps = np.arange(made.first, made.step + 1)
    starts, levels = made.place(steps)
    age = made.step - (starts + 2**levels)
    assert np.all((levels == 0) | (age >= 32 * 2**levels))
    assert len(np.unique(starts)) == 208  # of 1,440 minutes


def test_rows_fall_into_the_bucket_of_their_own_time() -> None:
    made = ladder(300)
    parts = {start: len(part) for start, _, part in made.split(rows(0, 59.999999, 60, 119, 200))}
    first = first_step(START, MINUTE)
    assert {start - first: count for start, count in parts.items()} == {0: 2, 1: 2, 3: 1}


def test_late_rows_find_their_bucket_and_keep_their_order() -> None:
    parts = {start: part.scores.tolist() for start, _, part in ladder().split(rows(70, 10, 80, 20))}
    assert [scores for _, scores in sorted(parts.items())] == [[10, 20], [70, 80]]


def test_rows_before_the_horizon_are_left_out() -> None:
    made = ladder(3600, horizon=timedelta(minutes=10))
    kept = [part.scores.tolist() for _, _, part in made.split(rows(0, 2999, 3000, 3599))]
    assert kept == [[3000.0], [3599.0]]
    assert start_of(made.first, MINUTE) == START + timedelta(minutes=50)
