"""monitorkit/sequential/starts.py: a grid of starts that spends the false alarms once."""

from __future__ import annotations

from collections import defaultdict
from datetime import UTC, datetime, timedelta

import pytest

from monitorkit.contracts import Bucket
from monitorkit.monitoring.ladder import Ladder
from monitorkit.monitoring.steps import start_of
from monitorkit.sequential.starts import grid_step, starts_at

MINUTE = timedelta(minutes=1)
NOW = datetime(2026, 3, 1, 12, 34, tzinfo=UTC)


def minutes(count: int, now: datetime = NOW) -> list[Bucket[None]]:
    return [Bucket(now - (count - i) * MINUTE, 1, None, MINUTE) for i in range(count)]


@pytest.mark.parametrize(("bucket", "step"), [(1, 4), (3, 6), (4, 4), (5, 5), (60, 60)])
def test_the_grids_step_is_a_multiple_of_the_shortest_bucket(bucket: int, step: int) -> None:
    assert grid_step(bucket * MINUTE) == step * MINUTE


def test_there_are_starts_of_all_ages_some_four_for_each_doubling() -> None:
    buckets = minutes(1440)
    starts = starts_at(buckets, buckets[0].start, NOW, 4 * MINUTE)
    ages = [(NOW - buckets[at].start) / MINUTE for at in starts.buckets.tolist()]

    for age in (32, 64, 128, 256, 512, 720):
        assert 3 <= sum(age <= each < 2 * age for each in ages) <= 8
    assert max(ages) > 1100


def test_all_starts_of_a_year_spend_what_one_rate_allows() -> None:
    """Whenever one looks, a start has one and the same allowance; all together are the rate."""
    step, days = 4 * MINUTE, 12
    allowances: dict[datetime, set[float]] = defaultdict(set)
    begin = datetime(2026, 3, 1, tzinfo=UTC)
    buckets = [Bucket(begin + i * step, 1, None, step) for i in range(days * 360)]
    for looked in range(0, len(buckets), 7):
        starts = starts_at(buckets[: looked + 1], begin, buckets[looked].start + step, step)
        for at, allowance in zip(starts.buckets.tolist(), starts.allowances.tolist(), strict=True):
            allowances[buckets[at].start].add(allowance)
    assert all(len(found) == 1 for found in allowances.values())

    spent = sum(max(found) for found in allowances.values())
    assert spent <= days * 86400 * 1.05  # the rarest starts come every 17 hours
    assert spent > days * 86400 * 0.8


def test_the_ladders_buckets_leave_every_start_that_is_followed() -> None:
    ladder = Ladder(MINUTE, 32, NOW, timedelta(days=1))
    places = {ladder.place_of(step) for step in range(ladder.first + 64, ladder.step)}
    merged = [
        Bucket(start_of(step, MINUTE), 1, None, MINUTE * 2**level) for step, level in sorted(places)
    ]
    single = [bucket for bucket in minutes(1440) if bucket.start >= merged[0].start]

    def times(buckets: list[Bucket[None]]) -> list[datetime]:
        return [
            buckets[at].start
            for at in starts_at(buckets, buckets[0].start, NOW, 4 * MINUTE).buckets.tolist()
        ]

    assert times(merged) == times(single)


def test_a_bucket_across_a_start_is_not_looked_from() -> None:
    hour = [Bucket(NOW.replace(minute=0), 1, None, timedelta(hours=1))]

    assert starts_at(hour, hour[0].start, NOW, 4 * MINUTE).buckets.tolist() == [0]
    odd = [Bucket(NOW.replace(minute=1), 1, None, timedelta(hours=1))]
    assert starts_at(odd, odd[0].start, NOW.replace(minute=33), 4 * MINUTE).buckets.tolist() == []


def test_the_first_rows_are_looked_at_from_before_they_came() -> None:
    first = [Bucket(NOW - MINUTE, 1, None, MINUTE)]
    before = NOW - timedelta(hours=3)
    starts = starts_at(first, before, NOW, 4 * MINUTE)

    assert starts.buckets.tolist() == [0]
    later = starts_at(first, NOW - MINUTE, NOW, 4 * MINUTE)
    assert later.buckets.size == 0 or starts.allowances[0] >= later.allowances[0]


def test_without_rows_there_is_no_start() -> None:
    assert starts_at([], NOW - MINUTE, NOW, 4 * MINUTE).buckets.size == 0
